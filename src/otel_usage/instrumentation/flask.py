"""Flask: the entry of an application, and the template of the rule that matched. Tested with Flask 3.1."""

from __future__ import annotations

from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .hooks import Hook
from .wsgi import REQUEST_KEY, observe


def _call(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    return observe(wrapped, *args, **kwargs)


def _dispatch(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    _matched()
    return wrapped(*args, **kwargs)


@guarded(None)
def _matched() -> None:
    from flask import request as flask_request  # loaded by now: the hook waits for the application to import it

    request, rule = flask_request.environ.get(REQUEST_KEY), flask_request.url_rule
    if isinstance(request, UsageRequest) and rule is not None:
        request.route = rule.rule


HOOKS: Final = (
    Hook("flask.app", "Flask.__call__", _call),
    Hook("flask.app", "Flask.full_dispatch_request", _dispatch),
)
