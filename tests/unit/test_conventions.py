"""What is read of other instrumentations' attributes, and that nothing else is."""

from __future__ import annotations

from typing import Any

import pytest

from otel_usage.conventions import called, error_of, reason_of_call
from otel_usage.schema import REASONS

ERRORS = {
    "rate_limit_429": [
        "openai.RateLimitError", "RateLimitError", "rate_limit_error", "<class 'openai.RateLimitError'>", "429",
        "langchain_openai.chat_models.base.OpenAIRateLimitError", "google.api_core.exceptions.ResourceExhausted",
        "TooManyRequests", "botocore.errorfactory.ThrottlingException", "RESOURCE_EXHAUSTED",
    ],
    "auth_401": ["anthropic.AuthenticationError", "authentication_error", "Unauthorized", "401", "UNAUTHENTICATED"],
    "auth_403": ["openai.PermissionDeniedError", "permission_error", "PERMISSION_DENIED", "403"],
    "not_found": ["anthropic.NotFoundError", "not_found_error", "404", "NOT_FOUND"],
    "malformed_request": ["openai.BadRequestError", "invalid_request_error", "UnprocessableEntityError", "400", "422"],
    "payload_too_large": ["anthropic.RequestTooLargeError", "request_too_large", "413"],
    "client_error": ["openai.ConflictError", "409", "418"],
    "client_aborted": ["asyncio.exceptions.CancelledError", "CancelledError", "CANCELLED", "GeneratorExit"],
    "server_error": [
        "openai.APIConnectionError", "openai.APITimeoutError", "overloaded_error", "InternalServerError", "500", "503",
        "529", "_OTHER", "", "!", "ValueError", "a sentence, which is no class",
    ],
}  # fmt: skip


@pytest.mark.parametrize(
    ("reason", "error"), [(reason, error) for reason, errors in ERRORS.items() for error in errors]
)
def test_an_error_has_a_reason_whoever_names_it(reason: str, error: str) -> None:
    assert reason in REASONS
    assert reason_of_call({}, error) == reason


@pytest.mark.parametrize(
    ("attributes", "error", "reason"),
    [
        ({}, None, "ok"),
        ({"http.response.status_code": 200}, None, "ok"),
        ({"http.response.status_code": 429}, None, "rate_limit_429"),
        ({"http.response.status_code": 429}, "api_error", "rate_limit_429"),
        ({"http.response.status_code": 200}, "httpx.ReadError", "server_error"),
        ({"http.status_code": 503}, "_OTHER", "server_error"),
        ({"http.response.status_code": "429"}, None, "ok"),
        ({"http.response.status_code": 200}, "200", "server_error"),
        ({}, "200", "server_error"),
    ],
)
def test_the_status_goes_first_and_a_failure_is_never_ok(
    attributes: dict[str, Any], error: str | None, reason: str
) -> None:
    assert reason_of_call(attributes, error) == reason


@pytest.mark.parametrize(
    ("attributes", "failed", "exception", "error"),
    [
        ({}, False, None, None),
        ({}, False, "ValueError", None),
        ({}, True, None, "_OTHER"),
        ({}, True, "sqlite3.OperationalError", "sqlite3.OperationalError"),
        ({"error.type": "timeout"}, False, None, "timeout"),
        ({"error.type": "<class 'openai.RateLimitError'>"}, True, None, "openai.RateLimitError"),
        ({"error.type": "no class: hunter2"}, True, "ValueError", "_OTHER"),
        ({"error.type": 7}, False, None, "_OTHER"),
        ({"rpc.grpc.status_code": 14}, True, "grpc._channel._InactiveRpcError", "UNAVAILABLE"),
        ({"rpc.grpc.status_code": 999}, True, "grpc.RpcError", "grpc.RpcError"),
        ({"rpc.response.status_code": "UNAVAILABLE"}, True, None, "UNAVAILABLE"),
        ({"http.status_code": 503}, True, None, "503"),
    ],
)
def test_the_class_of_an_error(attributes: dict[str, Any], failed: bool, exception: object, error: str | None) -> None:
    assert error_of(attributes, failed=failed, exception=exception) == error


@pytest.mark.parametrize(
    ("name", "attributes", "expected"),
    [
        ("x", {}, (None, None, None)),
        ("select", {"db.system": "sqlite", "db.statement": "SELECT secret"}, ("sqlite", "SELECT", None)),
        ("hunter2 FROM x", {"db.system": "sqlite"}, ("sqlite", None, None)),
        ("", {"db.system": "sqlite"}, ("sqlite", None, None)),
        ("x", {"db.system.name": "postgresql", "db.operation.name": "SELECT"}, ("postgresql", "SELECT", None)),
        ("x", {"db.system": "mongodb", "db.operation": "find"}, ("mongodb", "find", None)),
        ("x", {"db.system": "x", "db.operation.name": "SELECT 'hunter2'"}, ("x", None, None)),
        ("x", {"db.system": "x", "db.operation.name": "BATCH INSERT"}, ("x", "BATCH INSERT", None)),
        ("x", {"messaging.system": "kafka", "messaging.operation.name": "send"}, ("kafka", "send", None)),
        ("x", {"rpc.system": "grpc", "rpc.service": "shop.Stock", "rpc.method": "Get"}, ("shop.Stock", "Get", None)),
        ("x", {"rpc.system.name": "grpc", "rpc.method": "shop.Stock/Get"}, ("shop.Stock", "Get", None)),
        ("x", {"rpc.system": "aws-api", "rpc.service": "S3", "rpc.method": "PutObject"}, ("S3", "PutObject", None)),
        ("x", {"rpc.system": "grpc"}, ("grpc", None, None)),
        ("GET", {"server.address": "db.internal"}, (None, None, "db.internal")),
        ("x", {"net.peer.name": "Cache.internal:6379", "db.system": "redis"}, ("redis", None, "cache.internal")),
        ("x", {"server.address": "/var/run/a b.sock"}, (None, None, None)),
    ],
)
def test_who_was_called_and_what_was_asked(
    name: str, attributes: dict[str, Any], expected: tuple[str | None, str | None, str | None]
) -> None:
    assert called(name, attributes) == expected
