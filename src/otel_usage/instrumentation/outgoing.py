"""What a call sends, for libraries that take headers as a mapping and a body as Python's http.client does.

The application's own mapping and body are left as they are: a call is made with others that stand in for them.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator, Mapping, MutableMapping
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from ..attempt import UpstreamAttempt

_BAGGAGE: Final = "baggage"
_LONG: Final = len(_BAGGAGE)


class Lines(MutableMapping[Any, Any]):
    """Headers as they are to be sent: a copy of the application's, but for its baggage, and the lines of baggage that
    may go.

    A connection of the application's own class, or of a recorder of HTTP, may look at them, copy them and add to them,
    as it does with the mapping that they stand in for.
    """

    def __init__(self, headers: Mapping[Any, Any], lines: list[str]) -> None:
        copied: MutableMapping[Any, Any] = headers.copy() if hasattr(headers, "copy") else dict(headers.items())
        for name in [name for name in copied if _is_baggage(name)]:
            del copied[name]
        self._headers = copied
        self._lines = lines

    def __getitem__(self, name: Any) -> Any:
        if not _is_baggage(name):
            return self._headers[name]
        if not self._lines:
            raise KeyError(name)
        return ",".join(map(_text, self._lines))

    def __setitem__(self, name: Any, value: Any) -> None:
        if _is_baggage(name):
            self._lines = [value]
        else:
            self._headers[name] = value

    def __delitem__(self, name: Any) -> None:
        if not _is_baggage(name):
            del self._headers[name]
        elif self._lines:
            self._lines = []
        else:
            raise KeyError(name)

    def __iter__(self) -> Iterator[Any]:
        yield from self._headers
        if self._lines:
            yield _BAGGAGE

    def __len__(self) -> int:
        return len(self._headers) + bool(self._lines)

    def items(self) -> list[tuple[Any, Any]]:  # type: ignore[override]  # line by line, as urllib3's own mapping has it
        return [*self._headers.items(), *((_BAGGAGE, line) for line in self._lines)]

    def copy(self) -> Lines:
        """Another one, with the same in it."""
        return Lines(self._headers, self._lines)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for before there is anything, as by `copy.copy`
            raise AttributeError(name)
        return getattr(self.__dict__["_headers"], name)  # what only the application's mapping can do


def headers_for(attempt: UpstreamAttempt, headers: Mapping[Any, Any] | None, port: int | None) -> Any:
    """The headers of an attempt on its way to its host: the same object where nothing is to be changed."""
    headers = headers or {}
    own = [name for name in headers if len(name) == _LONG and _is_baggage(name)]  # most go no further
    if not own and not attempt.recorder.baggage.tells:
        return headers
    before = ",".join(_text(value) for name, value in headers.items() if _is_baggage(name)) if own else ""
    after, ours = attempt.baggage(before, attempt.host or "", port)
    return headers if after == before and not ours else Lines(headers, list(filter(None, (after, ours))))


def _is_baggage(name: Any) -> bool:
    return isinstance(name, (str, bytes)) and _text(name).lower() == _BAGGAGE


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
