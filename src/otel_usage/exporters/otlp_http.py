"""OTLP over HTTP: one POST with exactly our headers, and an answer that is read."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from email.utils import parsedate_to_datetime
from typing import Any, Final, NamedTuple
from urllib.parse import unquote
from urllib.request import getproxies, proxy_bypass

import urllib3
from google.protobuf.message import DecodeError
from opentelemetry.instrumentation.utils import suppress_instrumentation
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from urllib3.connection import HTTPConnection, HTTPSConnection

from .._version import __version__
from ..endpoints import is_loopback
from ..errors import ConfigError
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

_ANSWER_LIMIT: Final = 1 << 20


class Answer(NamedTuple):
    """What a sink has said."""

    status: int
    headers: Mapping[str, str]
    """In any case."""
    body: bytes


class OtlpHttpExporter(UsageExporter):
    """Sends spans to an OTLP/HTTP endpoint as gzipped protobuf.

    ``OTEL_EXPORTER_OTLP_HEADERS`` is not read: it may hold another vendor's key.
    """

    def __init__(
        self, endpoint: str, headers: Mapping[str, str], timeout: float, encoder: Encoder | None = None
    ) -> None:
        """``endpoint`` is the whole URL; ``headers`` are sent beside OTLP's own; ``timeout``: seconds of an attempt,
        and of each operation on its socket; ``encoder`` makes the payloads;
        None: one that lets no e-mail address out.

        Raises:
            ConfigError: the environment names a proxy for the endpoint that is none.
        """
        self.timeout = timeout
        self._encode = encoder or Encoder(Redactor())
        self._shut_down = False
        self._endpoint = endpoint
        self._headers = {
            "Content-Type": "application/x-protobuf",
            "Content-Encoding": "gzip",
            "User-Agent": f"otel-usage/{__version__}",
            **headers,
        }
        self._connect()

    @property
    def encoder_health(self) -> EncoderHealth:
        return self._encode.health

    def prepare(self, spans: Sequence[Queued]) -> Prepared:
        return self._encode(spans)

    def deliver(self, payload: Payload) -> Outcome:
        assert isinstance(payload, EncodedPayload)  # of its own making
        try:
            return Failed("shutdown") if self._shut_down else read_answer(*self.exchange(payload.body))
        except Exception as error:  # the network's, TLS's, urllib3's: whatever it is, the spans were not taken
            return Failed(_word_for(error))

    def after_fork(self) -> None:
        self._connect()
        self._encode.after_fork()

    def shutdown(self) -> None:
        self._shut_down = True
        self.abort()
        self._pool.clear()

    def _connect(self) -> None:
        self._live: set[HTTPConnection] = set()
        self._pool = _pool(self._endpoint)
        self._pool.pool_classes_by_scheme = _tracked_pools(self._live)

    def exchange(self, body: bytes) -> Answer:
        """Send a gzipped request, and read what the sink says.

        Raises:
            Exception: whatever the network, TLS or urllib3 has to complain about.
        """
        with suppress_instrumentation():  # our own calls are nobody's upstream calls
            response = self._pool.request(
                "POST",
                self._endpoint,
                body=body,
                headers=self._headers,
                timeout=self.timeout,
                retries=False,
                redirect=False,
                preload_content=False,
            )
            answer = response.read(_ANSWER_LIMIT)
            if len(answer) < _ANSWER_LIMIT:
                response.release_conn()
            else:
                response.close()  # more than any sink has to say: the connection is not worth reading empty
            return Answer(response.status, response.headers, answer)

    def abort(self) -> None:
        """Break whatever the attempt is stuck in: a shut-down socket fails its reads at once."""
        for connection in list(self._live):
            sock = getattr(connection, "sock", None)
            if sock is not None:
                with suppress(OSError):
                    socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _word_for(error: Exception) -> str:
    """``timeout``, or the error's class: its message may hold what was sent."""
    if isinstance(error, urllib3.exceptions.NewConnectionError):  # to urllib3 a timeout, though it is a refusal
        return type(error).__name__
    late = isinstance(error, urllib3.exceptions.TimeoutError | TimeoutError)
    return "timeout" if late else type(error).__name__


