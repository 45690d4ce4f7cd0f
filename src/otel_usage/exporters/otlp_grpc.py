"""OTLP over gRPC: one call within its deadline, with exactly our metadata, and an answer that is read.

The call is made on the channel itself, because what is kept in a spool are bytes: the official exporter takes spans
only, and says no more than success or failure.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

import grpc  # type: ignore[import-untyped]  # grpcio comes without types
from google.protobuf.message import DecodeError
from google.rpc.error_details_pb2 import RetryInfo  # type: ignore[import-untyped]  # and so do Google's protobufs
from google.rpc.status_pb2 import Status  # type: ignore[import-untyped]  # as above
from grpc import StatusCode
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse

from .._version import __version__
from ..endpoints import is_loopback
from ..payload import EncodedPayload, Payload
from ..readable import Queued
from ..status import EncoderHealth
from .encoder import Encoder
from .outcome import (
    LONGEST_PATIENCE,
    Accepted,
    BadData,
    Failed,
    Misconfigured,
    Outcome,
    Prepared,
    RetryLater,
    TooLarge,
    UsageExporter,
)
from .redacting import Redactor

_EXPORT: Final = "/opentelemetry.proto.collector.trace.v1.TraceService/Export"


class OtlpGrpcExporter(UsageExporter):
    """Sends spans to an OTLP/gRPC endpoint. ``OTEL_EXPORTER_OTLP_HEADERS`` is not read, as with OTLP/HTTP."""

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], timeout: float, encoder: Encoder | None = None
    ) -> None:
        """``endpoint`` is ``http://host:port`` (plain text) or ``https://host:port``; ``timeout``: seconds of a call;
        ``encoder`` makes the payloads; None: one that lets no e-mail address out.
        """
        self.timeout = timeout
        self._endpoint = urlsplit(endpoint)
        self._metadata = tuple((name.lower(), value) for name, value in headers.items())
        self._encode = encoder or Encoder(Redactor())
        self._call: Any = None
        self._connect()

    @property
    def encoder_health(self) -> EncoderHealth:
        return self._encode.health

    def prepare(self, spans: Sequence[Queued]) -> Prepared:
        return self._encode(spans)

    def deliver(self, payload: Payload) -> Outcome:
        assert isinstance(payload, EncodedPayload)  # of its own making
        try:
            with suppress_instrumentation():  # our own calls are nobody's upstream calls
                self._call = self._export.future(payload.request, timeout=self.timeout, metadata=self._metadata)
                partial = self._call.result().partial_success
        except grpc.RpcError as error:
            return read_error(error.code(), error.details() or "", error.trailing_metadata() or ())
        except Exception as error:  # a call that was cancelled, a channel that was closed
            return Failed(type(error).__name__)
        return Accepted(partial.rejected_spans)

    def abort(self) -> None:
        if self._call is not None:
            self._call.cancel()

    def after_fork(self) -> None:
        # A gRPC channel does not survive a fork. The parent's is left as it is: closing it here would disturb it.
        self._connect()
        self._encode.after_fork()

    def shutdown(self) -> None:
        self.abort()
        self._channel.close()

    def _connect(self) -> None:
        settings: dict[str, Any] = {
            "compression": grpc.Compression.Gzip,
            "options": [("grpc.primary_user_agent", f"otel-usage/{__version__}")],
        }
        encrypted = self._endpoint.scheme == "https"
        if not encrypted or is_loopback(self._endpoint.hostname or ""):
            # A proxy that the environment names would read the token of a call that is not encrypted, and could answer
            # in the sink's place.
            settings["options"].append(("grpc.enable_http_proxy", 0))
        if encrypted:
            self._channel = grpc.secure_channel(self._endpoint.netloc, grpc.ssl_channel_credentials(), **settings)
        else:
            self._channel = grpc.insecure_channel(self._endpoint.netloc, **settings)
        self._export = self._channel.unary_unary(
            _EXPORT, response_deserializer=ExportTraceServiceResponse.FromString
        )  # the request is bytes already


def read_error(code: StatusCode, details: str, trailers: Iterable[tuple[str, Any]]) -> Outcome:
    """What a status means (OTLP specification, "OTLP/gRPC Response" and "OTLP/gRPC Throttling")."""
    word = f"grpc_{code.name.lower()}"
    if code in (StatusCode.RESOURCE_EXHAUSTED, StatusCode.UNAVAILABLE):
        patience = _retry_delay(trailers)
        if patience is not None:
            return RetryLater(min(max(patience, 1.0), LONGEST_PATIENCE))
    if code is StatusCode.RESOURCE_EXHAUSTED:
        return TooLarge() if "larger than max" in details else RetryLater(1.0)  # gRPC's own word for a long message
    if code is StatusCode.INVALID_ARGUMENT:
        return BadData(word)
    if code in _ADVICE:
        return Misconfigured(word, _ADVICE[code])
    return Failed("timeout" if code is StatusCode.DEADLINE_EXCEEDED else word)


_ADVICE: Final[Mapping[StatusCode, str]] = {
    StatusCode.UNAUTHENTICATED: "The sink does not know the token: check AXIOM_API_TOKEN.",
    StatusCode.PERMISSION_DENIED: "The token may not write there: check AXIOM_API_TOKEN and AXIOM_DATASET.",
    StatusCode.UNIMPLEMENTED: "It answers, but not as OTLP/gRPC: check USAGE_OTLP_ENDPOINT and USAGE_OTLP_PROTOCOL.",
    StatusCode.NOT_FOUND: "Check USAGE_OTLP_ENDPOINT: it answers, but not as OTLP/gRPC.",
}


def _retry_delay(trailers: Iterable[tuple[str, Any]]) -> float | None:
    """Seconds that the sink asks to wait, by ``google.rpc.RetryInfo``. None: it does not say."""
    try:
        for name, value in trailers:
            if name == "grpc-status-details-bin":
                for detail in Status.FromString(value).details:
                    info = RetryInfo()
                    if detail.Unpack(info):
                        return float(info.retry_delay.ToTimedelta().total_seconds())
    except (DecodeError, TypeError, OverflowError):
        pass
    return None
