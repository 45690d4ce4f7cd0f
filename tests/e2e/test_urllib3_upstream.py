"""urllib3, requests and urllib, in what the suite of clients does not ask of each: bodies of every kind, proxies, TLS,
and that a response under observation is what it is without.
"""

from __future__ import annotations

import contextlib
import copy
import gc
import http.client
import io
import pickle
import socket
import ssl
import threading
import tracemalloc
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any, Final

import pytest
import requests
import requests_cache
import trustme
import urllib3
from opentelemetry.instrumentation.requests import RequestsInstrumentor
from opentelemetry.instrumentation.urllib3 import URLLib3Instrumentor
from opentelemetry.instrumentation.utils import suppress_http_instrumentation, suppress_instrumentation
from opentelemetry.sdk.trace import TracerProvider

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.clients.upstream import STORED, Upstream, upstream
from tests.servers import free_port, listening

pytestmark = pytest.mark.usefixtures("usage_on")


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[urllib3.PoolManager]:
    with urllib3.PoolManager(timeout=5) as manager:
        yield manager


@pytest.fixture(autouse=True)
def nothing_fails() -> Iterator[None]:
    yield
    assert internal_errors() == {}


def recorded(stub: AxiomStub, n: int = 1) -> list[ReceivedSpan]:
    """The spans that were recorded: these and no more, by their start."""
    assert usage.flush(5).complete
    assert len(stub.spans) == n, [span.name for span in stub.spans]
    return sorted(stub.spans, key=lambda span: span.start_time)


def sizes(span: ReceivedSpan) -> tuple[Any, Any]:
    return span.attributes["http.request.body.size"], span.attributes["http.response.body.size"]


LENGTH: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\n"
CHUNKED: Final = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
LINES: Final = b"one\ntwo\nthree, four\n"
ANSWERS: Final = {
    "of a length": LENGTH + LINES,
    "of a length, cut short": LENGTH + LINES[:7],
    "in chunks": CHUNKED + b"5\r\none\nt\r\n1\r\nw\r\ne\r\no\nthree, four\n\r\n0\r\n\r\n",
    "in chunks, with a trailer": CHUNKED + b"5\r\none\nt\r\n0\r\nX-Sum: 1\r\n\r\n",
    "in chunks, cut in one": CHUNKED + b"5\r\none\nt\r\nf\r\nwo\nth",
    "in chunks, cut between": CHUNKED + b"5\r\none\nt\r\n",
    "in chunks of no size": CHUNKED + b"5\r\none\nt\r\nsize\r\n",
    "to its end": b"HTTP/1.1 200 OK\r\n\r\n" + LINES,
    "empty": b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
    "empty, in chunks": CHUNKED + b"0\r\n\r\n",
    "none": b"HTTP/1.1 204 No Content\r\n\r\n",
}
BODY_SIZES: Final = {
    "of a length": 20, "of a length, cut short": 7, "in chunks": 20, "in chunks, with a trailer": 5,
    "in chunks, cut in one": 10, "in chunks, cut between": 5, "in chunks of no size": 5, "to its end": 20,
    "empty": 0, "empty, in chunks": 0, "none": 0,
}  # fmt: skip
BROKEN: Final = {
    "of a length, cut short", "in chunks, cut in one", "in chunks, cut between", "in chunks of no size",
}  # fmt: skip


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """A server that reads a request, sends these bytes and closes the connection."""
    sock = listening()

    def serve() -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = sock.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(answer)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield f"http://127.0.0.1:{sock.getsockname()[1]}/"
    finally:
        sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        thread.join(5)


def with_urllib3(read: Callable[[Any], Any]) -> Callable[[str], Any]:
    def call(url: str) -> Any:
        with urllib3.PoolManager(retries=False) as manager:
            response = manager.request("GET", url, preload_content=False)
            try:
                return read(response), response.closed, response.tell()
            finally:
                response.close()

    return call


def with_urllib(read: Callable[[Any], Any]) -> Callable[[str], Any]:
    def call(url: str) -> Any:
        with urllib.request.urlopen(url) as response:
            return read(response), response.isclosed(), type(response)

    return call


def preloaded(url: str) -> Any:
    with urllib3.PoolManager(retries=False) as manager:
        response = manager.request("GET", url)
        return response.data, response.closed


def with_requests(url: str) -> Any:
    with requests.Session() as session:
        return session.get(url).content


