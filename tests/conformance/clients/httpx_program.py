"""httpx and httpx2, sync and async. Neither retries a status by itself: a transport around the library's does."""

from __future__ import annotations

import importlib
from collections.abc import AsyncIterator, Iterator
from typing import Any

from tests.conformance.clients.program import Calls, flavour, run

name, _, asynchronous = flavour().partition("-")
library: Any = importlib.import_module(name)


class Retrying(library.BaseTransport):  # type: ignore[misc]  # the library is only known at run time
    def __init__(self) -> None:
        self.transport = library.HTTPTransport()

    def handle_request(self, request: Any) -> Any:
        for _ in range(2):
            response = self.transport.handle_request(request)
            if response.status_code != 503:
                return response
            response.read()
        return self.transport.handle_request(request)

    def close(self) -> None:
        self.transport.close()


class AsyncRetrying(library.AsyncBaseTransport):  # type: ignore[misc]  # as above
    def __init__(self) -> None:
        self.transport = library.AsyncHTTPTransport()

    async def handle_async_request(self, request: Any) -> Any:
        for _ in range(2):
            response = await self.transport.handle_async_request(request)
            if response.status_code != 503:
                return response
            await response.aread()
        return await self.transport.handle_async_request(request)

    async def aclose(self) -> None:
        await self.transport.aclose()


class Sync(Calls):
    def open(self) -> None:
        self.client = library.Client(timeout=self.TIMEOUT, follow_redirects=True)

    def close(self) -> None:
        self.client.close()

    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> Any:
        return self.client.request(method, url, content=body, headers=headers).status_code

    def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        self.client.post(url, content=parts)

    def read_parts(self, url: str) -> int:
        with self.client.stream("GET", url) as response:
            return sum(map(len, response.iter_bytes()))

    def give_up(self, url: str) -> None:
        with self.client.stream("GET", url) as response:
            next(response.iter_bytes())

    def retrying(self, url: str) -> Any:
        with library.Client(transport=Retrying()) as client:
            return client.get(url).status_code


class Async(Calls):
    async def open(self) -> None:
        self.client = library.AsyncClient(timeout=self.TIMEOUT, follow_redirects=True)

    async def close(self) -> None:
        await self.client.aclose()

    async def call(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Any:
        return (await self.client.request(method, url, content=body, headers=headers)).status_code

    async def send_parts(self, url: str, parts: Iterator[bytes]) -> None:
        async def generate() -> AsyncIterator[bytes]:
            for part in parts:
                yield part

        await self.client.post(url, content=generate())

    async def read_parts(self, url: str) -> int:
        async with self.client.stream("GET", url) as response:
            return sum([len(part) async for part in response.aiter_bytes()])

    async def give_up(self, url: str) -> None:
        async with self.client.stream("GET", url) as response:
            await anext(response.aiter_bytes())

    async def retrying(self, url: str) -> Any:
        async with library.AsyncClient(transport=AsyncRetrying()) as client:
            return (await client.get(url)).status_code


if __name__ == "__main__":
    run(Async() if asynchronous else Sync())
