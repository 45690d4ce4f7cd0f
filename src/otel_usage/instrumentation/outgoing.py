"""What a call sends, for libraries that take headers as a mapping and a body as Python's http.client does.

The application's own mapping and body are left as they are: a call is made with others that stand in for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..attempt import UpstreamAttempt

_BAGGAGE: Final = "baggage"


class Lines(Mapping[Any, Any]):
    """Headers as they are to be sent: the application's, but for its baggage, and the lines of baggage that may go."""

    def __init__(self, headers: Mapping[Any, Any], lines: list[str]) -> None:
        self._headers = headers
        self._lines = [(_BAGGAGE, line) for line in lines]

    def __getitem__(self, name: Any) -> Any:
        return self._headers[name]

    def __iter__(self) -> Iterator[Any]:
        return (name for name, _ in self.items())

    def __len__(self) -> int:
        return len(self.items())

    def items(self) -> list[tuple[Any, Any]]:  # type: ignore[override]  # those who send headers only go through them
        return [*(item for item in self._headers.items() if not _is_baggage(item[0])), *self._lines]


def headers_for(attempt: UpstreamAttempt, headers: Mapping[Any, Any] | None, port: int | None) -> Any:
    """The headers of an attempt on its way to its host: the same object where nothing is to be changed."""
    headers = headers or {}
    own = [value for name, value in headers.items() if _is_baggage(name)]
    if not own and not attempt.recorder.baggage.tells:
        return headers
    before = ",".join(map(_text, own))
    after, ours = attempt.baggage(before, attempt.host or "", port)
    return headers if after == before and not ours else Lines(headers, list(filter(None, (after, ours))))


def _is_baggage(name: Any) -> bool:
    return len(name) == len(_BAGGAGE) and _text(name).lower() == _BAGGAGE


def _text(said: Any) -> str:
    return said.decode("latin-1") if isinstance(said, bytes) else said


def body_for(attempt: UpstreamAttempt, body: Any, block: int, encoding: str) -> tuple[Any, int]:
    """What is to be sent as the body, and its length in bytes where it is in memory.

    One that is not is counted as it goes. ``block``: bytes of a file that are read at once; ``encoding``: of text.
    """
    if body is None:
        return None, 0
    if isinstance(body, bytes):
        return body, len(body)
    if isinstance(body, str):
        return body, len(body.encode(encoding))
    if hasattr(body, "__aiter__"):
        return _counted_async(attempt, body), 0
    if hasattr(body, "read"):
        return _counted(attempt, _parts(body, block), encoding), 0
    try:
        return body, memoryview(body).nbytes
    except TypeError:
        return _counted(attempt, body, encoding), 0


def _parts(file: Any, block: int) -> Iterator[Any]:
    while part := file.read(block):
        yield part


def _counted(attempt: UpstreamAttempt, parts: Iterable[Any], encoding: str) -> Iterator[Any]:
    for part in parts:
        data = part.encode(encoding) if isinstance(part, str) else part
        yield data
        attempt.sent += memoryview(data).nbytes


async def _counted_async(attempt: UpstreamAttempt, parts: AsyncIterable[bytes]) -> AsyncIterator[bytes]:
    async for data in parts:
        yield data
        attempt.sent += memoryview(data).nbytes
