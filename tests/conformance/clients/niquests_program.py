"""niquests, sync and async, over HTTP/1.1."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from typing import Any

import niquests

from tests.conformance.clients.program import Calls, flavour, run

RETRIES = niquests.RetryConfiguration(2, status_forcelist=[503])


class Sync(Calls):
    def open(self) -> None:
        self.session = niquests.Session()
        self.retrying_session = niquests.Session(retries=RETRIES)

    def close(self) -> None:
        self.session.close()
        self.retrying_session.close()

    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        return self.session.request(method, url, data=body, headers=headers, timeout=self.TIMEOUT).status_code

    def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        self.session.post(url, data=parts, timeout=self.TIMEOUT)

    def read_parts(self, url: str) -> int:
        with self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            return sum(map(len, response.iter_content(1000)))

    def give_up(self, url: str) -> None:
        with self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            next(response.iter_content(1000))

    def retrying(self, url: str) -> Any:
        return self.retrying_session.get(url, timeout=self.TIMEOUT).status_code


class Async(Calls):
    async def open(self) -> None:
        self.session = niquests.AsyncSession()
        self.retrying_session = niquests.AsyncSession(retries=RETRIES)

    async def close(self) -> None:
        await self.session.close()
        await self.retrying_session.close()

    async def call(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        return (await self.session.request(method, url, data=body, headers=headers, timeout=self.TIMEOUT)).status_code

    async def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        async def generate() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        await self.session.post(url, data=generate(), timeout=self.TIMEOUT)

    async def read_parts(self, url: str) -> int:
        async with await self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            return sum([len(part) async for part in await response.iter_content(1000)])

    async def give_up(self, url: str) -> None:
        async with await self.session.get(url, stream=True, timeout=self.TIMEOUT) as response:
            await anext(await response.iter_content(1000))

    async def retrying(self, url: str) -> Any:
        return (await self.retrying_session.get(url, timeout=self.TIMEOUT)).status_code


if __name__ == "__main__":
    run(Async() if flavour() == "async" else Sync())
