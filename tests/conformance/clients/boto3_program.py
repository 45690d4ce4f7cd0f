"""boto3, as a client of S3: the upstream's paths are buckets and keys to it."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.conformance.clients.program import Calls, run


class Boto3(Calls):
    def open(self) -> None:
        self.clients: dict[tuple[str, int], Any] = {}

    def close(self) -> None:
        for client in self.clients.values():
            client.close()

    def _client(self, url: str, attempts: int = 1) -> tuple[Any, dict[str, str]]:
        """A client of the server, and what is asked of it."""
        parts = urlsplit(url)
        bucket, key = parts.path.strip("/").split("/")
        if (parts.netloc, attempts) not in self.clients:
            config = Config(
                connect_timeout=self.TIMEOUT, read_timeout=self.TIMEOUT, signature_version="s3",
                retries={"mode": "standard", "total_max_attempts": attempts}, s3={"addressing_style": "path"},
                request_checksum_calculation="when_required", response_checksum_validation="when_required",
            )  # fmt: skip
            self.clients[parts.netloc, attempts] = boto3.client(
                "s3", endpoint_url=f"http://{parts.netloc}", region_name="us-east-1", config=config,
                aws_access_key_id="AKIAEXAMPLE", aws_secret_access_key="secret",
            )  # fmt: skip
        return self.clients[parts.netloc, attempts], {"Bucket": bucket, "Key": key}

    def call(self, method: str, url: str, body: bytes | None = None, headers: dict[str, str] | None = None) -> int:
        client, what = self._client(url)

        def add(request: Any, **_: Any) -> None:
            for name, value in (headers or {}).items():
                request.headers[name] = value

        client.meta.events.register("before-send.s3", add)
        try:
            if method == "GET":
                answer = client.get_object(**what)
                answer["Body"].read()
            elif method == "HEAD":
                answer = client.head_object(**what)
            else:
                answer = client.put_object(**what, Body=body)
        except ClientError as error:
            answer = error.response
        finally:
            client.meta.events.unregister("before-send.s3", add)
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])

    def read_parts(self, url: str) -> int:
        client, what = self._client(url)
        return sum(map(len, client.get_object(**what)["Body"].iter_chunks(1000)))

    def give_up(self, url: str) -> None:
        client, what = self._client(url)
        with client.get_object(**what)["Body"] as body:
            assert body.read(1000)

    def retrying(self, url: str) -> int:
        client, what = self._client(url, attempts=3)
        answer = client.get_object(**what)
        answer["Body"].read()
        return int(answer["ResponseMetadata"]["HTTPStatusCode"])


if __name__ == "__main__":
    run(Boto3())
