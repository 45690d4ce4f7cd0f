"""The one list of what is observed: a library, the file here that knows it, and the modules that file waits for.

A file is imported when one of its library's modules is, never before: an application pays for what it uses. Each has
``HOOKS``, and ``TESTED``, which names the distributions and the versions that its tests run with. ``NEEDS`` names those
that are observed from a version on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from importlib import import_module
from typing import Final

from .hooks import Hook, HooksOf


class Role(StrEnum):
    """What a library is to its application."""

    SERVER = "server"
    CLIENT = "client"
    QUEUE = "queue"
    CACHE = "cache"
    """It stands in front of a client's calls, and answers in their place."""
    GROUND = "ground"
    """What requests and their facts are carried by, whatever the framework."""


@dataclass(frozen=True, slots=True)
class Integration:
    """One library."""

    library: str
    """As its users write it."""
    role: Role
    distribution: str
    """Its name on the package index. Empty: it comes with Python."""
    home: str
    """The file beside this one that knows it."""
    modules: tuple[str, ...]
    """The library's modules that have functions to be hooked. Empty: none need be."""
    optional: tuple[str, ...] = ()
    """Those of ``modules`` that need another library, which many of its users do without."""
    by_way_of: tuple[str, ...] = ()
    """The libraries that it is built on, which is where its calls are seen: those that are installed."""


