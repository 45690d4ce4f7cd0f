"""gRPC's clients, ``grpc`` and ``grpc.aio``: one upstream span for each call, the bytes of its messages counted.

A call is seen beneath every interceptor, so that each attempt of one that retries is a span of its own. What gRPC's
core repeats by itself (a service config's ``retryPolicy``) nobody can see: it is one. A call is named for its method
where the application has not named it, and its status is that of HTTP which ``google.rpc.Code`` gives for it.

Messages are counted as they are serialized, by a serializer that is the call's alone: a stub serves many calls at once.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from copy import copy
from functools import cache, lru_cache
from typing import Any, Final
from weakref import ref

from ..attempt import UpstreamAttempt, UpstreamNaming
from ..guard import guarded
from .calls import attempted, listening
from .grpc_words import BAGGAGE, http_status, place_of, status_name, values_of, with_baggage
from .hooks import Function, Hook, Layer
from .threads import carried

Transform = Callable[[Any], Any]
"""A serializer, or a deserializer."""

_UNFINISHED: Final = ("CANCELLED", "DEADLINE_EXCEEDED")
"""The statuses of calls that nobody waited for to the end."""


class _Call(UpstreamAttempt):
    """One call on its way."""

    def serializing(self, serializer: Transform | None) -> Transform:
        """The serializer with its messages counted. None: they are bytes already."""

        def serialize(message: Any) -> Any:
            data = message if serializer is None else serializer(message)
            if isinstance(data, bytes):
                self.sent += len(data)
            return data

        return serialize

    def deserializing(self, deserializer: Transform | None) -> Transform:
        """The deserializer with its messages counted."""

        def deserialize(data: Any) -> Any:
            if self._first_byte is None:
                self.responded(200)
            self.received += len(data)
            return data if deserializer is None else deserializer(data)

        return deserialize

    def telling(self, metadata: Any, host: str, port: int | None) -> Any:
        """The call's metadata, with baggage as it may go to this host."""
        own = values_of(metadata, frozenset((BAGGAGE,))).get(BAGGAGE, "") if metadata else ""
        kept, ours = self.baggage(own, host, port)
        return metadata if kept == own and not ours else with_baggage(metadata or (), kept, ours)

    @guarded(None)
    def ended(self, status: str) -> None:
        """The call has this status now. A second one is none: of what is dropped when it is over."""
        if self._finished:
            return
        if self._first_byte is None:
            self.responded(http_status(status))
        self.status = http_status(status)
        self.error = None if status == "OK" else status
        self.complete = status not in _UNFINISHED
        self.finish()

    @guarded(None)
    def broken(self, error: BaseException) -> None:
        """The call raised: by its status, or because there was none to be made."""
        code = getattr(error, "code", None)
        status = code() if callable(code) else None
        if status is not None:
            self.ended(status_name(status))
        else:
            self.failed(error)
            self.finish()


@guarded(None)
def _begin(target: bytes | str, method: bytes | str) -> tuple[_Call, str, int | None] | None:
    """The call, and where it goes. None: it is not to be recorded."""
    recorder = listening()
    if recorder is None:
        return None
    host, port = place_of(_text(target))
    return _Call(recorder, _name(_text(method)), "POST", host or None), host, port


def _text(text: bytes | str) -> str:
    return text.decode("utf-8", "replace") if isinstance(text, bytes) else text


def _name(method: str) -> UpstreamNaming:
    names, _ = attempted()
    if names.operation is not None:
        return names
    if names.provider is None and names.cache_status is None:
        return _unnamed(method)
    return UpstreamNaming(names.provider, method.strip("/"), names.cache_status)


@lru_cache(maxsize=1024)
def _unnamed(method: str) -> UpstreamNaming:
    """The name of calls that nobody has named: one for all of a method. It is never written to."""
    return UpstreamNaming(operation=method.strip("/"))


