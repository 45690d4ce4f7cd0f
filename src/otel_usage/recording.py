"""What an application says about the request it is serving: the functions of the public face.

Each of them may be called from anywhere under the request (middleware, dependency, handler, thread, background task),
does nothing outside of one or when usage is off, and never raises.
"""

from __future__ import annotations

import time
from typing import Any, Final
from uuid import UUID

from .attempt import naming
from .guard import guarded
from .identity import UsageIdentity
from .model_calls import ModelCall, model_naming
from .request import current_request
from .runtime import active
from .said import known_word, of_type
from .schema import BY_KEY, CACHE_ANSWERS, CACHE_STATUSES, CACHE_TIERS, LIMIT_DECISIONS, ORIGIN_KINDS, UsageEvent
from .scope import CURRENT, current

LONGEST_CALL: Final = 86_400.0
"""Seconds, below which the duration of a model call lies."""


@guarded(None)
def identify(
    identity: UsageIdentity | None = None,
    *,
    customer_id: str | int | UUID | None = None,
    tier: int | str | None = None,
    plan: str | None = None,
    auth_kind: str | None = None,
    principal: str | None = None,
    provenance: str = "verified",
) -> None:
    """Say who is calling. May be called again as more becomes known: facts merge, surer facts win.

    No call takes usage off the account of a customer who was verified: an ``anon`` after that is left out, and so is
    another customer that a started :class:`threading.Thread` names. That one is counted as ``identify:other_customer``.

    Args:
        identity: What an :class:`~otel_usage.IdentityResolver` made. The other arguments are then not looked at.
        customer_id: The account that is billed.
        tier: The customer's tier, 0 or more. None: not known, which is not 0.
        plan: The customer's plan.
        auth_kind: How the caller was authenticated, one of ``schema.AUTH_KINDS`` or a registered kind.
            ``anon`` is always tier 0, and what else it claims is dropped and counted (``identity.CLAIMS``).
        principal: The credential that was used. Only its keyed hash leaves; without ``USAGE_KEY_PEPPER`` it is
            not even remembered.
        provenance: ``verified`` (the application vouches for it), ``unverified`` (the client said so) or
            ``unavailable`` (what is missing could not be read).
    """
    here = CURRENT.get()  # as `current`, with a call less
    if here is None or (here := here.live) is None:
        return
    if identity is None:
        words = customer_id, tier, plan, auth_kind, principal, provenance
        identity = here.recorder.callers.identity(words)
    elif not isinstance(identity, UsageIdentity):  # the application's word, which its type does not make true
        raise TypeError("identify() takes a UsageIdentity")
    here.identify(identity)


@guarded(None)
def reject(reason: str) -> None:
    """Say why the request is turned down, in one of ``schema.REASONS`` or a registered reason."""
    request = current_request()
    if request is not None and request.closed_at is None:
        recorder = request.recorder
        request.reason = known_word(recorder.drops, "usage.reason", reason, recorder.reasons) or request.reason


@guarded(None)
def annotate(
    *,
    cache_tier: str | None = None,
    domain: str | None = None,
    origin_kind: str | None = None,
    route: str | None = None,
) -> None:
    """Add facts to the current request, in place of what would be derived. None: leave it.

    Args:
        cache_tier: How long the response may be cached, one of ``schema.CACHE_TIERS``.
        domain: What part of the API it belongs to.
        origin_kind: What kind of client it came from, one of ``schema.ORIGIN_KINDS``.
        route: The route's template, where the framework has none. Never the raw path.
    """
    request = current_request()
    if request is None or request.closed_at is not None:
        return
    drops = request.recorder.drops
    found = {
        "usage.cache.tier": known_word(drops, "usage.cache.tier", cache_tier, CACHE_TIERS),
        "usage.origin.kind": known_word(drops, "usage.origin.kind", origin_kind, ORIGIN_KINDS),
        "usage.domain": of_type(drops, "usage.domain", domain, str),
    }
    said = {key: value for key, value in found.items() if value is not None}
    request.annotations = tuple((dict(request.annotations) | said).items())
    template = BY_KEY["http.route"].accept(route)
    if isinstance(template, str):
        request.mounted = ""
        request.matched(template)
    elif route is not None:
        drops.add("http.route")