INTEGRATIONS: Final = (
    Integration("Starlette", Role.SERVER, "starlette", "starlette", ("starlette.applications", "starlette.routing")),
    Integration("FastAPI", Role.SERVER, "fastapi", "starlette", ("fastapi.routing",)),
    Integration("Flask", Role.SERVER, "flask", "flask", ("flask.app",)),
    Integration("gRPC's servers", Role.SERVER, "grpcio", "grpc_servers", ("grpc._server",)),
    Integration("gRPC's async servers", Role.SERVER, "grpcio", "grpc_aio_servers", ("grpc.aio._server",)),
    Integration("Litestar", Role.SERVER, "litestar", "litestar",
        ("litestar.app", "litestar._asgi.asgi_router", "litestar.middleware._internal.exceptions.middleware"),
    ),
    Integration("Quart", Role.SERVER, "quart", "quart", ("quart.app",)),
    Integration("BlackSheep", Role.SERVER, "blacksheep", "blacksheep",
        ("blacksheep.server.application", "blacksheep.server.routing", "blacksheep.server.websocket"),
    ),
    Integration("Strawberry GraphQL", Role.SERVER, "strawberry-graphql", "strawberry",
        (
            "strawberry.asgi", "strawberry.http.async_base_view", "strawberry.http.sync_base_view",
            "strawberry.schema.schema",
        ),
        optional=("strawberry.asgi",),
    ),
    Integration("aiohttp.web", Role.SERVER, "aiohttp", "aiohttp_web",
        (
            "aiohttp.web_protocol", "aiohttp.web_urldispatcher", "aiohttp.http_writer", "aiohttp.web_fileresponse",
            "aiohttp.web_ws", "aiohttp.web_app",
        ),
    ),
    Integration("Sanic", Role.SERVER, "sanic", "sanic",
        (
            "sanic.app", "sanic.router", "sanic.handlers.error", "sanic.http.http1", "sanic.response.types",
            "sanic.server.protocols.http_protocol", "sanic.server.protocols.websocket_protocol",
            "sanic.server.websockets.impl",
        ),
    ),
    Integration("Django", Role.SERVER, "django", "django",
        (
            "django.core.handlers.asgi", "django.core.handlers.base", "django.core.handlers.exception",
            "django.core.handlers.wsgi",
        ),
    ),
    Integration("Django REST framework", Role.SERVER, "djangorestframework", "django", ()),
    Integration("Django Ninja", Role.SERVER, "django-ninja", "django", ()),
    Integration("Falcon", Role.SERVER, "falcon", "falcon", ("falcon.app", "falcon.asgi.app")),
    Integration("httpx", Role.CLIENT, "httpx", "httpx", ("httpx",)),
    Integration("httpx2", Role.CLIENT, "httpx2", "httpx", ("httpx2",)),
    Integration("urllib3", Role.CLIENT, "urllib3", "urllib3", ("urllib3.connectionpool", "urllib3.response")),
    Integration("requests", Role.CLIENT, "requests", "requests", ("requests.sessions",), by_way_of=("urllib3",)),
    Integration("niquests", Role.CLIENT, "niquests", "requests",
        ("niquests.sessions", "niquests.async_session"),
        by_way_of=("urllib3-future",),
    ),
    Integration("urllib3-future", Role.CLIENT, "urllib3-future", "urllib3_future",
        (
            "urllib3_future.connectionpool", "urllib3_future._async.connectionpool", "urllib3_future.backend.hface",
            "urllib3_future.backend._async.hface", "urllib3._async.connectionpool", "urllib3.backend.hface",
            "urllib3.backend._async.hface",
        ),
    ),
    Integration("urllib.request", Role.CLIENT, "", "urllib", ("urllib.request",)),
    Integration("botocore", Role.CLIENT, "botocore", "botocore", ("botocore.endpoint",), by_way_of=("urllib3",)),
    Integration("boto3", Role.CLIENT, "boto3", "botocore", (), by_way_of=("botocore",)),
    Integration("aiobotocore", Role.CLIENT, "aiobotocore", "botocore",
        ("aiobotocore.endpoint",),
        by_way_of=("aiohttp", "httpx"),
    ),
    Integration("gRPC's clients", Role.CLIENT, "grpcio", "grpc_clients", ("grpc._channel", "grpc.aio._call")),
    Integration("aiohttp's client", Role.CLIENT, "aiohttp", "aiohttp_client",
        ("aiohttp.client", "aiohttp.client_reqrep"),
    ),
    Integration("hishel", Role.CACHE, "hishel", "hishel",
        ("hishel.httpx", "hishel.httpx2", "hishel.requests"),
        optional=("hishel.httpx", "hishel.httpx2", "hishel.requests"),
        by_way_of=("httpx", "httpx2", "requests"),
    ),
    Integration("requests-cache", Role.CACHE, "requests-cache", "requests_cache",
        ("requests_cache.session",),
        by_way_of=("requests",),
    ),
    Integration("aiohttp-client-cache", Role.CACHE, "aiohttp-client-cache", "aiohttp_client_cache",
        ("aiohttp_client_cache.session", "aiohttp_client_cache.backends.base"),
        by_way_of=("aiohttp",),
    ),
    Integration("Celery", Role.QUEUE, "celery", "celery",
        ("celery.app.base", "celery.app.trace", "celery.concurrency.prefork", "celery.worker.consumer.consumer"),
    ),
    Integration("RQ", Role.QUEUE, "rq", "rq", ("rq.job", "rq.queue", "rq.worker.base")),
    Integration("arq", Role.QUEUE, "arq", "arq", ("arq.connections", "arq.worker")),
    Integration("Dramatiq", Role.QUEUE, "dramatiq", "dramatiq",
        (
            "dramatiq.broker", "dramatiq.brokers.rabbitmq", "dramatiq.brokers.redis", "dramatiq.brokers.stub",
            "dramatiq.worker",
        ),
        optional=("dramatiq.brokers.rabbitmq", "dramatiq.brokers.redis"),
    ),
    Integration("http.client", Role.GROUND, "", "http_client", ("http.client",)),
    Integration("OpenTelemetry", Role.GROUND, "opentelemetry-api", "tracing", ("opentelemetry.trace",)),
    Integration("threads", Role.GROUND, "", "threads", ("threading", "concurrent.futures.thread")),
    Integration("a2wsgi", Role.GROUND, "a2wsgi", "bridges", ("a2wsgi.wsgi",)),
    Integration("asgiref", Role.GROUND, "asgiref", "bridges", ("asgiref.wsgi",)),
    Integration("Starlette's bridge to WSGI", Role.GROUND, "starlette", "bridges", ("starlette.middleware.wsgi",)),
    Integration("uvicorn's bridge to WSGI", Role.GROUND, "uvicorn", "bridges", ("uvicorn.middleware.wsgi",)),
    Integration("uvicorn", Role.GROUND, "uvicorn", "peers", ("uvicorn.middleware.proxy_headers",)),
    Integration("waitress", Role.GROUND, "waitress", "peers", ("waitress.proxy_headers",)),
    Integration("werkzeug", Role.GROUND, "werkzeug", "peers", ("werkzeug.middleware.proxy_fix",)),
    Integration("uvicorn's applications", Role.GROUND, "uvicorn", "entries", ("uvicorn.config", "uvicorn.server")),
    Integration("Hypercorn's applications", Role.GROUND, "hypercorn", "entries", ("hypercorn.app_wrappers",)),
    Integration("Granian's applications", Role.GROUND, "granian", "entries",
        ("granian.asgi", "granian.server.embed", "granian.server.mp", "granian.server.mt"),
    ),
    Integration("Gunicorn's applications", Role.GROUND, "gunicorn", "entries",
        ("gunicorn.workers.gasgi", "gunicorn.workers.ggevent", "gunicorn.workers.gthread", "gunicorn.workers.sync"),
        optional=("gunicorn.workers.ggevent",),
    ),
    Integration("waitress's applications", Role.GROUND, "waitress", "entries", ("waitress.server",)),
    Integration("werkzeug's applications", Role.GROUND, "werkzeug", "entries", ("werkzeug.serving",)),
    Integration("werkzeug's mounts", Role.GROUND, "werkzeug", "werkzeug", ("werkzeug.middleware.dispatcher",)),
    Integration("wsgiref's applications", Role.GROUND, "", "entries", ("wsgiref.simple_server",)),
)  # fmt: skip


def waiting(integrations: Iterable[Integration] = INTEGRATIONS) -> Mapping[str, HooksOf]:
    """Every module that is waited for, with what makes its hooks."""
    return {module: partial(hooks_in, each.home, module) for each in integrations for module in each.modules}


def hooks_in(home: str, module: str) -> tuple[Hook, ...]:
    """The hooks of the file ``home`` that belong into ``module``."""
    return tuple(hook for hook in import_module(f"{__package__}.{home}").HOOKS if hook.module == module)