@guarded(None)
def _prepared(callable_: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The call; a multi-callable of its own that counts; and the arguments, with baggage. None: not to be recorded."""
    begun = _begin(callable_._target, callable_._method)
    if begun is None:
        return None
    call, host, port = begun
    counting = copy(callable_)
    counting._request_serializer = call.serializing(callable_._request_serializer)
    counting._response_deserializer = call.deserializing(callable_._response_deserializer)
    if isinstance(callable_, _streaming()):
        args, kwargs = _carrying(args, kwargs)
    given = args[_METADATA] if len(args) > _METADATA else kwargs.get("metadata")
    if given is not None or call.recorder.baggage.tells:
        metadata = call.telling(None if given is None else tuple(given), host, port)
        if len(args) > _METADATA:
            args = (*args[:_METADATA], metadata, *args[_METADATA + 1 :])
        else:
            kwargs = {**kwargs, "metadata": metadata}
    return call, counting, args, kwargs


_METADATA: Final = 2
"""Where ``metadata`` is among the arguments: after the request and the time-out."""


class _Requests:
    """Messages that another thread of gRPC's iterates over, which are made for the request that is current here."""

    __slots__ = ("_next",)

    def __init__(self, requests: Iterator[Any]) -> None:
        self._next = carried(requests.__next__)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        return self._next()


@cache
def _streaming() -> tuple[type[Any], ...]:
    """What takes more than one message."""
    grpc = sys.modules["grpc"]
    return grpc.StreamUnaryMultiCallable, grpc.StreamStreamMultiCallable


def _carrying(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if args and hasattr(args[0], "__next__"):
        return (_Requests(args[0]), *args[1:]), kwargs
    if hasattr(kwargs.get("request_iterator"), "__next__"):
        return args, {**kwargs, "request_iterator": _Requests(kwargs["request_iterator"])}
    return args, kwargs


def _around(then: Callable[[_Call, Any], None]) -> Layer:
    """The layer of a method that makes a call. ``then`` is told of the call, and of what the method has returned."""

    def layer(original: Function) -> Function:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            prepared = _prepared(self, args, kwargs)
            if prepared is None:
                return original(self, *args, **kwargs)
            attempt, counting, args, kwargs = prepared
            try:
                returned = original(counting, *args, **kwargs)
            except BaseException as error:
                attempt.broken(error)
                raise
            then(attempt, returned)
            return returned

        return call

    return layer


@guarded(None)
def _follow(call: _Call, rendezvous: Any) -> None:
    end = _End(call, rendezvous)
    if not rendezvous.add_callback(end):
        end()


class _End:
    """Called when a call has ended, or dropped with one that the application has dropped.

    It must not hold what the answer is read from: gRPC cancels the call when nobody does any more.
    """

    __slots__ = ("_call", "_rendezvous")

    def __init__(self, call: _Call, rendezvous: Any) -> None:
        self._call, self._rendezvous = call, ref(rendezvous)

    @guarded(None)
    def __call__(self) -> None:
        rendezvous = self._rendezvous()
        self._call.ended("CANCELLED" if rendezvous is None else status_name(rendezvous.code()))

    def __del__(self) -> None:
        self._call.ended("CANCELLED")


def _made(original: Function) -> Function:
    """Around the making of one of ``grpc.aio``'s calls, which is what starts it."""

    def made(self: Any, *args: Any, **kwargs: Any) -> None:
        prepared = _prepared_async(args)
        if prepared is None:
            original(self, *args, **kwargs)
            return
        attempt, args = prepared
        try:
            original(self, *args, **kwargs)
        except BaseException as error:
            attempt.broken(error)
            raise
        _follow_async(attempt, self._cython_call)

    return made


@guarded(None)
def _prepared_async(args: tuple[Any, ...]) -> tuple[_Call, tuple[Any, ...]] | None:
    """The call, and the arguments with what counts and with baggage: by position, as gRPC gives them."""
    request, deadline, metadata, credentials, wait_for_ready, channel, method, serializer, deserializer, *more = args
    begun = _begin(channel.target, method)
    if begun is None:
        return None
    call, host, port = begun
    metadata = call.telling(metadata, host, port)
    transforms = call.serializing(serializer), call.deserializing(deserializer)
    return call, (request, deadline, metadata, credentials, wait_for_ready, channel, method, *transforms, *more)


@guarded(None)
def _follow_async(call: _Call, core: Any) -> None:
    """``core``: the call without what the application reads the answer from, as for :class:`_End`."""

    @guarded(None)
    def done() -> None:
        status = status_name(core._status.code())
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # what was dropped is collected when there is none any more
            call.ended(status)
        else:
            loop.call_soon(call.ended, status)  # a single answer is deserialized first, before the loop's next step

    core.add_done_callback(done)


TESTED: Final = {"grpcio": "1.85"}

_waiting: Final = _around(lambda call, _: call.ended("OK"))
"""For a method that waits for the answer."""
_handing_out: Final = _around(_follow)
"""For one that returns at once what the answer is read from."""

_SYNC: Final = (
    ("_UnaryUnaryMultiCallable.__call__", _waiting),
    ("_UnaryUnaryMultiCallable.with_call", _waiting),
    ("_UnaryUnaryMultiCallable.future", _handing_out),
    ("_UnaryStreamMultiCallable.__call__", _handing_out),
    ("_SingleThreadedUnaryStreamMultiCallable.__call__", _handing_out),
    ("_StreamUnaryMultiCallable.__call__", _waiting),
    ("_StreamUnaryMultiCallable.with_call", _waiting),
    ("_StreamUnaryMultiCallable.future", _handing_out),
    ("_StreamStreamMultiCallable.__call__", _handing_out),
)
_ASYNC: Final = ("UnaryUnaryCall", "UnaryStreamCall", "StreamUnaryCall", "StreamStreamCall")

HOOKS: Final = (
    *(Hook("grpc._channel", path, layer) for path, layer in _SYNC),
    *(Hook("grpc.aio._call", f"{kind}.__init__", _made) for kind in _ASYNC),
)
