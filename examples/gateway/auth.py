"""Who is calling, and may they? ASGI middleware in front of the routes.

This is the one place that tells usage telemetry who the caller is, because it is the one place that has checked it.
"""

from typing import Final

from starlette.requests import HTTPConnection
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

import otel_usage as usage

from . import keys
from .keys import ApiKey, Entitlement, KeyKind
from .providers import ProviderError
from .services import Services, services_of

KEY_HEADER: Final = "x-api-key"


class RejectedError(Exception):
    """The request goes no further: its answer, and the reason that is recorded for it."""

    def __init__(self, status: int, reason: str, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.response = JSONResponse({"error": message}, status_code=status, headers=headers)


class Authenticate:
    """Lets through what may pass, answers everything else."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request or one WebSocket connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        try:
            await _admit(HTTPConnection(scope))
        except RejectedError as rejected:
            usage.reject(rejected.reason)
            # Also right for a WebSocket: Starlette makes it the denial response of the handshake.
            await rejected.response(scope, receive, send)
            return
        await self._app(scope, receive, send)


async def _admit(connection: HTTPConnection) -> None:
    """Identify the caller and check what it may do."""
    services = await services_of(connection)
    path: str = connection.scope["path"]
    raw = connection.headers.get(KEY_HEADER)
    if raw is None:
        _admit_anonymous(path)
        return
    key = await _verify(raw, services)
    connection.state.customer = key.customer
    _check_key(key, raw, connection.headers.get("origin"))
    entitlement = await services.entitlement_of(key.customer)
    _identify(key, raw, entitlement)
    _check_rate(key, entitlement, services)
    _check_tier(path, entitlement)


def _admit_anonymous(path: str) -> None:
    if keys.is_protected(path):
        raise RejectedError(401, "auth_401", "an API key is needed")
    usage.identify(auth_kind="anon")


async def _verify(raw: str, services: Services) -> ApiKey:
    """The key, once somebody who can tell has said that it is good.

    For an enterprise key that is another service, on every request, so that a key that the customer has revoked stops
    working at once. Nobody knows yet who is calling: the cost of this call is theirs all the same.
    """
    key = await _verify_elsewhere(raw, services) if keys.is_enterprise(raw) else keys.find(raw)
    if key is None:
        raise RejectedError(401, "auth_401", "no such API key")
    return key


async def _verify_elsewhere(raw: str, services: Services) -> ApiKey | None:
    try:
        answer = await services.providers.call(
            {"provider": "keyring", "operation": "verify"}, "/keys/verify", json={"key": raw}
        )
    except ProviderError as error:
        raise RejectedError(503, "auth_unavailable", "API keys cannot be checked at the moment") from error
    customer = answer.json()["customer"]
    return ApiKey(KeyKind.ENTERPRISE, customer) if customer else None


def _check_key(key: ApiKey, raw: str, origin: str | None) -> None:
    refusal = None
    if key.suspended:
        refusal = RejectedError(403, "auth_403", "this API key is suspended")
    elif key.origin not in (None, origin):
        refusal = RejectedError(403, "origin_403", "this API key is not for this origin")
    if refusal:
        # The tier has not been looked up, so it is left out: that is not the same as tier 0.
        usage.identify(customer_id=key.customer, auth_kind=key.kind.value, principal=raw, provenance="verified")
        raise refusal


def _identify(key: ApiKey, raw: str, entitlement: Entitlement | None) -> None:
    if entitlement is None:
        # Who it is, is certain; what they have subscribed to is not. Calling it tier 0 would bill them as free.
        usage.identify(customer_id=key.customer, auth_kind=key.kind.value, principal=raw, provenance="unavailable")
        return
    usage.identify(
        customer_id=key.customer,
        tier=entitlement.tier,
        plan=entitlement.plan,
        auth_kind=key.kind.value,
        principal=raw,
        provenance="verified",
    )


def _check_rate(key: ApiKey, entitlement: Entitlement | None, services: Services) -> None:
    if not services.limiter.allows(key.customer, keys.limit_of(entitlement)):
        usage.record_limit("per_second", "deny")
        raise RejectedError(429, "rate_limit_429", "too many requests", {"retry-after": "1"})


def _check_tier(path: str, entitlement: Entitlement | None) -> None:
    needed = keys.minimum_tier(path)
    if not needed:
        return
    if entitlement is None:
        raise RejectedError(503, "billing_unavailable", "subscriptions cannot be read at the moment")
    if entitlement.tier < needed:
        raise RejectedError(403, "tier_403", f"this needs tier {needed}")
