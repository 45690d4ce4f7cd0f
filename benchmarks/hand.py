"""One span of the stock SDK a request, written by hand, delivered by stock parts. Upstream calls are events of it."""

from __future__ import annotations

from typing import Any

from benchmarks.application import application, upstream_client
from benchmarks.built import Built
from benchmarks.observed import CALLS, Answer, key_id, observe_calls, route_of
from benchmarks.own import FLUSH_SECONDS, provider_to


def hand_span(variant: str, sink: str) -> Built:
    provider = provider_to(sink)
    client = upstream_client(variant)
    observe_calls(client)
    # The provider is not made the global one: FastAPI's own telemetry would begin to write spans beside this one.
    app = SpanByHand(application(client), provider.get_tracer("bench"))
    return Built(app, lambda: provider.force_flush(FLUSH_SECONDS * 1000))


class SpanByHand:
    """Starts a span, sets its attributes at once, ends it."""

    def __init__(self, app: Any, tracer: Any) -> None:
        from opentelemetry.trace import SpanKind

        self._app, self._tracer, self._kind = app, tracer, SpanKind.SERVER

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        answer, calls = Answer(send), []  # type: ignore[var-annotated]
        span = self._tracer.start_span(scope["method"], kind=self._kind)
        token = CALLS.set(calls)
        try:
            await self._app(scope, receive, answer.send)
        finally:
            CALLS.reset(token)
            _describe(span, scope, answer)
            for call in calls:
                span.add_event("upstream", _described(call), call.ended_ns)
            span.end()


def _describe(span: Any, scope: Any, answer: Answer) -> None:
    route = route_of(scope)
    span.update_name(f"{scope['method']} {route}")
    span.set_attributes(
        {
            "http.request.method": scope["method"],
            "http.route": route,
            "http.response.status_code": answer.status,
            "http.response.body.size": answer.size,
            "usage.customer.id": scope["state"]["customer"],
            "usage.principal.id": key_id(scope["state"]["key"]),
            "url.scheme": scope["scheme"],
            "server.address": "api.example.com",
            "network.protocol.version": scope["http_version"],
            "usage.schema": "1",
        }
    )


def _described(call: Any) -> dict[str, Any]:
    return {
        "usage.upstream.provider": call.host,
        "usage.upstream.operation": call.method,
        "http.response.status_code": call.status,
        "usage.upstream.duration_ms": call.duration_ms,
    }
