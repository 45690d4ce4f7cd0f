"""boto3 and aiobotocore: calls are named by service and operation where the application has not named them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
import urllib3
from aiobotocore.config import AioConfig
from aiobotocore.httpxsession import HttpxSession
from aiobotocore.session import get_session
from botocore.config import Config
from botocore.exceptions import ClientError
from botocore.stub import Stubber

import otel_usage as usage
from otel_usage.guard import internal_errors
from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.conformance.clients.upstream import Upstream, upstream

pytestmark = pytest.mark.usefixtures("usage_on")

SETTINGS: dict[str, Any] = {
    "region_name": "us-east-1",
    "aws_access_key_id": "AKIAEXAMPLE",
    "aws_secret_access_key": "secret",
}
RETRYING: dict[str, Any] = {"mode": "standard", "total_max_attempts": 3}


@pytest.fixture(scope="module")
def server() -> Iterator[Upstream]:
    with upstream() as running:
        yield running


def get_object(server: Upstream, bucket: str, key: str) -> bytes:
    client = boto3.client("s3", endpoint_url=server.url, config=Config(retries=RETRYING), **SETTINGS)
    try:
        return bytes(client.get_object(Bucket=bucket, Key=key)["Body"].read())
    finally:
        client.close()


def get_object_async(server: Upstream, bucket: str, key: str) -> bytes:
    async def get() -> bytes:
        config = AioConfig(retries=RETRYING, http_session_cls=HttpxSession)
        client = get_session().create_client("s3", endpoint_url=server.url, config=config, **SETTINGS)
        async with client as s3:
            answer = await s3.get_object(Bucket=bucket, Key=key)
            return bytes(await answer["Body"].read())

    return asyncio.run(get())


GET_OBJECT = pytest.mark.parametrize("get", [get_object, get_object_async])
Get = Callable[[Upstream, str, str], bytes]


def recorded(stub: AxiomStub, n: int) -> list[ReceivedSpan]:
    assert usage.flush(5).complete
    assert len(stub.spans) == n, [span.name for span in stub.spans]
    assert internal_errors() == {}
    return sorted(stub.spans, key=lambda span: span.start_time)


def names(span: ReceivedSpan) -> tuple[Any, Any]:
    return span.attributes["usage.provider"], span.attributes.get("usage.operation")


@GET_OBJECT
def test_a_call_that_nobody_has_named_has_its_operations_name(stub: AxiomStub, server: Upstream, get: Get) -> None:
    assert get(server, "bytes", "12") == b"x" * 12
    (span,) = recorded(stub, 1)
    assert names(span) == ("s3", "GetObject")
    assert span.attributes["http.response.body.size"] == 12
    assert span.attributes["server.address"] == "127.0.0.1"


@GET_OBJECT
def test_what_the_application_says_goes_before(stub: AxiomStub, server: Upstream, get: Get) -> None:
    with usage.upstream("archive"):
        get(server, "bytes", "1")
    with usage.upstream("archive", "fetch"):
        get(server, "bytes", "2")
    assert [names(span) for span in recorded(stub, 2)] == [("archive", "GetObject"), ("archive", "fetch")]


@GET_OBJECT
def test_each_retry_is_an_attempt_of_the_same_call(stub: AxiomStub, server: Upstream, get: Get) -> None:
    server.asked.clear()
    assert get(server, "flaky", get.__name__) == b"flaky"
    spans = recorded(stub, 3)
    assert [span.attributes.get("http.request.resend_count") for span in spans] == [None, 1, 2]
    assert [span.attributes["http.response.status_code"] for span in spans] == [503, 503, 200]
    assert {names(span) for span in spans} == {("s3", "GetObject")}


def test_other_calls_are_not_named_by_it(stub: AxiomStub, server: Upstream) -> None:
    client = boto3.client("s3", endpoint_url=server.url, **SETTINGS)
    body = client.get_object(Bucket="bytes", Key="3")["Body"]
    with urllib3.PoolManager() as pool:
        pool.request("GET", f"{server.url}/bytes/4")
    body.read()
    client.close()
    assert [names(span) for span in recorded(stub, 2)] == [("s3", "GetObject"), ("127.0.0.1", None)]


def test_an_answer_that_is_not_asked_for_over_the_network_is_no_attempt(stub: AxiomStub) -> None:
    client = boto3.client("s3", endpoint_url="http://127.0.0.1:1", **SETTINGS)
    with Stubber(client) as stubber:
        stubber.add_response("list_buckets", {"Buckets": []})
        stubber.add_client_error("list_buckets")
        client.list_buckets()
        with pytest.raises(ClientError):
            client.list_buckets()
    client.close()
    recorded(stub, 0)
