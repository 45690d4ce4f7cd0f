"""One RPC that a gRPC server serves, as it passes by: a request, whose end is its status.

The two kinds of server, sync and async, tell it what happens; what that amounts to is the same for both.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

import wrapt

from ..baggage import NOTHING
from ..guard import guarded
from ..request import UsageRequest
from .grpc_words import BAGGAGE, address_of, http_status, status_name, values_of

if TYPE_CHECKING:
    from ..recorder import Recorder

Transform = Callable[[Any], Any]
"""A serializer, or a deserializer."""

_NO_CARRIER: Final[Mapping[str, Any]] = MappingProxyType({})


class Exchange:
    """One RPC and its messages."""

    def __init__(self, recorder: Recorder, method: str, metadata: tuple[Any, ...], host: str | None) -> None:
        """``method`` is as it was called, ``/package.Service/Method``. ``host``: the authority that was, if that is
        known.
        """
        headers = values_of(metadata, recorder.headers)
        if host:
            headers["host"] = host
        attribution = None
        self.shed = False
        if BAGGAGE in headers:
            received = recorder.baggage.received(headers[BAGGAGE]) or NOTHING
            attribution = received.attribution
            if received.remaining != headers[BAGGAGE]:
                self.shed, metadata = True, _without_ours(metadata, received.remaining)
        self.method = method
        self.metadata = metadata
        """As the application may see it."""
        carrier = _carrier(method, metadata) if recorder.config.identity is not None else _NO_CARRIER
        self.request = UsageRequest(recorder, "POST", headers, None, carrier, attribution=attribution)
        self.context: Any = None
        """The handler's, while it is on its way. None: it was not called."""
        self.code: Any = None
        """The status that was set, where the context does not tell it."""
        self.writes = False
        """Whether the handler sends its messages itself, so that nobody sees when gRPC is done with one."""
        self.returned = False
        """Whether the handler has come to its end without raising."""
        self.raised = False
        self._early: tuple[Any, Any] | None = None
        self.unread = False
        self._unsent = 0
        self._closed = False

    @guarded(None)
    def exists(self) -> None:
        """The server has the method that was called. Any other is nobody's route: it may be anything."""
        self.request.matched(self.method)

    @guarded(None)
    def begins(self, context: Any) -> None:
        """The handler is called."""
        self.context = context
        if self.request.recorder.needs_peer:
            self.request.came_from(address_of(context.peer()))

    def deserializing(self, deserializer: Transform | None) -> Transform:
        """The deserializer with its messages counted. None: they stay bytes."""

        def deserialize(data: Any) -> Any:
            self.request.received += len(data)
            if deserializer is None:
                return data
            try:
                return deserializer(data)
            except BaseException:
                self.unread = True
                raise

        return deserialize

    def serializing(self, serializer: Transform | None) -> Transform:
        """The serializer with its messages counted, as they are :meth:`sent`."""

        def serialize(message: Any) -> Any:
            if self._early is not None and self._early[0] is message:
                return self._early[1]
            try:
                data = message if serializer is None else serializer(message)
            except BaseException as error:
                self.failed(error)
                raise
            self._sends(data)
            return data

        self._serialize = serialize
        return serialize

    @guarded(None)
    def serialize_early(self, message: Any) -> None:
        """Serialize the one message of an answer before gRPC does, so that the request ends before it is sent."""
        self._early = message, self._serialize(message)

    @guarded(None)
    def _sends(self, data: Any) -> None:
        if self.request.status is None:
            self.request.response_started(200, None)
        self._unsent += len(data)
        if self.writes:
            self.sent()

    @guarded(None)
    def sent(self) -> None:
        """The messages so far are with the client. One that gRPC still holds when the client leaves was not sent."""
        self.request.response_sent(self._unsent)
        self._unsent = 0

    @guarded(None)
    def failed(self, error: BaseException) -> None:
        """The handler, or an interceptor, raised, and not to end the call with a status of its own."""
        state = getattr(self.context, "_state", None)
        if getattr(state, "aborted", False) or isinstance(error, sys.modules["grpc._cython.cygrpc"].AbortError):
            return
        self.raised = True
        if type(error) is not sys.modules["grpc"].RpcError:  # what is raised where the client is gone
            self.request.failed(error)

    def ended(self) -> None:
        """It ended with the status that was set, or with the one that gRPC gives where none was."""
        asked = getattr(self.context, "code", None)
        self.ended_with(self.code if asked is None else asked())

    def ended_with(self, code: Any) -> None:
        """It ended with this status. None: with none that anybody has set."""
        if self.unread:
            self.request.reason = self.request.reason or "malformed_request"
            status = "INTERNAL"
        elif code is not None:
            status = status_name(code)
        else:
            status = "UNKNOWN" if self.raised else "OK"
        self.close(status, http_status(status))

    def cancelled(self) -> None:
        """The client has left before the end, or its time is up."""
        request = self.request
        request.client_gone = True
        if request.interrupted:  # that is how the handler was told
            request.error = None
        self._unsent = 0
        self.close("CANCELLED", http_status("CANCELLED"))

    def refused(self) -> None:
        """No handler was found, or none was called."""
        if self.raised:
            self.close("UNKNOWN", 500)
        elif self.request.route is None:
            # gRPC says UNIMPLEMENTED here and to what a service leaves out. Anybody may call what is not there: as
            # over HTTP, whose 404 gRPC's clients read as the same, that is no failure of the server's.
            self.close("UNIMPLEMENTED", 404)
        else:
            self.close("RESOURCE_EXHAUSTED", 429)  # more calls at a time than the server takes

    @guarded(None)
    def close(self, name: str, status: int) -> None:
        """The exchange is over: its span is made, once."""
        if self._closed:
            return
        self._closed = True
        request = self.request
        if request.status is None and not request.client_gone:
            request.response_started(status, None)
        self.sent()
        request.status = status
        request.complete = not request.client_gone
        if status >= 500 and request.error is None:
            request.error = name
            request.reason = request.reason or "server_error"  # and not an exception's, of which there was none
        request.close()
        self.context = None

    @property
    def waits(self) -> bool:
        """Whether the request is to be delivered before its end is sent."""
        return self.request.recorder.delivers_each and not self._closed

    @guarded(None)
    def deliver(self) -> None:
        """End the request, and deliver it before gRPC sends the end."""
        self.ended()
        self.request.recorder.deliver()

    def shown(self, context: Any) -> Any:
        """The handler's context: without what is ours in the metadata, and telling what it would keep to itself."""
        if not hasattr(context, "code"):
            return _TellingContext(context, self)
        return _Context(context, self) if self.shed else context


