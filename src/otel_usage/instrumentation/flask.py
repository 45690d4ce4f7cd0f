"""Flask: the entry of an application, the template of the rule that matched, the exception that nobody handled."""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from .carrier import observed
from .hooks import Function, Hook
from .wsgi import entry


def _dispatch(original: Function) -> Function:
    def full_dispatch_request(*args: Any, **kwargs: Any) -> Any:
        _matched()
        return original(*args, **kwargs)

    return full_dispatch_request


@guarded(None)
def _matched() -> None:
    from flask import request as flask_request  # loaded by now: the hook waits for the application to import it

    request, rule = observed(flask_request.environ), flask_request.url_rule
    if request is not None and rule is not None:
        request.matched(rule.rule)


def _handle_exception(original: Function) -> Function:
    def handle_exception(*args: Any, **kwargs: Any) -> Any:
        _failed((*args, *kwargs.values()))
        return original(*args, **kwargs)

    return handle_exception


@guarded(None)
def _failed(arguments: tuple[Any, ...]) -> None:
    from flask import request as flask_request  # as above

    request = observed(flask_request.environ)
    error = next(argument for argument in arguments if isinstance(argument, BaseException))
    if request is not None:
        request.failed(error)


TESTED: Final = {"flask": "3.1"}

HOOKS: Final = (
    Hook("flask.app", "Flask.__call__", entry),
    Hook("flask.app", "Flask.full_dispatch_request", _dispatch),
    # Flask answers an exception that no handler took with a 500 of its own, and nobody outside sees it.
    Hook("flask.app", "Flask.handle_exception", _handle_exception),
)
