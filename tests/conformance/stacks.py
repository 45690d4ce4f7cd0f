"""The stacks that the cases of ``test_servers.py`` run with. A new one is a small app in ``apps/``, and a place here.

An app is a module that imports ``setting`` and serves what follows, in its framework's own way.

====================== ============================================================================================
``GET /``              answers ``hello``
``GET /items/{n}``     answers JSON
``POST /echo``         answers the body that it was sent
``GET /empty``         204
``GET /moved``         302
``GET /status/{code}`` that status, by a plain response
``GET /refused``       403, by the framework's own exception or ``abort``
``GET /broken``        raises ``RuntimeError(SECRET)``, which nobody handles
``GET /stream``        five chunks of 1,000 bytes, with pauses
``GET /stream-broken`` one such chunk, then raises ``RuntimeError(SECRET)``
``GET /forever``       such chunks until the client has left, or for three seconds at least
``GET /slow``          answers after half a second
``GET /as/{customer}`` ``identify(customer_id=…)`` in the handler, on both sides of a pause, then answers the customer
``GET /deep/{customer}`` the same from where the framework lets applications authenticate: a middleware or dependency
``GET /thread/{customer}`` the same from a thread that the handler waits for
``GET /upstream``      calls ``UPSTREAM`` with httpx, and answers how much that sent
``GET /background/{customer}`` identifies, answers, and then does ``usage_span("afterwards")`` and calls ``UPSTREAM``
``GET /inner/{m}/items/{n}`` a mounted application, blueprint or router
``WS /ws``             sends back each text, until it is ``bye``: then it closes
``GET /events``        three server-sent events
====================== ============================================================================================
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from otel_usage.instrumentation.integrations import INTEGRATIONS

UVICORN: Final = ("uvicorn", "{app}:app", "--port", "{port}", "--log-level", "warning")
HYPERCORN: Final = ("hypercorn", "{app}:app", "--bind", "127.0.0.1:{port}")
GUNICORN: Final = (
    "gunicorn", "{app}:app", "--bind", "127.0.0.1:{port}", "--worker-class", "gthread", "--threads", "32",
)  # fmt: skip
WAITRESS: Final = ("waitress-serve", "--listen", "127.0.0.1:{port}", "--threads", "32", "{app}:app")
UWSGI: Final = (
    "uwsgi", "--module", "{app}:app", "--http-socket", "127.0.0.1:{port}", "--enable-threads", "--threads", "32",
    "--master", "--lazy-apps", "--py-call-uwsgi-fork-hooks",
    "--hook-master-start", "unix_signal:15 gracefully_kill_them_all",
)  # fmt: skip
_GRANIAN: Final = ("granian", "{app}:app", "--port", "{port}", "--log-level", "warning", "--interface")
GRANIAN: Final = (*_GRANIAN, "asgi")

ASGI_SERVERS: Final = {"uvicorn": UVICORN, "hypercorn": HYPERCORN, "granian": GRANIAN}
WSGI_SERVERS: Final = {"gunicorn": GUNICORN, "waitress": WAITRESS, "uWSGI": UWSGI, "granian": (*_GRANIAN, "wsgi")}

SANIC: Final = ("sanic", "{app}:app", "--host", "127.0.0.1", "--port", "{port}", "--no-motd", "--no-access-logs")
SANIC_TEMPLATES: Final = "/items/<n:int>", "/inner/<m:str>/items/<n:int>"

NO_WEBSOCKETS: Final = {"web socket": "WSGI has no WebSockets"}
UWSGI_CHUNKS: Final = {"chunked request body": "uWSGI has a function of its own to read one by, and no other"}
DJANGO: Final = {"web socket": "Django has no WebSockets"}
DJANGO_WSGI: Final = {**DJANGO, "chunked request body": "under WSGI, Django reads as much as Content-Length says"}
FALCON: Final = {
    "client that leaves while it is answered": "Falcon does not ask whether the client of a stream has left,"
    " and uvicorn says nothing to what sends it more"
}
HYPERCORN_WSGI: Final = {
    **NO_WEBSOCKETS,
    "empty answer": "Hypercorn answers 500 where a WSGI application's answer has no body",
    "client that leaves while it is answered": "Hypercorn does not tell a WSGI application that its client has left",
}


@dataclass(frozen=True, slots=True)
class Stack:
    """A framework, an app that is written with it, and a server that serves it."""

    library: str
    """As in `INTEGRATIONS`."""
    server: str
    app: str
    """The module in ``apps/``."""
    command: tuple[str, ...]
    """Of the server, with places for ``app`` and ``port``."""
    item: str
    """The template of ``/items/{n}``, as the framework writes it."""
    inner: str
    """The full template of ``/inner/{m}/items/{n}``."""
    variant: str = ""
    """What is particular about it. Empty: nothing."""
    environment: Mapping[str, str] = field(default_factory=dict)
    cannot: Mapping[str, str] = field(default_factory=dict)
    """The cases that it has no place for, by their name, and why. They are shown in the table."""

    breaks_off: bool = True
    """Whether a response whose making has failed breaks off. Where not, its client takes it for whole: Sanic ends it as
    if it were, and uWSGI's just end, as those of HTTP/1.0 did."""

    @property
    def subject(self) -> tuple[str, str, str]:
        """As the table has it: its name, the distribution, and what it is tried with."""
        distribution = {each.library: each.distribution for each in INTEGRATIONS}.get(self.library, self.library)
        return self.library, distribution, ", ".join(filter(None, (self.server, self.variant)))

    def __str__(self) -> str:
        return "-".join(filter(None, (self.library, self.variant, self.server)))