class _Context(wrapt.ObjectProxy[Any]):
    """A handler's context with the metadata that the application may see."""

    def __init__(self, context: Any, exchange: Exchange) -> None:
        super().__init__(context)
        self._self_exchange = exchange

    def invocation_metadata(self) -> tuple[Any, ...]:
        return self._self_exchange.metadata


class _TellingContext(_Context):
    """The context of a sync handler in ``grpc.aio``, which cannot be asked for the status that was set."""

    def set_code(self, code: Any) -> None:
        self._self_exchange.code = code
        self.__wrapped__.set_code(code)

    def abort(self, code: Any, *args: Any, **kwargs: Any) -> None:
        self._self_exchange.code = code
        self.__wrapped__.abort(code, *args, **kwargs)


def _without_ours(metadata: tuple[Any, ...], remaining: str) -> tuple[Any, ...]:
    item = type(metadata[0])  # applications ask for its `key` and `value`
    others = tuple(each for each in metadata if each[0] != BAGGAGE)
    return (*others, item(BAGGAGE, remaining)) if remaining else others


def _carrier(method: str, metadata: tuple[Any, ...]) -> Mapping[str, Any]:
    """What an application's resolver gets: as ASGI's scope has it, so that one resolver can serve both."""
    headers = [(key.encode(), value if isinstance(value, bytes) else value.encode()) for key, value in metadata]
    return {"type": "grpc", "method": "POST", "path": method, "headers": headers}