def into(size: int) -> Callable[[Any], list[bytes]]:
    def read(response: Any) -> list[bytes]:
        parts = []
        buffer = bytearray(size)
        while count := response.readinto(buffer):
            parts.append(bytes(buffer[:count]))
        return parts

    return read


def until_empty(method: str, *args: Any) -> Callable[[Any], list[bytes]]:
    return lambda response: list(iter(lambda: getattr(response, method)(*args), b""))


WAYS: Final[dict[str, Callable[[str], Any]]] = {
    "urllib3 preloads": preloaded,
    "urllib3 reads": with_urllib3(lambda response: response.read()),
    "urllib3 reads parts": with_urllib3(until_empty("read", 3)),
    "urllib3 reads what is there": with_urllib3(until_empty("read1", 100)),
    "urllib3 streams": with_urllib3(lambda response: list(response.stream(3))),
    "urllib3 reads lines": with_urllib3(list),
    "requests": with_requests,
    "urllib reads": with_urllib(lambda response: response.read()),
    "urllib reads by name": with_urllib(lambda response: [response.read(amt=100) for _ in range(2)]),
    "urllib reads parts": with_urllib(until_empty("read", 3)),
    "urllib reads what is there": with_urllib(until_empty("read1", 100)),
    "urllib reads lines": with_urllib(list),
    "urllib reads into a buffer": with_urllib(into(3)),
}


def outcome(call: Callable[[], Any]) -> Any:
    """What a call returns, or how it fails: the error and all that it comes from."""
    try:
        return call()
    except Exception as error:
        described = []
        cause: BaseException | None = error
        while cause is not None:
            described.append((type(cause), getattr(cause, "partial", None)))
            cause = cause.__cause__ or cause.__context__
        return described


