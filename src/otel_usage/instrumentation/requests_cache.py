"""requests-cache: what a cached session answers in the place of an upstream.

Every answer goes through ``send``, and every call to an upstream through ``_send_and_cache``: now, or on a thread of
its own while a stale answer is served. That one is given what has been decided, which is told nowhere else: whether the
cache was asked at all, and whether anybody waits for the call. A response does not tell: the thread writes into the one
that is being served, and one that is stored in memory is the same for all.
"""

from __future__ import annotations

from typing import Any, Final
from urllib.parse import urlsplit

from ..attempt import UpstreamNaming, naming
from ..blocks import last_said
from ..guard import guarded
from .hooks import Function, Hook
from .lookups import MISS, STALE, CacheLookup, lookup, stored


def _send(original: Function) -> Function:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        looking = lookup()
        if looking is None:
            return original(self, request, *args, **kwargs)
        with looking:
            response = original(self, request, *args, **kwargs)
            _ended(looking, request, response)
            return response

    return send


def _send_and_cache(original: Function) -> Function:
    def _send_and_cache(self: Any, request: Any, actions: Any, cached_response: Any = None, **kwargs: Any) -> Any:
        calling = _calling(actions)
        if calling is None:
            return original(self, request, actions, cached_response, **kwargs)
        with calling:
            return original(self, request, actions, cached_response, **kwargs)

    return _send_and_cache


def _resend_async(original: Function) -> Function:
    def resend_async(self: Any, *args: Any, **kwargs: Any) -> Any:
        _served_stale(*args)
        return original(self, *args, **kwargs)

    return resend_async


@guarded(None)
def _calling(actions: Any) -> CacheLookup | None:
    # Of a call in the background: how it was named when that was started, which by now may be over.
    within = last_said(UpstreamNaming)
    calling = lookup(names=within)
    if calling is None:
        return None
    if isinstance(within, CacheLookup):
        within.called = True
    if not actions.skip_read:
        calling.asked(STALE if actions.resend_async else MISS)
    return calling


@guarded(None)
def _served_stale(request: Any, actions: Any, cached_response: Any) -> None:
    looking = naming()
    if isinstance(looking, CacheLookup):
        looking.answered(_host(request), stored(cached_response.status_code, stale=True))


@guarded(None)
def _ended(looking: CacheLookup, request: Any, response: Any) -> None:
    # An application's hook may have put something else in the response's place.
    if looking.answer is None and getattr(response, "from_cache", False):
        # Where the application wants only what is stored and nothing is, the session answers 504 by itself.
        status = stored(response.status_code, stale=response.is_expired) if response.cache_key else MISS
        looking.answered(_host(request), status)


def _host(request: Any) -> str | None:
    host: str | None = urlsplit(request.url).hostname
    return host


TESTED: Final = {"requests-cache": "1.3"}

HOOKS: Final = (
    Hook("requests_cache.session", "CacheMixin.send", _send),
    Hook("requests_cache.session", "CacheMixin._send_and_cache", _send_and_cache),
    Hook("requests_cache.session", "CacheMixin._resend_async", _resend_async),
)
