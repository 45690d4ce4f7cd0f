"""Django: the entries of an application, the route that its URLs resolve to, the exception that it makes a 500 of.

Django REST framework and Django Ninja serve by Django's views and URLs, so what is seen here is all that they do.

Django serves a request on several tasks and threads. asgiref carries the request in progress to all of them; that a
task is a part of it has to be said.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any, Final

from ..guard import guarded
from ..request import UsageRequest
from .asgi import entry as asgi_entry
from .carrier import observed
from .hooks import Function, Hook
from .wsgi import entry as wsgi_entry


def _answering(original: Function) -> Function:
    """Around all middleware, on the task that serves."""

    async def get_response_async(self: Any, request: Any) -> Any:
        _works_here(request)
        return await original(self, request)

    return get_response_async


@guarded(None)
def _works_here(django_request: Any) -> None:
    request = _observed(django_request)
    if request is not None:
        request.works_here()


def _resolving(original: Function) -> Function:
    """Beneath all middleware, where Django looks for the view."""

    def resolve_request(self: Any, request: Any) -> Any:
        match = original(self, request)
        _resolved(request, match)
        return match

    return resolve_request


@guarded(None)
def _resolved(django_request: Any, match: Any) -> None:
    request = _observed(django_request)
    if request is not None:
        request.works_here()  # beneath middleware that is not asynchronous, a task of its own
        if match.route is not None:
            request.matched(template_of(str(match.route)))


def _uncaught(original: Function) -> Function:
    """Django answers an exception that no handler took with a 500 of its own, and nobody outside sees it."""

    def handle_uncaught_exception(request: Any, resolver: Any, exc_info: Any) -> Any:
        _failed(request, exc_info)
        return original(request, resolver, exc_info)

    return handle_uncaught_exception


@guarded(None)
def _failed(django_request: Any, exc_info: Any) -> None:
    request = _observed(django_request)
    if request is not None and exc_info[1] is not None:
        request.failed(exc_info[1])


def _observed(django_request: Any) -> UsageRequest | None:
    """The request as it is observed. None: it is not, as one that Django's test client has made."""
    scope = getattr(django_request, "scope", None)
    return observed(django_request.META if scope is None else scope)


@lru_cache(maxsize=1024)
def template_of(route: str) -> str:
    """What `path()` and `re_path()` were given, those of `include()` in front, as one template.

    Of a regular expression it keeps what is written as it is and the names of its groups, as Django's own documentation
    generator does: `^articles/(?P<year>[0-9]{4})/$` is `/articles/<year>/`.
    """
    return "/" + (_without_regex(route) if _REGEX.search(route) else route)


_REGEX: Final = re.compile(r"[\^$\\(]")
"""What says that a part of a route is one: Django warns of a `path()` that has any."""

_TOKEN: Final = re.compile(
    r"\\[AbBZz]|\(\?[aiLmsux]+\)|\\(?P<literal>[^A-Za-z0-9])"
    r"|\(\?P<(?P<name>\w+)>|(?P<plain>\((?!\?))|(?P<look>\(\?<?[=!])|(?P<open>\(\?:?)"
    r"|(?P<close>\)[?*+]?)|(?P<class>\[\^?\]?(?:\\.|[^\]\\])*\])|(?P<anchor>[\^$?])|(?P<other>\\?.)",
    re.DOTALL,
)


def _without_regex(route: str) -> str:
    kept: list[str] = []
    depth, within = 0, 0  # of parentheses, and of the group that stands as a whole for what is in it. 0: of none
    for token in _TOKEN.finditer(route):
        kind = token.lastgroup
        if kind in _OPENING:
            depth += 1
            if kind != "open" and not within:
                within = depth
                kept.append({"name": f"<{token['name']}>", "plain": "<var>"}.get(kind, ""))
        elif kind == "close":
            within = 0 if within == depth else within
            depth -= 1
        elif not within and kind in _KEPT:
            kept.append(token[kind])
    return "".join(kept)


_OPENING: Final = ("name", "plain", "look", "open")
_KEPT: Final = ("literal", "class", "other")


TESTED: Final = {"django": "5.2", "djangorestframework": "3.18", "django-ninja": "1.7"}

HOOKS: Final = (
    Hook("django.core.handlers.wsgi", "WSGIHandler.__call__", wsgi_entry),
    Hook("django.core.handlers.asgi", "ASGIHandler.__call__", asgi_entry),
    Hook("django.core.handlers.base", "BaseHandler.get_response_async", _answering),
    Hook("django.core.handlers.base", "BaseHandler.resolve_request", _resolving),
    Hook("django.core.handlers.exception", "handle_uncaught_exception", _uncaught),
)