def read_answer(status: int, headers: Mapping[str, str], body: bytes) -> Outcome:
    """What a sink's answer means (OTLP specification, "OTLP/HTTP Response"; Axiom's API limits)."""
    if 200 <= status < 300:
        return _read_success(headers.get("Content-Type", ""), body)
    if status == 429:
        return RetryLater(_patience(headers))
    if status == 413:
        return TooLarge()
    if status in (400, 422):
        return BadData(f"http_{status}")
    if 400 <= status < 500 and status != 408:
        advice = _ADVICE.get(status, "Check USAGE_OTLP_ENDPOINT: it answers, but not as OTLP/HTTP.")
        return Misconfigured(f"http_{status}", advice)
    # OTLP specification, "OTLP/HTTP Throttling": 503 may come with a Retry-After, too.
    return Failed(f"http_{status}", _patience(headers) if status == 503 and "Retry-After" in headers else 0.0)


_ADVICE: Final[Mapping[int, str]] = {
    401: "The sink does not know the token: check AXIOM_API_TOKEN.",
    403: "The token may not ingest into this dataset: check AXIOM_API_TOKEN, AXIOM_DATASET and AXIOM_DOMAIN.",
    404: "There is no such dataset or path: check AXIOM_DATASET, AXIOM_DOMAIN and USAGE_OTLP_ENDPOINT.",
}


def _read_success(content_type: str, body: bytes) -> Outcome:
    if not body:
        return Accepted()
    content_type = content_type.lower()
    try:
        if content_type.startswith("application/json"):
            partial: Any = json.loads(body).get("partialSuccess") or {}
            return Accepted(int(partial.get("rejectedSpans", 0)))
        if content_type.startswith(("application/x-protobuf", "application/protobuf")):
            success = ExportTraceServiceResponse.FromString(body).partial_success
            return Accepted(success.rejected_spans)
    except (DecodeError, ValueError, AttributeError, TypeError, OverflowError, RecursionError):
        pass
    return Failed("unreadable_answer")


def _patience(headers: Mapping[str, str]) -> float:
    """Seconds to wait: ``Retry-After`` (RFC 9110), else Axiom's ``X-RateLimit-Reset``, else a second."""
    asked = headers.get("Retry-After") or headers.get("X-RateLimit-Reset") or "1"
    try:
        is_number = asked.strip().isdigit()
        seconds = int(asked) if is_number else parsedate_to_datetime(asked).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 1.0
    if seconds > 1e9:  # a moment, not a duration
        seconds -= time.time()
    return min(max(seconds, 1.0), LONGEST_PATIENCE)


def _pool(endpoint: str) -> urllib3.PoolManager:
    """A connection pool, through the proxy that the environment names for the endpoint, if any."""
    url = urllib3.util.parse_url(endpoint)
    host = (url.host or "").strip("[]")
    # A proxy would read the token of a request to this machine, which is not encrypted.
    proxy = None if is_loopback(host) or proxy_bypass(host) else getproxies().get(url.scheme or "")
    if not proxy:
        return urllib3.PoolManager(maxsize=1)
    pool = _through(proxy if "://" in proxy else f"http://{proxy}")
    if pool is None:
        raise ConfigError(f"{url.scheme}_proxy", None, "an HTTP proxy's URL, such as http://proxy:3128")
    return pool


def _through(proxy: str) -> urllib3.ProxyManager | None:
    """A connection pool through ``proxy``. None if that is no URL of one: urllib3's error would hold its password."""
    try:
        login = urllib3.util.parse_url(proxy).auth
        headers = urllib3.make_headers(proxy_basic_auth=unquote(login)) if login else None
        return urllib3.ProxyManager(proxy, proxy_headers=headers, maxsize=1)
    except ValueError:  # urllib3's errors about URLs and their schemes
        return None


def _tracked_pools(live: set[HTTPConnection]) -> dict[str, type[urllib3.HTTPConnectionPool]]:
    """urllib3's pools with connections that put themselves into ``live`` while they have a socket."""

    class Tracks(HTTPConnection):
        def connect(self) -> None:
            live.add(self)
            super().connect()

        def close(self) -> None:
            live.discard(self)
            super().close()

    class TracksTls(Tracks, HTTPSConnection):
        pass

    class Pool(urllib3.HTTPConnectionPool):
        ConnectionCls = Tracks

    class TlsPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = TracksTls

    return {"http": Pool, "https": TlsPool}
