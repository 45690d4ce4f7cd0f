"""aiobotocore, as a client of S3 by way of aiohttp, or of httpx: the upstream's paths are buckets and keys to it."""

from __future__ import annotations

from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import urlsplit

from aiobotocore.config import AioConfig
from aiobotocore.httpsession import AIOHTTPSession
from aiobotocore.httpxsession import HttpxSession
from aiobotocore.session import get_session
from botocore.exceptions import ClientError

from tests.conformance.clients.program import Calls, flavour, run


class Client(Calls):
    async def open(self) -> None:
        self.stack = AsyncExitStack()
        self.clients: dict[tuple[str, int], Any] = {}

    async def close(self) -> None:
        await self.stack.aclose()

    async def _client(self, url: str, attempts: int = 1) -> tuple[Any, dict[str, str]]:
        """A client of the server, and what is asked of it."""
        parts = urlsplit(url)
        bucket, key = parts.path.strip("/").split("/")
        if (parts.netloc, attempts) not in self.clients:
            config = AioConfig(
                connect_timeout=self.TIMEOUT, read_timeout=self.TIMEOUT, signature_version="s3",
                retries={"mode": "standard", "total_max_attempts": attempts}, s3={"addressing_style": "path"},
                request_checksum_calculation="when_required", response_checksum_validation="when_required",
                http_session_cls=HttpxSession if flavour() == "httpx" else AIOHTTPSession,
            )  # fmt: skip
            client = get_session().create_client(
                "s3", endpoint_url=f"http://{parts.netloc}", region_name="us-east-1", config=config,
                aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="secret",
            )  # fmt: skip
            self.clients[parts.netloc, attempts] = await self.stack.enter_async_context(client)
        return self.clients[parts.netloc, attempts], {"Bucket": bucket, "Key": key}

    async def call(
        self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> int:
        client, what = await self._client(url)

        def add(request: Any, **_: Any) -> None:
            for name, value in (headers or {}).items():
                request.headers[name] = value

        client.meta.events.register("before-send.s3", add)
        try:
            if method == "GET":
                answer = await client.get_object(**what)
                await answer["Body"].read()
            elif method == "HEAD":
                answer = await client.head_object(**what)
            else:
                answer = await client.put_object(**what, Body=body)
        except ClientError as error:
            answer = error.response
        finally:
            client.meta.events.unregister("before-send.s3", add)
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    async def read_parts(self, url: str) -> int:
        client, what = await self._client(url)
        return sum([len(part) async for part in (await client.get_object(**what))["Body"].iter_chunks(1000)])

    async def give_up(self, url: str) -> None:
        client, what = await self._client(url)
        body = (await client.get_object(**what))["Body"]
        async with body:
            assert await anext(body.iter_chunks(1000))

    async def retrying(self, url: str) -> int:
        client, what = await self._client(url, attempts=3)
        answer = await client.get_object(**what)
        await answer["Body"].read()
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])


if __name__ == "__main__":
    run(Client())
