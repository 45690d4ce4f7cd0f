"""An error about a setting shows an ordinary mistake, and nothing of a secret that stands in the wrong place."""

from __future__ import annotations

import base64
import secrets
import uuid
from typing import Any

import pytest

from otel_usage.config import VARIABLES, UsageConfig
from otel_usage.errors import ConfigError
from otel_usage.named_callable import NamedCallable
from otel_usage.shown import shown

PASSWORD = "hunter2pw99"
KEY = "k1:" + "0123456789abcdef" * 4
TOKEN = "xaat-" + "0b5e8c1d-1111-4222-8333-444455556666"
PEPPER = "k1:0123456789abcdef"


def started(variable: str, value: str) -> None:
    config = UsageConfig.from_env({"USAGE_TELEMETRY": "1", "USAGE_BAGGAGE_KEY": PEPPER, variable: value})
    assert isinstance(config.identity, NamedCallable)
    config.identity.load()


def refused(variable: str, value: str) -> ConfigError:
    with pytest.raises(ConfigError) as raised:
        started(variable, value)
    return raised.value


SECRET_VARIABLES = ("AXIOM_API_TOKEN", "USAGE_KEY_PEPPER", "USAGE_UA_PEPPER", "USAGE_BAGGAGE_KEY")
TAKE_A_TOKEN = ("AXIOM_DATASET", "USAGE_BAGGAGE_HOSTS", "USAGE_BAGGAGE_AUDIENCE")  # as a name, which it may be
MISPLACED = [
    ("USAGE_OTLP_ENDPOINT", f"http://user:{PASSWORD}:4318"),
    ("USAGE_OTLP_ENDPOINT", f"https://user:{PASSWORD}%40host:4318"),
    ("USAGE_OTLP_ENDPOINT", f"https://user:{PASSWORD}%2540host:4318"),
    ("USAGE_OTLP_ENDPOINT", f"https://host/#{TOKEN}"),
    ("USAGE_OTLP_ENDPOINT", f"http://user:{PASSWORD}"),
    ("USAGE_OTLP_ENDPOINT", f"ftp://host/{PASSWORD}"),
    ("USAGE_PROVIDERS", f"https://u:{PASSWORD}@api.x.com=openai"),
    ("USAGE_SPOOL", f"postgres://u:{PASSWORD}@h/db"),
    ("USAGE_TRUSTED_PROXY", f"x-edge-proof:{PASSWORD}hunter2"),
    ("USAGE_TRUSTED_PROXY", f"proof {PASSWORD}hunter2"),
    ("USAGE_TRUSTED_PROXY", "a-secret-that-is-made-of-words"),
    ("USAGE_TRUSTED_PROXY", "onlysixteenchars"),
    ("USAGE_BAGGAGE_HOSTS", KEY),
    ("USAGE_BAGGAGE_AUDIENCE", KEY),
    ("USAGE_IDENTITY", KEY),
    ("AXIOM_DATASET", f"Bearer {TOKEN}"),
    *((name, TOKEN) for name in VARIABLES if name not in SECRET_VARIABLES + TAKE_A_TOKEN),
]


@pytest.mark.parametrize(("variable", "value"), MISPLACED)
def test_a_secret_in_the_wrong_variable_or_form_is_nowhere_in_the_error(variable: str, value: str) -> None:
    error = refused(variable, value)
    assert error.__cause__ is error.__context__ is None
    assert f"{variable} is a value that is not shown" in str(error)
    assert not any(part in str(error) for part in (PASSWORD, KEY[3:], TOKEN, "onlysixteen", "made-of-words"))


ORDINARY = [
    "", "yes", "1", "no spaces", "grpc ", "Memory", "localhost:4318", "http://localhost:4318/v1/traces", "10.0.0.1/8",
    "https://api.axiom.co", "pricing.internal:80x", "shop.auth", "shop.auth:usage_identity_of_the_caller", "./here",
    "us-east-1.aws.edge.axiom.co", "eu-central-1a.k8s.prod1.svc.v2", "ip-10-0-0-12.eu-west-1.compute.internal",
    "https://api.openai.com=openai", "MyIdentityHookFactory", "/var/lib/shop/usage2", "2001:db8::1/32", "x" * 129,
    "api_usage_2024!", "http/json", "usage.customer.id", "a b.com=x", "*.*.com=x", "-1.0", "[60, 30]", "résumé",
    "http://otel-collector.monitoring.svc.cluster.local:4318x",
]  # fmt: skip


@pytest.mark.parametrize("value", ORDINARY)
def test_an_ordinary_mistake_is_shown(value: str) -> None:
    assert shown(value) == value
    assert str(ConfigError("A_SETTING", value, "something else")) == f"A_SETTING is {value!r}; it takes something else"


def _made() -> list[Any]:
    key = bytes.fromhex("9a3fc2147be85d06f1a2b3c4d5e6f70819")
    return [
        uuid.UUID("f81d4fae-7dec-11d0-a765-00a0c91e6bf6"),
        key.hex(),
        base64.b64encode(key).decode(),
        "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",  # AWS's example of a secret access key
        "aGhTkLpQrStUvWxYz",
        "abcdefghijklmnopqrstuvwxyz",
        "4929123412341234",
        "Tr0ub4dor&3",
        f"ann:{PASSWORD}",
        "ann\uff20example.com",
        "collector:4318/?key=hunter",
        "word " * 60,
    ]


@pytest.mark.parametrize("value", _made(), ids=str)
def test_what_may_be_a_secret_is_not_shown(value: object) -> None:
    assert shown(str(value)) is None
    assert shown(f"shop {value}") is None


def test_random_keys_are_not_shown() -> None:
    for _ in range(500):
        assert shown(secrets.token_hex(16)) is None
        assert shown(str(uuid.uuid4())) is None