class TestTheBody:
    """It is counted as it comes, and read as if nobody counted."""

    @pytest.mark.parametrize("answer", ANSWERS)
    @pytest.mark.parametrize("way", WAYS)
    def test_every_way_of_reading_is_as_without_us_and_counts_what_came(
        self, stub: AxiomStub, way: str, answer: str
    ) -> None:
        with answering(ANSWERS[answer]) as url:
            with suppress_instrumentation():
                without_us = outcome(lambda: WAYS[way](url))
            assert outcome(lambda: WAYS[way](url)) == without_us
        (span,) = recorded(stub)
        assert sizes(span) == (0, BODY_SIZES[answer])
        assert span.attributes.get("usage.aborted") == (True if answer in BROKEN else None)
        assert ("error.type" in span.attributes) == (answer in BROKEN)

    def test_a_large_body_is_counted_in_each_way(
        self, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        url = f"{server.url}/bytes/3000000"
        assert len(pool.request("GET", url).data) == 3_000_000
        assert len(requests.get(url, timeout=5).content) == 3_000_000
        with urllib.request.urlopen(url, timeout=5) as response:
            assert len(response.read()) == 3_000_000
        assert [sizes(span) for span in recorded(stub, 3)] == [(0, 3_000_000)] * 3

    def test_a_large_body_is_in_memory_once(self, stub: AxiomStub) -> None:
        size = 32 * 1024 * 1024
        with (
            answering(LENGTH.replace(b": 20", b": %d" % size) + bytes(size)) as url,
            urllib.request.urlopen(url) as response,
        ):
            tracemalloc.start()
            try:
                data = response.read()
                _, most = tracemalloc.get_traced_memory()
            finally:
                tracemalloc.stop()
        assert len(data) == size
        assert most < 1.5 * size
        assert sizes(recorded(stub)[0]) == (0, size)

    @pytest.mark.parametrize("call", ["pool", "urllib"])
    def test_what_is_read_in_small_pieces_is_asked_of_the_socket_in_large_ones(
        self, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager, monkeypatch: pytest.MonkeyPatch, call: str
    ) -> None:
        url = f"{server.url}/bytes/50000"
        response: Any = (
            pool.request("GET", url, preload_content=False) if call == "pool" else urllib.request.urlopen(url)
        )
        asked: list[int] = []
        readinto = socket.SocketIO.readinto

        def counted(self: Any, buffer: Any) -> Any:
            asked.append(len(buffer))
            return readinto(self, buffer)

        with response, monkeypatch.context() as patch:
            patch.setattr(socket.SocketIO, "readinto", counted)
            assert sum(len(response.read(10)) for _ in range(5000)) == 50_000
        assert min(asked) >= 1000
        assert sizes(recorded(stub)[0]) == (0, 50_000)

    def test_a_body_that_is_read_of_another_file_is_read_as_without_us(self, stub: AxiomStub, server: Upstream) -> None:
        class Plain:  # not buffered, as that of a socket that stands in for one
            def __init__(self, file: Any) -> None:
                self.read, self.readline, self.close, self.flush = file.read, file.readline, file.close, file.flush

        class Response(http.client.HTTPResponse):
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                super().__init__(*args, **kwargs)
                self.fp: Any = Plain(self.fp)

        class Connection(http.client.HTTPConnection):
            response_class = Response

        class Handler(urllib.request.HTTPHandler):
            def http_open(self, request: Any) -> Any:
                return self.do_open(Connection, request)

        opener = urllib.request.build_opener(Handler)
        with opener.open(f"{server.url}/bytes/5000") as response:
            assert len(response.read(10) + response.read()) == 5000
        with opener.open(f"{server.url}/chunks/3") as response:
            assert len(response.read()) == 3000
        assert [sizes(span) for span in recorded(stub, 2)] == [(0, 5000), (0, 3000)]

    def test_what_came_before_a_time_out_is_counted(self, stub: AxiomStub) -> None:
        sock = listening()
        with sock, urllib3.PoolManager(timeout=0.2, retries=False) as manager:
            url = f"http://127.0.0.1:{sock.getsockname()[1]}/"

            def serve() -> None:
                connection, _ = sock.accept()
                with connection:
                    connection.recv(65536)
                    connection.sendall(LENGTH + LINES[:7])
                    connection.recv(1)  # until the client has gone

            thread = threading.Thread(target=serve)
            thread.start()
            with pytest.raises(urllib3.exceptions.ReadTimeoutError):
                manager.request("GET", url)
            thread.join(5)
        (span,) = recorded(stub)
        assert sizes(span) == (0, 7)
        assert span.attributes["error.type"] == "TimeoutError"
        assert span.attributes["usage.aborted"] is True

    def test_the_response_is_its_own_again_when_its_body_is_over(
        self, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        response = pool.request("GET", f"{server.url}/bytes/10", preload_content=False)
        beneath = response._original_response  # type: ignore[attr-defined]
        assert isinstance(beneath, http.client.HTTPResponse)
        assert repr(type(beneath)) == repr(http.client.HTTPResponse)
        response.read()
        assert type(beneath) is http.client.HTTPResponse
        assert not [name for name in vars(beneath) if "usage" in name]
        assert not [name for name in vars(http.client.HTTPResponse) if "usage" in name]
        recorded(stub)

    def test_a_response_that_nobody_reads_or_closes_is_given_up(self, stub: AxiomStub, server: Upstream) -> None:
        with suppress_instrumentation():
            manager = urllib3.PoolManager()
        response = manager.request("GET", f"{server.url}/bytes/1000000", preload_content=False)
        response.release_conn()
        del response
        manager.clear()
        gc.collect()
        (span,) = recorded(stub)
        assert span.attributes["usage.aborted"] is True

    def test_one_that_is_read_on_when_usage_is_off_is_read_to_its_end(
        self, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        response = pool.request("GET", f"{server.url}/chunks/3", preload_content=False)
        parts = response.stream(100)
        first = next(parts)
        usage.uninstrument()
        assert len(first) + sum(map(len, parts)) == 3000


class TestWhatIsSent:
    """The bytes of a request's body, which goes as it would without us."""

    @pytest.mark.parametrize(
        ("make", "size"),
        [
            (lambda: b"bytes", 5),
            (lambda: "grün", 5),
            (lambda: bytearray(b"buffer"), 6),
            (lambda: memoryview(b"view"), 4),
            (lambda: io.BytesIO(b"a file"), 6),
            (lambda: io.StringIO("a grün file"), 12),
            (lambda: iter([b"in ", b"parts"]), 8),
            (lambda: [b"in a ", b"list"], 9),
            (lambda: iter(["as ", "text"]), 7),
            (lambda: b"", 0),
            (lambda: None, 0),
        ],
        ids=["bytes", "text", "buffer", "view", "file", "text file", "iterator", "list", "text parts", "empty", "none"],
    )
    def test_every_kind_of_body_is_counted(
        self, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager, make: Callable[[], Any], size: int
    ) -> None:
        server.bodies.clear()
        url = f"{server.url}/stored/it"
        with suppress_instrumentation():
            pool.request("POST", url, body=make())
        assert pool.request("POST", url, body=make()).data == STORED
        without_us, with_us = server.bodies
        assert with_us == without_us
        (span,) = recorded(stub)
        assert sizes(span) == (size, len(STORED))

    def test_a_file_is_read_from_where_it_was_when_it_is_sent_again(
        self, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        file = io.BytesIO(b"not this, but this")
        file.seek(10)
        server.bodies.clear()
        again = urllib3.Retry(2, status_forcelist=[503], allowed_methods=None)
        pool.request("PUT", f"{server.url}/flaky/file", body=file, retries=again)
        assert [body for _, body in server.bodies] == [b"but this"] * 3
        assert [sizes(span)[0] for span in recorded(stub, 3)] == [8] * 3

    def test_headers_of_the_application_are_left_alone(
        self, switch_on: Callable[..., None], stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        usage.uninstrument()
        switch_on(baggage_key="k1:0123456789abcdef0123456789abcdef", baggage_hosts={"127.0.0.1"})
        headers = urllib3.HTTPHeaderDict({"baggage": "own=1", "x-one": "a"})
        headers.add("x-one", "b")
        before = list(headers.iteritems())
        server.baggage.clear()
        with usage.usage_span("work"):
            usage.identify(customer_id="acme")
            pool.request("GET", f"{server.url}/bytes/1", headers=headers)
            request = urllib.request.Request(f"{server.url}/bytes/2", headers={"baggage": "own=1"})
            urllib.request.urlopen(request).close()
        assert list(headers.iteritems()) == before
        assert request.headers == {"Baggage": "own=1"}
        for path in ("/bytes/1", "/bytes/2"):
            ((own, ours),) = server.baggage[path]
            assert own == "own=1"
            assert ours.startswith("usage.customer.id=acme,")
        recorded(stub, 3)

    @pytest.mark.parametrize(
        "sees",
        [dict, lambda headers: headers.copy(), lambda headers: headers],
        ids=["made a dict", "copied", "changed"],
    )
    def test_a_connection_of_the_applications_own_class_can_work_with_the_headers(
        self, switch_on: Callable[..., None], stub: AxiomStub, server: Upstream, sees: Callable[[Any], Any]
    ) -> None:
        class Signing(urllib3.connection.HTTPConnection):
            def request(self, method: str, url: str, body: Any = None, headers: Any = None, **more: Any) -> None:
                headers = sees(headers)
                assert headers["x-one"] == headers.get("x-one") == "a"
                assert "x-two" not in headers
                assert len(headers) == len(list(headers)) == len(headers.keys())
                headers["x-two"] = "b"
                headers["x-three"] = headers.pop("x-one")
                super().request(method, url, body=body, headers=headers, **more)

        usage.uninstrument()
        switch_on(baggage_key="k1:0123456789abcdef0123456789abcdef", baggage_hosts={"127.0.0.1"})
        own = {"x-one": "a", "Baggage": "own=1"}
        server.baggage.clear()
        with urllib3.HTTPConnectionPool("127.0.0.1", server.server_port) as pool, usage.usage_span("work"):
            pool.ConnectionCls = Signing  # type: ignore[assignment]  # typed as what it is by default
            usage.identify(customer_id="acme")
            assert pool.request("GET", "/bytes/1", headers=own, retries=False).data == b"x"
        assert own == {"x-one": "a", "Baggage": "own=1"}
        (lines,) = server.baggage["/bytes/1"]
        assert ",".join(lines).startswith("own=1,usage.customer.id=acme,")
        recorded(stub, 2)

    def test_the_customer_is_told_where_the_connection_leads_and_not_what_is_said(
        self, switch_on: Callable[..., None], stub: AxiomStub, server: Upstream
    ) -> None:
        usage.uninstrument()
        trusted = f"127.0.0.1:{free_port()}"
        switch_on(baggage_key="k1:0123456789abcdef0123456789abcdef", baggage_hosts={trusted})
        host, _, port = server.url.removeprefix("http://").partition(":")
        server.baggage.clear()
        request = urllib.request.Request(f"http://{trusted}/bytes/1", headers={"host": trusted})
        request.host = f"{host}:{port}"
        with usage.usage_span("work"), urllib3.HTTPConnectionPool(host, int(port)) as one:
            usage.identify(customer_id="acme")
            one.urlopen("GET", f"http://{trusted}/bytes/1", assert_same_host=False, headers={"host": trusted})
            urllib.request.urlopen(request).close()
        assert list(server.baggage.values()) == [[[], []]]
        recorded(stub, 3)


class TestAttempts:
    def test_a_request_to_nobody_is_an_attempt_each_time_that_it_is_tried(self, stub: AxiomStub) -> None:
        nowhere = f"http://127.0.0.1:{free_port()}/"
        with urllib3.PoolManager() as manager, pytest.raises(urllib3.exceptions.MaxRetryError):
            manager.request("GET", nowhere, retries=urllib3.Retry(2))
        spans = recorded(stub, 3)
        assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
        assert {span.attributes["error.type"] for span in spans} == {"urllib3.exceptions.NewConnectionError"}

    def test_a_connection_that_is_waited_for_in_vain_is_no_attempt(self, stub: AxiomStub, server: Upstream) -> None:
        host, _, port = server.url.removeprefix("http://").partition(":")
        with urllib3.HTTPConnectionPool(host, int(port), maxsize=1, block=True) as one:
            held = one.request("GET", "/bytes/10", preload_content=False)
            with pytest.raises(urllib3.exceptions.EmptyPoolError):
                one.urlopen("GET", "/bytes/10", pool_timeout=0.05)
            held.read()
            held.release_conn()
        recorded(stub)

    def test_a_session_may_be_copied_and_pickled(self, stub: AxiomStub, server: Upstream) -> None:
        with requests.Session() as session:
            session.get(f"{server.url}/bytes/1")
            for other in (copy.copy(session), pickle.loads(pickle.dumps(session))):
                assert other.get(f"{server.url}/bytes/1").content == b"x"
                other.close()
            answer = pickle.loads(pickle.dumps(session.get(f"{server.url}/bytes/5")))
        assert answer.content == b"xxxxx"
        recorded(stub, 4)

    def test_a_call_that_another_hook_makes_within_one_is_no_resending(self, stub: AxiomStub, server: Upstream) -> None:
        with requests.Session() as session, requests.Session() as other:

            def log(response: requests.Response, *_: Any, **__: Any) -> None:
                other.get(f"{server.url}/bytes/2")

            session.get(f"{server.url}/bytes/1", hooks={"response": log})
        assert [span.attributes.get("http.request.resend_count") for span in recorded(stub, 2)] == [None, None]

    def test_a_cached_answer_is_no_attempt(self, stub: AxiomStub, server: Upstream) -> None:
        with requests_cache.CachedSession(backend="memory") as session:
            assert [session.get(f"{server.url}/bytes/9").from_cache for _ in range(2)] == [False, True]
        assert sizes(recorded(stub)[0]) == (0, 9)

    def test_a_connection_that_stands_in_for_another_is_observed_each_time(
        self, stub: AxiomStub, server: Upstream
    ) -> None:
        class Standing(urllib3.connection.HTTPConnection):  # as vcrpy's, which hands on whatever is set
            def __init__(self, *args: Any, **kwargs: Any) -> None:
                self.other = urllib3.connection.HTTPConnection(*args, **kwargs)
                super().__init__(*args, **kwargs)

            def __setattr__(self, name: str, value: Any) -> None:
                if "other" in vars(self):
                    setattr(self.other, name, value)
                super().__setattr__(name, value)

            def request(self, *args: Any, **kwargs: Any) -> None:
                self.other.request(*args, **kwargs)

            def getresponse(self) -> Any:
                return self.other.getresponse()

            def close(self) -> None:
                self.other.close()

        with urllib3.HTTPConnectionPool("127.0.0.1", server.server_port) as pool:
            pool.ConnectionCls = Standing  # type: ignore[assignment]  # as above
            for size in (1, 2, 3):
                assert len(pool.request("GET", f"/bytes/{size}").data) == size
        assert [sizes(span) for span in recorded(stub, 3)] == [(0, 1), (0, 2), (0, 3)]

    def test_http_client_alone_is_not_observed(self, stub: AxiomStub, server: Upstream) -> None:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"))
        connection.request("POST", "/stored/it", iter([b"one", b"two"]), encode_chunked=True)
        assert connection.getresponse().read() == STORED
        connection.close()
        recorded(stub, 0)


class TestProxies:
    """A call is one of the host that it is for, whatever stands between."""

    @pytest.mark.parametrize("client", ["urllib3", "requests", "urllib"])
    def test_one_that_is_told_the_whole_url(self, stub: AxiomStub, server: Upstream, client: str) -> None:
        url = "http://prices.example/bytes/7"
        if client == "urllib3":
            with urllib3.ProxyManager(server.url) as manager:
                assert manager.request("GET", url).data == b"x" * 7
        elif client == "requests":
            assert requests.get(url, proxies={"http": server.url}, timeout=5).content == b"x" * 7
        else:
            opener = urllib.request.build_opener(urllib.request.ProxyHandler({"http": server.url}))
            with opener.open(url) as response:
                assert response.read() == b"x" * 7
        (span,) = recorded(stub)
        assert span.attributes["server.address"] == "prices.example"
        assert sizes(span) == (0, 7)

    @pytest.mark.parametrize("through", [True, False])
    @pytest.mark.parametrize("client", ["urllib3", "requests", "urllib"])
    def test_one_that_passes_tls_through_or_does_not(self, stub: AxiomStub, client: str, through: bool) -> None:
        authority = trustme.CA()
        with _tls_upstream(authority) as port, _tunnel(through) as proxy:
            url = f"https://localhost:{port}/"
            assert outcome(lambda: _over_tls(client, url, proxy, authority)) == b"hello" or not through
        (span,) = recorded(stub)
        assert span.attributes["server.address"] == "localhost"
        if through:
            assert (span.attributes["http.response.status_code"], *sizes(span)) == (200, 0, 5)
        else:
            assert span.attributes["error.type"]
            assert "http.response.status_code" not in span.attributes


def _over_tls(client: str, url: str, proxy: str, authority: trustme.CA) -> bytes:
    trusting = ssl.create_default_context()
    authority.configure_trust(trusting)
    if client == "urllib3":
        with urllib3.ProxyManager(proxy, ssl_context=trusting, retries=False) as manager:
            return manager.request("GET", url).data
    if client == "requests":
        with authority.cert_pem.tempfile() as bundle:
            return requests.get(url, proxies={"https": proxy}, verify=bundle, timeout=5).content
    handlers = urllib.request.ProxyHandler({"https": proxy}), urllib.request.HTTPSHandler(context=trusting)
    with urllib.request.build_opener(*handlers).open(url) as response:
        return bytes(response.read())


@contextlib.contextmanager
def _serving(handle: Callable[[socket.socket], None]) -> Iterator[int]:
    """A server of one connection."""
    sock = listening()

    def serve() -> None:
        with contextlib.suppress(OSError):
            connection, _ = sock.accept()
            with connection:
                connection.settimeout(10)
                handle(connection)

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        yield sock.getsockname()[1]
    finally:
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)
        sock.close()
        thread.join(10)


@contextlib.contextmanager
def _tls_upstream(authority: trustme.CA) -> Iterator[int]:
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(serving)

    def handle(connection: socket.socket) -> None:
        with serving.wrap_socket(connection, server_side=True) as secure:
            secure.recv(65536)
            secure.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello")

    with _serving(handle) as port:
        yield port


@contextlib.contextmanager
def _tunnel(through: bool) -> Iterator[str]:
    def handle(connection: socket.socket) -> None:
        asked = connection.recv(65536).split()[1]
        if not through:
            connection.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
            return
        host, _, port = asked.decode().partition(":")
        with socket.create_connection((host, int(port)), 10) as onward:
            connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(onward, connection))
            back.start()
            _pass_on(connection, onward)
            back.join(10)

    with _serving(handle) as port:
        yield f"http://127.0.0.1:{port}"


def _pass_on(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.fixture
def officially_traced() -> Iterator[None]:
    instrumentors = RequestsInstrumentor(), URLLib3Instrumentor()
    for each in instrumentors:
        each.instrument(tracer_provider=TracerProvider())
    yield
    for each in instrumentors:
        each.uninstrument()


class TestSuppression:
    """An application's wish not to be observed is heeded. That of an official instrumentation, for what is beneath it,
    is about tracing.
    """

    @pytest.mark.parametrize("suppress", [suppress_instrumentation, suppress_http_instrumentation])
    @pytest.mark.parametrize("traced", [False, True])
    def test_an_applications(
        self,
        request: pytest.FixtureRequest,
        stub: AxiomStub,
        server: Upstream,
        pool: urllib3.PoolManager,
        suppress: Any,
        traced: bool,
    ) -> None:
        if traced:
            request.getfixturevalue("officially_traced")
        with suppress():
            pool.request("GET", f"{server.url}/bytes/1")
            requests.get(f"{server.url}/bytes/1", timeout=5)
            urllib.request.urlopen(f"{server.url}/bytes/1", timeout=5).close()
        recorded(stub, 0)

    def test_an_official_instrumentations(
        self, officially_traced: None, stub: AxiomStub, server: Upstream, pool: urllib3.PoolManager
    ) -> None:
        pool.request("GET", f"{server.url}/bytes/1")
        requests.get(f"{server.url}/bytes/1", timeout=5)
        recorded(stub, 2)
