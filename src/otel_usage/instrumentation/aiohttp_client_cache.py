"""aiohttp-client-cache: what a cached session answers in the place of an upstream.

A stored response looks the same whether an upstream was asked if it is still good or not: that is known by the attempt
that aiohttp's own hook has seen. The session asks its backend in one place, unless it does without the cache.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..attempt import naming
from ..guard import guarded
from .hooks import Function, Hook
from .lookups import CacheLookup, lookup, stored


def _request(original: Function) -> Function:
    async def _request(self: Any, method: Any, str_or_url: Any, *args: Any, **kwargs: Any) -> Any:
        looking = _begun(kwargs)
        if looking is None:
            return await original(self, method, str_or_url, *args, **kwargs)
        with looking:
            response = await original(self, method, str_or_url, *args, **kwargs)
            _ended(looking, response)
            return response

    return _request


def _asked(original: Function) -> Function:
    async def request(self: Any, actions: Any) -> Any:
        _noted(actions)
        return await original(self, actions)

    return request


@guarded(None)
def _begun(options: Mapping[str, Any]) -> CacheLookup | None:
    said = options.get("trace_request_ctx")  # where a call of aiohttp names itself
    return lookup(said.get("usage") if isinstance(said, Mapping) else None)


@guarded(None)
def _noted(actions: Any) -> None:
    looking = naming()
    if isinstance(looking, CacheLookup) and not actions.skip_read:
        looking.asked()


@guarded(None)
def _ended(looking: CacheLookup, response: Any) -> None:
    if response.from_cache:
        first = response.history[0] if response.history else response  # before it was redirected
        looking.answered(first.url.host, stored(response.status, stale=response.is_expired))


TESTED: Final = {"aiohttp-client-cache": "0.15"}

HOOKS: Final = (
    Hook("aiohttp_client_cache.session", "CacheMixin._request", _request),
    Hook("aiohttp_client_cache.backends.base", "CacheBackend.request", _asked),
)
