"""OTLP over gRPC: the official exporter, within our deadline and with exactly our headers."""

from __future__ import annotations

from collections.abc import Mapping

from grpc import Compression, StatusCode  # type: ignore[import-untyped]  # grpcio comes without types
from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter

from .._version import __version__
from .outcome import ForeignExporter


class OtlpGrpcExporter(ForeignExporter):
    """The official exporter says success or failure and no more, so a partial success counts as a success."""

    def __init__(self, endpoint: str, headers: Mapping[str, str], timeout: float) -> None:
        """``endpoint`` is ``http://host:port`` (plain text) or ``https://host:port``; ``timeout``: seconds."""
        self._settings = (endpoint, headers, timeout)
        super().__init__(self._connect())

    def after_fork(self) -> None:
        # A gRPC channel does not survive a fork. The parent's is left as it is: closing it here would disturb it.
        self._exporter = self._connect()

    def _connect(self) -> OTLPSpanExporter:
        endpoint, headers, timeout = self._settings
        # Never empty: the official exporter fills empty headers from OTEL_EXPORTER_OTLP_HEADERS.
        metadata = {"x-otel-usage": __version__, **{name.lower(): value for name, value in headers.items()}}
        return OTLPSpanExporter(
            endpoint=endpoint,
            insecure=endpoint.lower().startswith("http://"),
            headers=metadata,
            timeout=timeout,
            compression=Compression.Gzip,
            # Not a code of failures, so that nothing is retried inside: when to try again is the breaker's to say.
            retryable_error_codes=(StatusCode.OK,),
        )