@guarded(None)
def meter(name: str, quantity: float, *, unit: str | None = None) -> None:
    """Count something billable, as a ``usage.meter`` event on the current request or ``usage_span``.

    Args:
        name: What is metered.
        quantity: How much of it.
        unit: What the quantity counts.
    """
    _event(UsageEvent.METER, {"usage.meter.name": name, "usage.quantity": quantity, "usage.unit": unit})


@guarded(None)
def record_cache(provider: str, operation: str, *, status: str) -> None:
    """Record that a cache answered in the place of a provider, as a ``usage.cache`` event.

    ``status`` is one of ``schema.CACHE_STATUSES``; ``neg-sentinel`` is a stored failure, which is not a success.

    Within ``with upstream(…)`` of that provider and operation, an answer stands for the call: the block is no upstream
    call then, unless a hook sees one. ``miss`` is no answer.
    """
    facts = {"usage.provider": provider, "usage.operation": operation, "usage.cache.status": status}
    _event(UsageEvent.CACHE, facts, CACHE_STATUSES)
    block = naming()
    if block is not None and status in CACHE_ANSWERS and block.provider == provider:
        block.attempts += block.operation is None or block.operation == operation


@guarded(None)
def record_limit(limiter: str, decision: str) -> None:
    """Record what a limiter decided (one of ``schema.LIMIT_DECISIONS``), as a ``usage.limit`` event."""
    _event(UsageEvent.LIMIT, {"usage.limit.name": limiter, "usage.limit.decision": decision}, LIMIT_DECISIONS)


@guarded(None)
def record_llm(
    provider: str,
    model: str,
    *,
    input_tokens: int | None = None,
    output_tokens: int | None = None,
    max_tokens: int | None = None,
    prompt_chars: int | None = None,
    stage: str | None = None,
    fallback_index: int | None = None,
    duration: float = 0.0,
    reason: str = "ok",
) -> None:
    """Record one attempt of a model call, as a span of its own that ends now. Failed attempts too.

    Args:
        provider: Who runs the model.
        model: The model that was asked for.
        input_tokens: Tokens of the prompt. None: not told.
        output_tokens: Tokens of the completion. None: not told.
        max_tokens: The limit that was set. None: none.
        prompt_chars: Characters of the prompt.
        stage: The step of the application that asked. None: as the surrounding ``model_call`` says.
        fallback_index: Which attempt it was in the chain of fallbacks, from 0. None: as above.
        duration: Seconds that it took. Less than 0, or :data:`LONGEST_CALL` or more: not known, and recorded as 0.
        reason: How it ended, one of ``schema.REASONS`` or a registered reason.
    """
    recorder = active()
    if recorder is None:
        return
    around = model_naming()
    end = time.time_ns()
    took = round(duration * 1e9) if 0.0 <= duration < LONGEST_CALL else 0
    ModelCall(
        provider=provider,
        model=model,
        stage=around.stage if stage is None else stage,
        reason=reason,
        own={
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "gen_ai.request.max_tokens": max_tokens,
            "usage.llm.prompt_chars": prompt_chars,
            "usage.llm.fallback_index": around.fallback_index if fallback_index is None else fallback_index,
        },
        started=end - took,
        ended=end,
    ).record(recorder, current())


def _event(event: UsageEvent, facts: dict[str, Any], values: tuple[str, ...] | None = None) -> None:
    """Add ``event`` to the current span; with ``values`` only if its last fact is one of them."""
    here = current()
    if here is None:
        return
    key, value = list(facts.items())[-1]
    if values is None or known_word(here.scope.recorder.drops, key, value, values) is not None:
        here.event(event.value, facts)
