"""Strawberry: the operation that a request of GraphQL asks for, and whether it was answered.

The answer to an operation that failed is a 200 with ``errors``, so the status says nothing. An operation that got
nothing but errors has failed: by an exception of a resolver, by an error that the application raised for its client to
read, or because the query was none. One that got a part has been answered; the class of the exception that cost the
rest is its ``error.type`` all the same. A batch has failed where all of its operations have.

What is streamed, over HTTP or a WebSocket, is an exchange like any other, whatever single results hold. Of the query
itself, nothing but the operation's name is read.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any, Final

from ..guard import guarded
from ..request import current_request
from .asgi import entry
from .carrier import observed
from .exchange import Receive, Scope, Send
from .hooks import Function, Hook


def _entry(original: Function) -> Function:
    async def call(self: Any, scope: Scope, receive: Receive, send: Send) -> None:
        _matched(scope)
        await original(self, scope, receive, send)

    return entry(call)


@guarded(None)
def _matched(scope: Scope) -> None:
    """It has no routes: where it is mounted, the mount is the route."""
    request = observed(scope)
    if request is not None and request.route is None and request.mounted:
        request.matched("")


def _parse(original: Function) -> Function:
    def parse_operation_document(execution_context: Any) -> None:
        original(execution_context)
        _asked(execution_context)

    return parse_operation_document


@guarded(None)
def _asked(context: Any) -> None:
    request = current_request()
    if request is not None:
        name = context.operation_name  # as the client's JSON has it, of any type
        request.asked_for(name if isinstance(name, str) else None)


def _executing_async(original: Function) -> Function:
    async def execute_operation(*args: Any, **kwargs: Any) -> Any:
        result = await original(*args, **kwargs)
        _executed(result)
        return result

    return execute_operation


def _executing(original: Function) -> Function:
    def execute_operation(*args: Any, **kwargs: Any) -> Any:
        result = original(*args, **kwargs)
        _executed(result)
        return result

    return execute_operation


@guarded(None)
def _executed(result: Any) -> None:
    request = current_request()
    results = result if isinstance(result, list) else [result]
    kind = sys.modules["strawberry.types"].ExecutionResult
    if request is None or not all(isinstance(each, kind) for each in results):
        return
    errors = [error for each in results for error in each.errors or ()]
    raised = next(filter(None, map(_raised, errors)), None)
    if raised is not None:
        request.failed(raised)
    if errors and not any(map(_answered, results)):
        request.reason = request.reason or _reason(errors, raised)


def _answered(result: Any) -> bool:
    """Whether an operation got anything: a field that failed is null, and so is what is above it, as far as it may."""
    return not result.errors or any(value is not None for value in (result.data or {}).values())


def _reason(errors: Iterable[Any], raised: BaseException | None) -> str:
    if raised is not None:
        return "unhandled_exception"
    # Only what happens in the execution has a path in the answer (GraphQL, section 7.1.2).
    return "malformed_request" if all(error.path is None for error in errors) else "client_error"


def _raised(error: Any) -> BaseException | None:
    """What a resolver raised. None: it is an error of GraphQL's own, such as applications raise to say something."""
    found, kind = error, sys.modules["graphql"].GraphQLError
    while isinstance(found, kind):
        found = found.original_error
    return found if isinstance(found, BaseException) else None


TESTED: Final = {"strawberry-graphql": "0.341"}

HOOKS: Final = (
    Hook("strawberry.asgi", "GraphQL.__call__", _entry),
    Hook("strawberry.schema.schema", "_parse_operation_document", _parse),
    Hook("strawberry.http.async_base_view", "AsyncBaseHTTPView.execute_operation", _executing_async),
    Hook("strawberry.http.sync_base_view", "SyncBaseHTTPView.execute_operation", _executing),
)
