"""hishel: what its transports for httpx and httpx2, and its adapter for requests, answer in the place of an upstream.

Each says of its response whether it came from the store, and whether the upstream was asked first if that is still
good. That is a call, which the client's hook sees, and its status is ``miss``: the cache could not answer by itself.
Where hishel may serve what is stale it does so without asking anybody, now or later.
"""

from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any, Final
from urllib.parse import urlsplit

from ..guard import guarded
from .hooks import Function, Hook
from .lookups import CacheLookup, lookup, stored

_CACHEABLE: Final = ("GET", "HEAD")


def _handle_request(original: Function) -> Function:
    def handle_request(self: Any, request: Any) -> Any:
        looking = _begun(self, request)
        if looking is None:
            return original(self, request)
        with looking:
            response = original(self, request)
            _transport_ended(looking, self, request, response)
            return response

    return handle_request


def _handle_async_request(original: Function) -> Function:
    async def handle_async_request(self: Any, request: Any) -> Any:
        looking = _begun(self, request)
        if looking is None:
            return await original(self, request)
        with looking:
            response = await original(self, request)
            _transport_ended(looking, self, request, response)
            return response

    return handle_async_request


def _send(original: Function) -> Function:
    def send(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        looking = _sending(self, request)
        if looking is None:
            return original(self, request, *args, **kwargs)
        with looking:
            response = original(self, request, *args, **kwargs)
            _adapter_ended(looking, self, request, response)
            return response

    return send


@guarded(None)
def _begun(transport: Any, request: Any) -> CacheLookup | None:
    return _asking(request.method, _rfc(transport, request), request.extensions.get("usage"))


@guarded(None)
def _sending(adapter: Any, request: Any) -> CacheLookup | None:
    return _asking(request.method, adapter.rfc)


def _asking(method: str, rfc: Any, own: object = None) -> CacheLookup | None:
    looking = lookup(own)
    if looking is not None and method in _options(rfc).get("supported_methods", _CACHEABLE):
        looking.asked()
    return looking


@guarded(None)
def _transport_ended(looking: CacheLookup, transport: Any, request: Any, response: Any) -> None:
    said = response.extensions["caching"]
    if said["from_cache"] and not said["revalidated"]:
        _answered(looking, request.url.host, response, _rfc(transport, request))


@guarded(None)
def _adapter_ended(looking: CacheLookup, adapter: Any, request: Any, response: Any) -> None:
    said = response.headers
    if said["X-Hishel-From-Cache"] == "true" and said["X-Hishel-Revalidated"] == "false":
        _answered(looking, urlsplit(request.url).hostname, response, adapter.rfc)


def _answered(looking: CacheLookup, host: str | None, response: Any, rfc: Any) -> None:
    looking.answered(host, stored(response.status_code, stale=_stale(response.headers, _options(rfc))))


def _rfc(transport: Any, request: Any) -> Any:
    """Whether the call follows RFC 9111, or the options with which it does. A request may say so for itself."""
    return {**transport.config, **request.extensions.get("caching", {})}["rfc"]


def _options(rfc: Any) -> dict[str, Any]:
    return rfc if isinstance(rfc, dict) else {}


def _stale(headers: Any, options: dict[str, Any]) -> bool:
    """Whether a response is older than its origin has allowed, which it may only be where an option says so."""
    if not options.get("allow_stale"):
        return False
    # How long it is fresh depends on half a dozen headers, and hishel tells that to nobody.
    rules: Any = sys.modules["hishel._core._spec"]
    lifetime = rules.get_freshness_lifetime(SimpleNamespace(headers=headers), options.get("shared", True))
    return lifetime is None or int(headers["age"]) >= lifetime


def _hooks(module: str) -> tuple[Hook, ...]:
    return (
        Hook(module, "CacheTransport.handle_request", _handle_request),
        Hook(module, "AsyncCacheTransport.handle_async_request", _handle_async_request),
    )


TESTED: Final = {"hishel": "2.0"}

HOOKS: Final = (
    *_hooks("hishel.httpx"),
    *_hooks("hishel.httpx2"),
    Hook("hishel.requests", "CacheAdapter.send", _send),
)
