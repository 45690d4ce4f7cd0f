"""aiohttp. It sends nothing again that has been answered: a middleware of the application's does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp

from tests.conformance.clients.program import TRIES, Calls, run


async def again(request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
    for _ in range(TRIES - 1):
        response = await handler(request)
        if response.status != 503:
            return response
        await response.read()
    return await handler(request)


class Client(Calls):
    async def open(self) -> None:
        self.session = aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=self.TIMEOUT))

    async def close(self) -> None:
        await self.session.close()

    async def call(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        async with self.session.request(method, url, data=body, headers=headers) as response:
            await response.read()
            return response.status

    async def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        async def generate() -> AsyncIterator[bytes]:
            for part in parts:
                yield part
                await asyncio.sleep(0)

        async with self.session.post(url, data=generate()) as response:
            await response.read()

    async def read_parts(self, url: str) -> int:
        async with self.session.get(url) as response:
            return sum([len(part) async for part in response.content.iter_any()])

    async def give_up(self, url: str) -> None:
        async with self.session.get(url) as response:
            await anext(response.content.iter_any())

    async def retrying(self, url: str) -> Any:
        async with self.session.get(url, middlewares=(again,)) as response:
            await response.read()
            return response.status


if __name__ == "__main__":
    run(Client())
