"""The receiver's core: one export request in, one answer and its spans out. No socket, no store."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, Protocol

from google.protobuf import json_format
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from .messages import Request, Response, error_response
from .otlp import (
    JSON,
    MAX_BODY_BYTES,
    PROTOBUF,
    OtlpError,
    OtlpTooLargeError,
    ReceivedSpan,
    UnsupportedOtlpError,
    essence,
    parse_export,
)

TRACES_PATH: Final = "/v1/traces"
"""Where spans are sent to."""

MAX_SPANS: Final = 10_000
"""Spans that Axiom takes in one request."""

Judge = Callable[[ReceivedSpan], str | None]
"""Says why one span of a batch is rejected; None: it is accepted."""


class Refusal(Protocol):
    """Decides whether a request may write at all."""

    def refuse(self, request: Request) -> Response | None:
        """None if it may; else the response that says why not."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """One request, what was answered, and which of its spans were taken."""

    request: Request
    response: Response
    spans: tuple[ReceivedSpan, ...] = ()
    """The spans that were accepted. Empty for every status but 200."""
    rejected: int = 0
    """Spans that were rejected while the request itself was answered with 200."""


def accept_all(span: ReceivedSpan) -> str | None:
    """The judge that rejects nothing."""
    return None


class Receiver:
    """Answers OTLP/HTTP trace exports as Axiom does. Keeps no state of its own, so any thread may call it.

    Not confirmed for Axiom: the status of too many spans (413 here) and of an unknown content type (415 here), and
    that a body is judged only after the token. Its protobuf and JSON answers follow the OTLP specification.
    """

    def __init__(
        self,
        access: Refusal | None = None,
        *,
        judge: Judge = accept_all,
        max_body_bytes: int = MAX_BODY_BYTES,
        max_spans: int = MAX_SPANS,
    ) -> None:
        """``access``: None lets everybody write. ``max_body_bytes`` counts after decompression."""
        self._access = access
        self._judge = judge
        self._max_body_bytes = max_body_bytes
        self._max_spans = max_spans

    def handle(self, request: Request) -> Exchange:
        """Answer one request. Never raises for what the request holds.

        Statuses: 200; 400 malformed; 401, 403, 404 as ``access`` says; 404 another path; 405 another method;
        413 too large or too many spans; 415 unknown content type or encoding.
        """
        refusal = self._refuse(request)
        if refusal is not None:
            return Exchange(request, refusal)
        try:
            spans = self._parse(request)
        except OtlpError as error:
            return Exchange(request, error_response(_status(error), str(error)))
        if len(spans) > self._max_spans:
            return Exchange(request, error_response(413, f"more than {self._max_spans} spans in one request"))
        return judged(request, spans, self._judge)

    def _refuse(self, request: Request) -> Response | None:
        if request.path != TRACES_PATH:
            return error_response(404, f"not found: spans are sent to {TRACES_PATH}")
        if request.method != "POST":
            return error_response(405, "method not allowed", {"Allow": "POST"})
        return self._access.refuse(request) if self._access is not None else None

    def _parse(self, request: Request) -> list[ReceivedSpan]:
        if request.body is None:
            raise OtlpTooLargeError(f"the body is longer than {self._max_body_bytes} bytes")
        content_type, encoding = request.header("Content-Type"), request.header("Content-Encoding")
        return parse_export(request.body, content_type, encoding, max_bytes=self._max_body_bytes)


def judged(request: Request, spans: Iterable[ReceivedSpan], judge: Judge) -> Exchange:
    """The exchange of a readable request, once ``judge`` has seen each of its spans."""
    accepted: list[ReceivedSpan] = []
    reasons: Counter[str] = Counter()
    for span in spans:
        reason = judge(span)
        if reason is None:
            accepted.append(span)
        else:
            reasons[reason] += 1
    response = export_response(request, rejected=reasons.total(), message=_explain(reasons))
    return Exchange(request, response, tuple(accepted), reasons.total())


def export_response(request: Request, *, rejected: int = 0, message: str = "") -> Response:
    """A 200 in the format of the request. ``rejected`` 0 and no message: everything was accepted.

    ``rejected`` 0 with a message is OTLP's warning: all was accepted, and there is something to say about it.
    """
    body = ExportTraceServiceResponse()
    if rejected or message:
        body.partial_success.rejected_spans = rejected
        body.partial_success.error_message = message
    if essence(request.header("Content-Type")) == JSON:
        return Response(200, {"Content-Type": JSON}, json_format.MessageToJson(body, indent=None).encode())
    return Response(200, {"Content-Type": PROTOBUF}, body.SerializeToString())


def _explain(reasons: Counter[str]) -> str:
    return "; ".join(f"{reason} ({count})" for reason, count in reasons.most_common())


def _status(error: OtlpError) -> int:
    if isinstance(error, OtlpTooLargeError):
        return 413
    return 415 if isinstance(error, UnsupportedOtlpError) else 400
