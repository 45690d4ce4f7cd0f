"""The one list of what is observed: a library, the file here that knows it, and the modules that file waits for.

A file is imported when one of its library's modules is, never before: an application pays for what it uses. Each has
``HOOKS``, and ``TESTED``, which names the distributions and the versions that its tests run with.
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
    """The library's modules that have functions to be hooked."""


INTEGRATIONS: Final = (
    Integration("Starlette", Role.SERVER, "starlette", "starlette", ("starlette.applications", "starlette.routing")),
    Integration("FastAPI", Role.SERVER, "fastapi", "starlette", ("fastapi.applications", "fastapi.routing")),
    Integration("Flask", Role.SERVER, "flask", "flask", ("flask.app",)),
    Integration(
        "Litestar", Role.SERVER, "litestar", "litestar",
        ("litestar.app", "litestar._asgi.asgi_router", "litestar.middleware._internal.exceptions.middleware"),
    ),
    Integration("Quart", Role.SERVER, "quart", "quart", ("quart.app",)),
    Integration(
        "BlackSheep", Role.SERVER, "blacksheep", "blacksheep",
        ("blacksheep.server.application", "blacksheep.server.routing", "blacksheep.server.websocket"),
    ),
    Integration(
        "Strawberry GraphQL", Role.SERVER, "strawberry-graphql", "strawberry",
        (
            "strawberry.asgi", "strawberry.http.async_base_view", "strawberry.http.sync_base_view",
            "strawberry.schema.schema",
        ),
    ),
    Integration("httpx", Role.CLIENT, "httpx", "httpx", ("httpx",)),
    Integration("httpx2", Role.CLIENT, "httpx2", "httpx", ("httpx2",)),
    Integration(
        "Celery", Role.QUEUE, "celery", "celery",
        ("celery.app.base", "celery.app.trace", "celery.concurrency.prefork", "celery.worker.consumer.consumer"),
    ),
    Integration("RQ", Role.QUEUE, "rq", "rq", ("rq.job", "rq.queue", "rq.worker.base")),
    Integration("arq", Role.QUEUE, "arq", "arq", ("arq.connections", "arq.worker")),
    Integration(
        "Dramatiq", Role.QUEUE, "dramatiq", "dramatiq",
        (
            "dramatiq.broker", "dramatiq.brokers.rabbitmq", "dramatiq.brokers.redis", "dramatiq.brokers.stub",
            "dramatiq.worker",
        ),
    ),
    Integration("threads", Role.GROUND, "", "threads", ("threading", "concurrent.futures.thread")),
    Integration("a2wsgi", Role.GROUND, "a2wsgi", "bridges", ("a2wsgi.wsgi",)),
    Integration("asgiref", Role.GROUND, "asgiref", "bridges", ("asgiref.wsgi",)),
    Integration("Starlette's bridge to WSGI", Role.GROUND, "starlette", "bridges", ("starlette.middleware.wsgi",)),
    Integration("uvicorn's bridge to WSGI", Role.GROUND, "uvicorn", "bridges", ("uvicorn.middleware.wsgi",)),
    Integration("uvicorn", Role.GROUND, "uvicorn", "peers", ("uvicorn.middleware.proxy_headers",)),
    Integration("waitress", Role.GROUND, "waitress", "peers", ("waitress.proxy_headers",)),
    Integration("werkzeug", Role.GROUND, "werkzeug", "peers", ("werkzeug.middleware.proxy_fix",)),
)  # fmt: skip


def waiting(integrations: Iterable[Integration] = INTEGRATIONS) -> Mapping[str, HooksOf]:
    """Every module that is waited for, with what makes its hooks."""
    return {module: partial(hooks_in, each.home, module) for each in integrations for module in each.modules}


def hooks_in(home: str, module: str) -> tuple[Hook, ...]:
    """The hooks of the file ``home`` that belong into ``module``."""
    return tuple(hook for hook in import_module(f"{__package__}.{home}").HOOKS if hook.module == module)
