"""urllib.request, of Python's own."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.error import HTTPError
from urllib.request import Request, urlopen

from tests.conformance.clients.program import Calls, run


class Urllib(Calls):
    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        request = Request(url, body, headers or {}, method=method)
        try:
            with urlopen(request, timeout=self.TIMEOUT) as response:
                response.read()
        except HTTPError as error:
            with error:
                error.read()
            return error.code
        return response.status

    def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        with urlopen(url, parts, timeout=self.TIMEOUT) as response:
            response.read()

    def read_parts(self, url: str) -> int:
        with urlopen(url, timeout=self.TIMEOUT) as response:
            return sum(map(len, iter(lambda: response.read(1000), b"")))

    def give_up(self, url: str) -> None:
        with urlopen(url, timeout=self.TIMEOUT) as response:
            assert response.read(1000)


if __name__ == "__main__":
    run(Urllib())
