"""gRPC's async servers, ``grpc.aio.server``: one request span for each RPC, as for the sync ones.

Such a server is written in C and takes what observes its RPCs when it is made: usage has to be on by then. What is seen
is the task that serves an RPC, from its interceptors to its end.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Sequence
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from ..guard import guarded, report
from ..request import UsageRequest
from ..runtime import active
from ..scope import CURRENT, current
from .grpc_exchange import Exchange
from .grpc_handlers import has, linked, observed
from .hooks import Function, Hook

if TYPE_CHECKING:
    from ..recorder import Recorder


def _made(original: Function) -> Function:
    """Around the making of a server."""

    def made(  # noqa: PLR0917  # as gRPC has them
        self: Any, thread_pool: Any, generic_handlers: Any, interceptors: Any, options: Any,
        maximum_concurrent_rpcs: Any, *more: Any, **named: Any,
    ) -> None:  # fmt: skip
        interceptors = _with_ours(interceptors, limited=maximum_concurrent_rpcs is not None)
        original(self, thread_pool, generic_handlers, interceptors, options, maximum_concurrent_rpcs, *more, **named)

    return made


def _with_ours(interceptors: Sequence[Any] | None, *, limited: bool) -> Sequence[Any] | None:
    """The interceptors of a server, with ours around and beneath them. ``limited``: it takes so many RPCs at a time."""
    try:
        outermost, innermost = _interceptors()
        return (outermost(limited), *(interceptors or ()), innermost())
    except Exception as error:  # as `guarded` does: without ours it serves all the same
        report("instrumentation.grpc_aio_servers._with_ours", error)
        return interceptors


@cache
def _interceptors() -> tuple[type[Any], type[Any]]:
    """The classes of ours, of the base class that servers insist on."""
    base: Any = sys.modules["grpc.aio"].ServerInterceptor  # so that it is never imported for the hook's sake

    class Outermost(base):  # type: ignore[misc]  # the base is only known at run time
        """Makes a request of each RPC."""

        def __init__(self, limited: bool) -> None:
            self._limited = limited

        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            exchange = _begin(details, self._limited)
            if exchange is None:
                return await continuation(details)
            try:
                handler = await continuation(exchange.details)
            except BaseException as error:
                exchange.failed(error)
                raise
            exchange.answered(continuation, handler)
            return observed(handler, exchange)

    class Innermost(base):  # type: ignore[misc]  # as above
        """Sees what the server has, before another interceptor changes it."""

        async def intercept_service(self, continuation: Any, details: Any) -> Any:
            return _found(await continuation(details), details)

    return Outermost, Innermost


def _found(handler: Any, details: Any) -> Any:
    here = current()
    if handler is None or not isinstance(here, UsageRequest):
        return handler
    here.matched(details.method)
    return linked(handler, here)


@guarded(None)
def _begin(details: Any, limited: bool) -> _AsyncExchange | None:
    """What observes an RPC. It is called by the task that serves it and nobody else. None: it is not to be recorded."""
    recorder, task = active(), asyncio.current_task()
    if recorder is None or task is None:
        return None
    exchange = _AsyncExchange(recorder, details, limited)
    CURRENT.set(exchange.request)
    exchange.request.works_here()
    task.add_done_callback(exchange.over)
    return exchange


class _AsyncExchange(Exchange):
    """An RPC of an async server."""

    def __init__(self, recorder: Recorder, details: Any, limited: bool) -> None:
        super().__init__(recorder, details.method, details.invocation_metadata, None)
        self.details = type(details)(details.method, self.metadata) if self.shed else details
        self._limited = limited
        self._handled = False

    @guarded(None)
    def answered(self, continuation: Any, handler: Any) -> None:
        """The interceptors and the server have said what is to be called."""
        self._handled = handler is not None
        if self._handled and self.request.route is None:  # it was refused before the server was asked
            query = continuation.args[-1]  # a `functools.partial` of gRPC's own: the interceptors, and this
            if has(query, self.details):
                self.exists()

    @guarded(None)
    def over(self, _: object) -> None:
        """The task that has served it is done."""
        context = self.context
        if context is None:
            if self.unread:
                self.ended()
            elif self._handled and not self._limited:
                self.cancelled()  # before its message had come
            else:
                self.refused()
        elif context.done() if hasattr(context, "done") else self.returned or self.raised or self.code is not None:
            self.ended()
        else:
            self.cancelled()


TESTED: Final = {"grpcio": "1.85"}

HOOKS: Final = (Hook("grpc.aio._server", "Server.__init__", _made),)
