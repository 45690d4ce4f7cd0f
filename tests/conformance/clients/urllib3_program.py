"""urllib3, whose pools retry and redirect by themselves."""

from __future__ import annotations

from collections.abc import Iterator

import urllib3

from tests.conformance.clients.program import Calls, run


class Urllib3(Calls):
    def open(self) -> None:
        self.pool = urllib3.PoolManager(timeout=self.TIMEOUT, retries=urllib3.Retry(3, connect=0, read=0))

    def close(self) -> None:
        self.pool.clear()

    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        return self.pool.request(method, url, body=body, headers=headers).status

    def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        self.pool.request("POST", url, body=parts)

    def read_parts(self, url: str) -> int:
        response = self.pool.request("GET", url, preload_content=False)
        return sum(map(len, response.stream(1000)))

    def give_up(self, url: str) -> None:
        response = self.pool.request("GET", url, preload_content=False)
        assert response.read(1000)
        response.close()

    def retrying(self, url: str) -> int:
        return self.pool.request("GET", url, retries=urllib3.Retry(2, status_forcelist=[503])).status


if __name__ == "__main__":
    run(Urllib3())
