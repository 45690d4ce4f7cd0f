"""``python -m benchmarks.sink_server``: takes whatever is posted on loopback, and keeps it as it came.

Nothing is decoded before ``GET /stats`` asks, so that it costs next to nothing while something is measured. It stands
in for the services of apitally and moesif as well. The first line that it prints is its port.
"""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from typing import Any, Final

from benchmarks.cores import stay_on

Post = tuple[str, str, bytes]
"""Path, content encoding, body as it was sent."""

JSON: Final = "application/json"
ANSWERS: Final = {
    # What moesif's client asks for when it starts.
    "/v1/config": b'{"sample_rate":100,"user_sample_rate":{},"company_sample_rate":{}}',
    "/v1/rules": b"[]",
}


class Sink:
    """What was posted since the last reset."""

    def __init__(self) -> None:
        self._posts: list[Post] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one connection for as long as it lasts."""
        try:
            while True:
                writer.write(self._answer(*await read_request(reader)))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    def _answer(self, method: str, path: str, encoding: str, body: bytes) -> bytes:
        if path in ANSWERS:
            return response(ANSWERS[path], JSON)
        if method == "POST":
            self._posts.append((path, encoding, body))
            # An empty ExportTraceServiceResponse has no bytes.
            return response(b"", JSON, "201 Created") if "/events" in path else response(b"", "application/x-protobuf")
        if path == "/reset":
            self._posts.clear()
        return response(json.dumps(stats(self._posts)).encode(), JSON)


def response(body: bytes, content_type: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


async def read_request(reader: asyncio.StreamReader) -> tuple[str, str, str, bytes]:
    """Method, path without its query, content encoding, and body."""
    first, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").strip().split("\r\n")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding", "").lower() == "chunked":
        body = await _chunks(reader)
    else:
        body = await reader.readexactly(int(headers.get("content-length", 0)))
    method, target, _ = first.split(" ", 2)
    return method, target.partition("?")[0], headers.get("content-encoding", ""), body


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    parts = []
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        parts.append(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readexactly(2)
    return b"".join(parts)


def stats(posts: list[Post]) -> dict[str, int]:
    """Posts, their bytes as sent, the OTLP spans, and other events in them."""
    return {
        "posts": len(posts),
        "wire_bytes": sum(len(body) for _, _, body in posts),
        "spans": sum(spans_in(decoded(post)) for post in posts if post[0].endswith("/v1/traces")),
        "events": sum(events_in(decoded(post)) for post in posts if "/events" in post[0]),
    }


def decoded(post: Post) -> bytes:
    _, encoding, body = post
    return gzip.decompress(body) if encoding == "gzip" else body  # also members that stand one after the other


def spans_in(body: bytes) -> int:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest.FromString(body)
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def events_in(body: bytes) -> int:
    found: Any = json.loads(body)
    return len(found) if isinstance(found, list) else 1


async def main() -> None:
    server = await asyncio.start_server(Sink().serve, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    # Whoever started it holds the other end of its standard input, and ends it by ending.
    await asyncio.get_running_loop().run_in_executor(None, os.read, 0, 1)
    os._exit(0)


if __name__ == "__main__":
    stay_on(first=False)
    asyncio.run(main())
