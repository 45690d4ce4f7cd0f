"""gRPC's sync servers, ``grpc.server``: one request span for each RPC, from its head to the end of its status.

An RPC is seen around every interceptor, so that what one of them refuses is a request, too, and what it says of the
caller is heard. The route is the method, ``/package.Service/Method``, where the server has it. It is observed where
RPCs come in and not when a server is made, so a server that was made before is observed as well.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..guard import guarded
from ..runtime import active
from ..scope import enter, leave
from .grpc_exchange import Exchange
from .grpc_handlers import has, linked, observed
from .grpc_words import address_of
from .hooks import Function, Hook

if TYPE_CHECKING:
    from ..recorder import Recorder


def _handle_call(original: Function) -> Function:
    """Around what a sync server does for a call that has come in."""

    def handle_call(
        rpc_event: Any, method_with_handler: Any, interceptor_pipeline: Any, *given: Any, **named: Any
    ) -> Any:
        observer = _begin(rpc_event, method_with_handler, interceptor_pipeline)
        if observer is None:
            return original(rpc_event, method_with_handler, interceptor_pipeline, *given, **named)
        try:
            state, future = original(rpc_event, method_with_handler, observer, *given, **named)
        except BaseException as error:  # a pool that takes nothing more
            observer.failed(error)
            observer.refused()
            raise
        observer.dispatched(state, future)
        return state, future

    return handle_call


@guarded(None)
def _begin(rpc_event: Any, method: Any, pipeline: Any) -> _Pipeline | None:
    """What observes a call. None: it is not to be recorded."""
    recorder = active()
    name = method.name() or rpc_event.call_details.method.decode("utf-8", "replace") if rpc_event.success else ""
    if recorder is None or not name:
        return None
    return _Pipeline(recorder, name, rpc_event, pipeline, registered=bool(method.name()))


class _Pipeline(Exchange):
    """An RPC of a sync server, in the place of the interceptors, which it calls."""

    def __init__(self, recorder: Recorder, method: str, rpc_event: Any, pipeline: Any, *, registered: bool) -> None:
        host = rpc_event.call_details.host
        super().__init__(recorder, method, rpc_event.invocation_metadata, host.decode("latin-1") if host else None)
        if recorder.needs_peer:
            self.request.came_from(address_of(rpc_event.call.peer().decode()))
        self._pipeline = pipeline
        if registered:
            self.exists()

    def execute(self, thunk: Callable[[Any], Any], details: Any) -> Any:
        """What the server calls for the handler: ``thunk`` asks the application's services for it."""
        details = details._replace(invocation_metadata=self.metadata)
        token = enter(self.request)
        try:
            if self._pipeline is None:
                handler = thunk(details)
                found = handler is not None
            else:
                handler, found = self._intercepted(thunk, details)
        except BaseException as error:
            self.failed(error)
            raise
        finally:
            leave(token)
        if found:
            self.exists()
        return observed(handler, self)

    def _intercepted(self, thunk: Callable[[Any], Any], details: Any) -> tuple[Any, bool]:
        asked = found = False

        def find(details: Any) -> Any:
            nonlocal asked, found
            handler = thunk(details)
            asked, found = True, handler is not None
            return linked(handler, self.request)

        handler = self._pipeline.execute(find, details)
        if not asked:  # it was refused before: the route is the same
            found = has(thunk, details)
        return handler, found

    @guarded(None)
    def dispatched(self, state: Any, future: Any) -> None:
        """The server has refused the call, or handed it to a thread."""
        if future is None:
            self.refused()
            return
        with state.condition:
            going_on = state.callbacks is not None
            if going_on:
                state.callbacks.append(partial(self.over, state))
        if not going_on:
            self.over(state)

    @guarded(None)
    def over(self, state: Any) -> None:
        """Its status was sent, or the client is gone."""
        if state.client == "cancelled":
            self.cancelled()
        elif self.context is None and not self.unread:
            self.close("UNIMPLEMENTED", 501)  # the one message that such a method needs has not come
        else:
            self.ended_with(state.code)


TESTED: Final = {"grpcio": "1.85"}

HOOKS: Final = (Hook("grpc._server", "_handle_call", _handle_call),)
