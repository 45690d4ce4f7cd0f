"""The applications that servers were given, seen from the server: whatever they are written with.

A framework's own entry is beneath what is put around an application (``app = Authenticating(FastAPI())``), and an
application that is written with no framework has no entry to be hooked. So a server has something of ours in its
application's place, from when it begins to serve, and an entry within finds the request observed already. Whoever else
holds the application holds what they held before.

uWSGI keeps its applications in C, where nothing can be put in their place: there, the frameworks' entries are all there
is.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from ..guard import guarded
from .asgi import UsageMiddleware, observe
from .bridges import telling
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook
from .told import aside, deliver
from .wsgi import Environ, StartResponse, UsageWSGIMiddleware, in_one


class _ServedASGI(UsageMiddleware):
    """An ASGI application as its server has it, with every attribute that the server may ask it for."""

    def __getattr__(self, name: str) -> Any:
        if name == "app":  # of a copy that has none yet
            raise AttributeError(name)
        return getattr(self.app, name)


class _ServedWSGI(UsageWSGIMiddleware):
    """A WSGI application, likewise."""

    __getattr__ = _ServedASGI.__getattr__


class _ServedByGranian(_ServedWSGI):
    """A WSGI application, whose lists Granian gives a Content-Length."""

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        return in_one(super().__call__(environ, start_response))


_Served = type[_ServedASGI] | type[_ServedWSGI]


def _after(name: str, served: _Served) -> Any:
    """The layer of a method that gives a server its application, which it has in this attribute from then on."""

    def layer(original: Function) -> Function:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(self, *args, **kwargs)
            _put_around(self, name, served)
            return result

        return method

    return layer


def _before(name: str, served: _Served) -> Any:
    """The layer of a server's main loop, which by then has its application in this attribute."""

    def layer(original: Function) -> Function:
        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            _put_around(self, name, served)
            return original(self, *args, **kwargs)

        return method

    return layer


@guarded(None)
def _put_around(server: Any, name: str, served: _Served) -> None:
    app = getattr(server, name)
    if not isinstance(app, served):
        setattr(server, name, served(app))


def _given(served: _Served) -> Any:
    """The layer of a function that is given an application and makes of it what is called for each request."""

    def layer(original: Function) -> Function:
        def function(callback: Any, *args: Any, **kwargs: Any) -> Any:
            return original(served(callback), *args, **kwargs)

        return function

    return layer


def _lifespan(original: Function) -> Function:
    def initialise(self: Any, callable: Any) -> None:
        original(self, _ServedASGI(callable))

    return initialise


def _adapter(original: Function) -> Function:
    """Of Hypercorn's adapters, which are called as ASGI applications are, and given more."""

    async def call(self: Any, scope: Scope, receive: Receive, send: Send, *more: Any, **named: Any) -> None:
        async def app(scope: Scope, receive: Receive, send: Send) -> None:
            await original(self, scope, receive, send, *more, **named)

        await observe(app, scope, receive, send)

    return call


def _shutdown(original: Function) -> Function:
    """A process of uvicorn's ends by the signal that stopped it, and nothing registered with ``atexit`` runs. An
    application that has no lifespan, as Django's, does not say when it is over.
    """

    async def shutdown(self: Any, *args: Any, **kwargs: Any) -> None:
        await original(self, *args, **kwargs)
        await aside(deliver)

    return shutdown


TESTED: Final = {
    "granian": "2.8",
    "gunicorn": "27.0",
    "hypercorn": "0.18",
    "uvicorn": "0.54",
    "waitress": "3.0",
    "werkzeug": "3.1",
}

HOOKS: Final = (
    Hook("uvicorn.config", "Config.load", _after("loaded_app", _ServedASGI)),
    Hook("uvicorn.server", "Server.shutdown", _shutdown),
    Hook("hypercorn.app_wrappers", "ASGIWrapper.__call__", _adapter),
    Hook("hypercorn.app_wrappers", "WSGIWrapper.__call__", _adapter),
    Hook("hypercorn.app_wrappers", "_build_environ", telling),
    Hook("granian.asgi", "LifespanProtocol.__init__", _lifespan),
    # By the names that its servers have taken when they were imported: that is before they load the application, which
    # may be what switches usage on.
    Hook("granian.server.mp", "_asgi_call_wrap", _given(_ServedASGI)),
    Hook("granian.server.mp", "_wsgi_call_wrap", _given(_ServedByGranian)),
    Hook("granian.server.mt", "_asgi_call_wrap", _given(_ServedASGI)),
    Hook("granian.server.mt", "_wsgi_call_wrap", _given(_ServedByGranian)),
    Hook("granian.server.embed", "_asgi_call_wrap", _given(_ServedASGI)),
    # Not where Gunicorn loads its application: it does so for ASGI's workers, too, and before it forks, if told to.
    Hook("gunicorn.workers.sync", "SyncWorker.run", _before("wsgi", _ServedWSGI)),
    Hook("gunicorn.workers.gthread", "ThreadWorker.run", _before("wsgi", _ServedWSGI)),
    Hook("gunicorn.workers.ggevent", "GeventWorker.run", _before("wsgi", _ServedWSGI)),
    Hook("gunicorn.workers.gasgi", "ASGIWorker.run", _before("asgi", _ServedASGI)),
    Hook("waitress.server", "BaseWSGIServer.__init__", _after("application", _ServedWSGI)),
    Hook("werkzeug.serving", "BaseWSGIServer.__init__", _after("app", _ServedWSGI)),
    Hook("wsgiref.simple_server", "WSGIServer.set_app", _after("application", _ServedWSGI)),
)
