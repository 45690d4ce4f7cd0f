"""What gRPC calls for an RPC, observed: a handler, in each of the shapes that its servers tell apart.

A server looks at a function to know whether it is sync, a coroutine's or an async generator's, so what takes its place
is of the same kind.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing
from functools import partial
from typing import Any, Final

from opentelemetry.context import get_current

from ..guard import guarded, report
from ..request import UsageRequest
from ..scope import Recording, current, enter, leave
from .grpc_exchange import Exchange, Transform
from .told import aside

Behavior = Callable[..., Any]
"""What the application has made: of a message, or of what iterates over several, and a context."""


def observed(handler: Any, exchange: Exchange) -> Any:
    """A handler that does what ``handler`` does, and tells the exchange. None for None."""
    if handler is None:
        return None
    try:
        transforms = (
            exchange.deserializing(handler.request_deserializer),
            exchange.serializing(handler.response_serializer),
        )
        return _remade(handler, lambda behavior: _telling(behavior, exchange, handler.response_streaming), *transforms)
    except Exception as error:  # as `guarded` does: without us it serves all the same
        report("instrumentation.grpc_handlers.observed", error)
        return handler


def linked(handler: Any, request: UsageRequest) -> Any:
    """A handler that does what ``handler`` does, beneath the interceptors, one of which may have begun a span: the
    request joins its trace. None for None.
    """
    if handler is None:
        return None
    try:
        transforms = handler.request_deserializer, handler.response_serializer
        return _remade(handler, lambda behavior: _preceded(behavior, partial(_link, request)), *transforms)
    except Exception as error:  # as above
        report("instrumentation.grpc_handlers.linked", error)
        return handler


@guarded(None)
def _link(request: UsageRequest) -> None:
    if get_current():  # an empty context holds no span, as where nobody traces
        request.bind_trace()


@guarded(False)
def has(service: Callable[[Any], Any], details: Any) -> bool:
    """Whether what a server asks for handlers has one."""
    return service(details) is not None


def _remade(
    handler: Any, change: Callable[[Behavior], Behavior], deserializer: Transform | None, serializer: Transform | None
) -> Any:
    arity = f"{_ARITY[handler.request_streaming]}_{_ARITY[handler.response_streaming]}"
    behavior = getattr(handler, arity)
    changed: Any = change(behavior)
    vars(changed).update(getattr(behavior, "__dict__", {}))  # a server asks it which threads it is to be called on
    return getattr(sys.modules["grpc"], f"{arity}_rpc_method_handler")(changed, deserializer, serializer)


_ARITY: Final = {False: "unary", True: "stream"}


def _telling(behavior: Behavior, exchange: Exchange, streams: bool) -> Behavior:
    if inspect.isasyncgenfunction(behavior):
        return _async_stream(behavior, exchange)
    if inspect.iscoroutinefunction(behavior):
        return _async_call(behavior, exchange, streams)
    return _call(behavior, exchange, streams)


def _async_stream(behavior: Behavior, exchange: Exchange) -> Behavior:
    async def stream(argument: Any, context: Any) -> AsyncIterator[Any]:
        exchange.begins(context)
        try:
            async with aclosing(behavior(argument, exchange.shown(context))) as answers:
                async for answer in answers:
                    yield answer
        except GeneratorExit:  # gRPC has dropped it: there is nobody to answer any more
            raise
        except BaseException as error:
            exchange.failed(error)
            raise
        exchange.returned = True
        if exchange.waits:
            await aside(exchange.deliver)

    return stream


def _async_call(behavior: Behavior, exchange: Exchange, streams: bool) -> Behavior:
    async def call(argument: Any, context: Any) -> Any:
        exchange.begins(context)
        try:
            answer = await behavior(argument, exchange.shown(context))
        except BaseException as error:
            exchange.failed(error)
            raise
        exchange.returned = True
        if exchange.waits:
            if not streams:
                exchange.serialize_early(answer)
            await aside(exchange.deliver)
        return answer

    return call


def _call(behavior: Behavior, exchange: Exchange, streams: bool) -> Behavior:
    def call(argument: Any, context: Any, *more: Any) -> Any:
        exchange.begins(context)
        token = enter(exchange.request)
        try:
            answer = behavior(argument, exchange.shown(context), *more)
        except BaseException as error:
            _fails(exchange, error)
            raise
        finally:
            leave(token)
        if streams:
            return _Answers(exchange, answer) if not more else answer  # `more`: it sends by calling that
        _returns(exchange, answer)
        return answer

    return call


def _fails(exchange: Exchange, error: BaseException) -> None:
    exchange.failed(error)
    if exchange.waits:
        exchange.deliver()


def _returns(exchange: Exchange, *answer: Any) -> None:
    exchange.returned = True
    if exchange.waits:
        for message in answer:
            exchange.serialize_early(message)
        exchange.deliver()


_here: Final = guarded(None)(current)


class _Answers:
    """The answers of a sync handler. The request is current while the application makes one, or the ``usage_span`` that
    an earlier one has begun.
    """

    def __init__(self, exchange: Exchange, answers: Iterator[Any]) -> None:
        self._exchange, self._answers = exchange, answers
        self._inside: Recording = exchange.request

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        token = enter(self._inside)
        try:
            return next(self._answers)
        except StopIteration:
            _returns(self._exchange)
            raise
        except BaseException as error:
            _fails(self._exchange, error)
            raise
        finally:
            self._inside = _here() or self._exchange.request
            leave(token)


def _preceded(behavior: Behavior, by: Callable[[], object]) -> Behavior:
    if inspect.isasyncgenfunction(behavior):

        async def stream(argument: Any, context: Any) -> AsyncIterator[Any]:
            by()
            async with aclosing(behavior(argument, context)) as answers:
                async for answer in answers:
                    yield answer

        return stream
    if inspect.iscoroutinefunction(behavior):

        async def coroutine(argument: Any, context: Any) -> Any:
            by()
            return await behavior(argument, context)

        return coroutine

    def call(*args: Any) -> Any:
        by()
        return behavior(*args)

    return call