STACKS: Final = (
    Stack(
        "aiohttp.web", "its own server", "aiohttp_app", ("python", "{app}.py", "{port}"), "/items/{n}",
        "/inner/{m}/items/{n}",
    ),
    Stack(
        "aiohttp.web", "gunicorn", "aiohttp_app",
        ("gunicorn", "{app}:app", "--bind", "127.0.0.1:{port}", "--worker-class", "aiohttp.GunicornWebWorker"),
        "/items/{n}", "/inner/{m}/items/{n}",
    ),
    Stack("FastAPI", "uvicorn", "fastapi_app", UVICORN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack(
        "FastAPI", "uvicorn", "fastapi_app", UVICORN, "/items/{n}", "/inner/{m}/items/{n}",
        variant="its own telemetry on",
        environment={"TRACING": "1", "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS": "fastapi,asgi"},
    ),
    Stack("FastAPI", "hypercorn", "fastapi_app", HYPERCORN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("FastAPI", "granian", "fastapi_app", GRANIAN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("Sanic", "its own server", "sanic_app", (*SANIC, "--single-process"), *SANIC_TEMPLATES, breaks_off=False),
    Stack(
        "Sanic", "its own server", "sanic_app", (*SANIC, "--workers", "2"), *SANIC_TEMPLATES,
        variant="workers", breaks_off=False,
    ),
    Stack(
        "Sanic", "uvicorn", "sanic_app", UVICORN, *SANIC_TEMPLATES,
        cannot={
            "client that leaves while it is answered": "Sanic asks no ASGI server whether its client is there"
        },
    ),
    Stack("Starlette", "uvicorn", "starlette_app", UVICORN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("Starlette", "hypercorn", "starlette_app", HYPERCORN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("Starlette", "granian", "starlette_app", GRANIAN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("Litestar", "uvicorn", "litestar_app", UVICORN, "/items/{n}", "/inner/{m}/items/{n}"),
    Stack("Quart", "uvicorn", "quart_app", UVICORN, "/items/<int:n>", "/inner/<m>/items/<int:n>"),
    Stack("Quart", "hypercorn", "quart_app", HYPERCORN, "/items/<int:n>", "/inner/<m>/items/<int:n>"),
    Stack(
        "BlackSheep", "uvicorn", "blacksheep_app", UVICORN, "/items/{int:n}", "/inner/{m}/items/{int:n}",
        cannot={"method not allowed": "BlackSheep answers 404 where only other methods have the path"},
    ),
    Stack(
        "Falcon", "uvicorn", "falcon_async_app", UVICORN, "/items/{n:int}", "/inner/{m}/items/{n:int}", cannot=FALCON
    ),
    Stack(
        "Falcon", "gunicorn", "falcon_app", GUNICORN, "/items/{n:int}", "/inner/{m}/items/{n:int}", cannot=NO_WEBSOCKETS
    ),
    *(
        Stack(
            "Django", server, "django_async_app", ASGI_SERVERS[server],
            "/items/<int:n>", "/inner/<str:m>/items/<int:n>", cannot=DJANGO,
        )
        for server in ("uvicorn", "hypercorn")
    ),
    *(
        Stack(
            "Django", server, "django_app", command, "/items/<int:n>", "/inner/<str:m>/items/<n>",
            cannot=DJANGO_WSGI, breaks_off=server != "uWSGI",
        )
        for server, command in WSGI_SERVERS.items()
    ),
    Stack(
        "Django REST framework", "gunicorn", "drf_app", GUNICORN, "/items/<n>", "/inner/<str:m>/items/<n>",
        cannot=DJANGO_WSGI,
    ),
    Stack(
        "Django Ninja", "uvicorn", "ninja_app", UVICORN, "/items/<int:n>", "/inner/<m>/items/<int:n>", cannot=DJANGO
    ),
    *(
        Stack(
            "Flask", server, "flask_app", command, "/items/<int:n>", "/inner/<m>/items/<int:n>",
            cannot=NO_WEBSOCKETS | (UWSGI_CHUNKS if server == "uWSGI" else {}), breaks_off=server != "uWSGI",
        )
        for server, command in WSGI_SERVERS.items()
    ),
    *(
        Stack("plain ASGI", server, "plain_asgi_app", command, "/items/{n}", "/inner/{m}/items/{n}")
        for server, command in ASGI_SERVERS.items()
    ),
    *(
        Stack(
            "plain WSGI", server, "plain_wsgi_app", command, "/items/{n}", "/inner/{m}/items/{n}", cannot=NO_WEBSOCKETS
        )
        for server, command in WSGI_SERVERS.items()
        if server != "uWSGI"  # it keeps its applications in C, where one of no framework has no entry to be hooked
    ),
    Stack(
        "plain WSGI", "hypercorn", "plain_wsgi_app", HYPERCORN, "/items/{n}", "/inner/{m}/items/{n}",
        cannot=HYPERCORN_WSGI,
    ),
)  # fmt: skip
