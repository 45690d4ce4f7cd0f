"""Each setting is read, checked and explained; a secret never shows in what is printed or raised."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from otel_usage.config import (
    AXIOM_DOMAIN,
    VARIABLES,
    FlushMode,
    OtlpProtocol,
    SpoolMode,
    UsageConfig,
    unknown_variables,
)
from otel_usage.errors import ConfigError, UsageError
from otel_usage.keyed_hash import KeyedHash
from otel_usage.named_callable import NamedCallable
from otel_usage.trusted_proxy import TrustedProxy

ON = {"USAGE_TELEMETRY": "1"}
PEPPER = "k1:0123456789abcdef0123456789abcdef"
SECRET = "hunter2-of-the-operator"


def who(carrier: Mapping[str, Any]) -> None:
    """An identity callable to be found by its name."""


not_callable = 7


def read(**variables: str) -> UsageConfig:
    return UsageConfig.from_env({**ON, **variables})


@pytest.mark.parametrize("value", ["", "0", "true", "yes", " 1", "2"])
def test_only_a_1_switches_usage_on(value: str) -> None:
    assert not UsageConfig.from_env({"USAGE_TELEMETRY": value}).enabled
    assert not UsageConfig.from_env({}).enabled
    assert UsageConfig.from_env(ON).enabled


def test_while_usage_is_off_no_other_variable_is_even_looked_at() -> None:
    assert UsageConfig.from_env({"USAGE_OTLP_ENDPOINT": "nonsense", "AXIOM_DATASET": "no such name!"}) == UsageConfig(
        enabled=False
    )


def test_the_environment_of_the_process_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("USAGE_TELEMETRY", "1")
    monkeypatch.setenv("AXIOM_DATASET", "from_env")
    assert UsageConfig.from_env().axiom_dataset == "from_env"


@pytest.mark.parametrize(
    ("variable", "value", "field", "expected"),
    [
        ("AXIOM_API_TOKEN", "xaat-1", "axiom_token", "xaat-1"),
        ("AXIOM_DATASET", "shop.usage-2_a", "axiom_dataset", "shop.usage-2_a"),
        ("AXIOM_DOMAIN", "eu-central-1.aws.edge.axiom.co", "axiom_domain", "eu-central-1.aws.edge.axiom.co"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:4318", "otlp_endpoint", "http://localhost:4318"),
        ("USAGE_OTLP_PROTOCOL", "http/protobuf", "otlp_protocol", OtlpProtocol.HTTP_PROTOBUF),
        ("USAGE_SPOOL", "/var/lib/shop/usage", "spool", Path("/var/lib/shop/usage")),
        ("USAGE_FLUSH", "request", "flush", FlushMode.REQUEST),
        ("USAGE_KEY_PEPPER", PEPPER, "key_pepper", PEPPER),
        ("USAGE_UA_PEPPER", PEPPER, "user_agent_pepper", PEPPER),
        ("USAGE_TRUSTED_PROXY", "fly, 10.0.0.0/8", "proxy", TrustedProxy.parse("fly,10.0.0.0/8")),
        ("USAGE_TRUSTED_PROXY", "none", "proxy", None),
        ("USAGE_BAGGAGE_KEY", f"new:{PEPPER}, old:{PEPPER}", "baggage_keys", {"new": PEPPER, "old": PEPPER}),
        ("USAGE_BAGGAGE_HOSTS", "b.internal:80, ,*.a.com", "baggage_hosts", {"b.internal:80", "*.a.com"}),
        ("USAGE_BAGGAGE_AUDIENCE", "b.internal", "baggage_audience", {"b.internal"}),
        ("USAGE_JOB_LIFETIME", "86400", "job_lifetime", 86400.0),
        ("USAGE_PROVIDERS", " A.com = a ,*.b.com=b=c,", "providers", {"a.com": "a", "*.b.com": "b=c"}),
        ("USAGE_PERSONAL", "client.address, ,usage.referer", "personal", {"client.address", "usage.referer"}),
        ("USAGE_EMAIL_ADDRESSES", "1", "email_addresses", True),
        ("USAGE_EMAIL_ADDRESSES", "0", "email_addresses", False),
        ("USAGE_DEV_HEADER", "1", "dev_header", True),
        ("USAGE_DEV_HEADER", "0", "dev_header", False),
        ("USAGE_OFFICIAL_ENCODER", "1", "official_encoder", True),
    ],
)
def test_each_variable_is_read(variable: str, value: str, field: str, expected: object) -> None:
    assert getattr(read(**{"USAGE_BAGGAGE_KEY": PEPPER, variable: value}), field) == expected


def test_every_variable_has_a_test_above() -> None:
    tested = next(mark for mark in test_each_variable_is_read.pytestmark if mark.name == "parametrize").args[1]
    assert {case[0] for case in tested} == VARIABLES.keys() - {"USAGE_IDENTITY"}


@pytest.mark.parametrize(("value", "mode"), [("memory", SpoolMode.MEMORY), ("off", SpoolMode.OFF)])
def test_a_spool_may_be_no_directory(value: str, mode: SpoolMode) -> None:
    assert read(USAGE_SPOOL=value).spool is mode
    assert read().spool is SpoolMode.DISK


def test_by_hand_words_and_paths_do_as_well() -> None:
    config = UsageConfig(spool="/var/lib/usage", flush="request", otlp_protocol="http/protobuf")  # type: ignore[arg-type]
    assert config == UsageConfig(spool=Path("/var/lib/usage"), flush=FlushMode.REQUEST)
    assert config.flush is FlushMode.REQUEST
    assert UsageConfig(spool="off").spool is SpoolMode.OFF  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="USAGE_SPOOL"):
        UsageConfig(spool="of")  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["Memory", "none", "disk", "relative/path", "./here", "~/spool", __file__])
def test_a_spool_that_is_neither_a_directory_nor_a_mode_is_refused(value: str) -> None:
    with pytest.raises(ConfigError, match=f"USAGE_SPOOL is '{value}'; it takes the absolute path of a directory"):
        read(USAGE_SPOOL=value)


def test_the_identity_callable_is_loaded_when_it_is_first_needed() -> None:
    identity = read(USAGE_IDENTITY=f"{__name__}:who").identity
    assert isinstance(identity, NamedCallable)
    assert identity.load() is who


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("no_such_module_at_all:who", "No module named"),
        (f"{__name__}:nobody", "has no attribute 'nobody'"),
        (f"{__name__}:not_callable", "it cannot be called"),
    ],
)
def test_an_identity_callable_that_is_not_there_is_one_error_at_every_call(value: str, why: str) -> None:
    identity = read(USAGE_IDENTITY=value).identity
    assert isinstance(identity, NamedCallable)
    for _ in range(2):
        with pytest.raises(ConfigError, match=why) as raised:
            identity({})
        assert str(raised.value).startswith(f"USAGE_IDENTITY is {value!r}; it takes module:callable")


def test_an_empty_value_counts_as_absent() -> None:
    assert UsageConfig.from_env({**ON, **dict.fromkeys(VARIABLES, "")}) == UsageConfig()


def test_the_defaults_are_those_of_the_design() -> None:
    config = read()
    assert config.axiom_dataset == "api_usage"
    assert config.endpoint == f"https://{AXIOM_DOMAIN}/v1/traces" == "https://us-east-1.aws.edge.axiom.co/v1/traces"
    assert (config.export_timeout, config.shutdown_timeout) == (1.5, 2.0)
    assert config.axiom_token is config.identity is config.key_pepper is config.user_agent_pepper is None
    assert not config.personal
    assert not config.dev_header
    assert not config.email_addresses


@pytest.mark.parametrize(
    ("variable", "value", "accepts"),
    [
        ("AXIOM_DATASET", "no spaces", "letters, digits"),
        ("AXIOM_DATASET", "x" * 129, "at most 128"),
        ("AXIOM_DATASET", "line\nbreak", "letters, digits"),
        ("AXIOM_DOMAIN", "https://api.axiom.co", "without scheme"),
        ("AXIOM_DOMAIN", "api.axiom.co/v1", "without scheme, port or path"),
        ("AXIOM_DOMAIN", "localhost", "host name"),
        ("USAGE_OTLP_ENDPOINT", "localhost:4318", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "ftp://localhost", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:port", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:0", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:65536", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://[::1", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:4318/#top", "without user, query or fragment"),
        ("USAGE_OTLP_ENDPOINT", " http://localhost:4318", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://local host:4318", "http:// or https://"),
        ("USAGE_OTLP_ENDPOINT", "http://localhost:4318\n/", "http:// or https://"),
        ("USAGE_OTLP_PROTOCOL", "http/json", "http/protobuf or grpc"),
        ("USAGE_OTLP_PROTOCOL", "grpc", "USAGE_OTLP_ENDPOINT"),
        ("USAGE_IDENTITY", "shop.auth", "module:callable"),
        ("USAGE_IDENTITY", ":who", "module:callable"),
        ("USAGE_IDENTITY", ".relative:who", "module:callable"),
        ("USAGE_PERSONAL", "usage.customer.id", "client.address"),
        ("USAGE_TRUSTED_PROXY", "nginx", "cloudflare"),
        ("USAGE_TRUSTED_PROXY", "10.0.0.1/8", "without host bits"),
        ("USAGE_BAGGAGE_HOSTS", "https://a.com", "no scheme"),
        ("USAGE_BAGGAGE_HOSTS", "pricing.internal", "only together with USAGE_BAGGAGE_KEY"),
        ("USAGE_BAGGAGE_AUDIENCE", "*.com", "two labels or more"),
        ("USAGE_DEV_HEADER", "yes", "1 or 0"),
        ("USAGE_JOB_LIFETIME", "7d", "a whole number of seconds above 0"),
        ("USAGE_JOB_LIFETIME", "0", "a whole number of seconds above 0"),
        ("USAGE_OFFICIAL_ENCODER", "on", "1 or 0"),
        ("USAGE_EMAIL_ADDRESSES", "true", "1 or 0"),
    ],
)
def test_a_bad_value_is_one_error_that_names_the_variable_the_value_and_what_it_takes(
    variable: str, value: str, accepts: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**{variable: value})
    assert raised.value.setting == variable
    assert str(raised.value).startswith(f"{variable} is {value!r}; it takes ")
    assert accepts in str(raised.value)


@pytest.mark.parametrize("part", ["api.openai.com", "api.openai.com=", "=openai", "a b.com=x", "*.*.com=x"])
def test_a_bad_pair_of_host_and_provider_is_shown_as_it_was_written(part: str) -> None:
    with pytest.raises(ConfigError, match="host=name pairs") as raised:
        read(USAGE_PROVIDERS=f"good.com=good,{part}")
    assert str(raised.value).startswith(f"USAGE_PROVIDERS is {part!r}; it takes")


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("AXIOM_API_TOKEN", f"{SECRET} with spaces"),
        ("AXIOM_API_TOKEN", f"{SECRET}\n"),
        ("AXIOM_API_TOKEN", f"{SECRET}ü"),
        ("AXIOM_DOMAIN", f"https://me:{SECRET}@api.axiom.co"),
        ("USAGE_KEY_PEPPER", "hunter2"),
        ("USAGE_KEY_PEPPER", "long-name-of-key:hunter2"),
        ("USAGE_KEY_PEPPER", f"{SECRET}\udcff"),
        ("USAGE_UA_PEPPER", "k1:hunter2"),
        ("USAGE_BAGGAGE_KEY", "hunter2"),
        ("USAGE_BAGGAGE_KEY", f"k1:{SECRET},k2:hunter2"),
        ("USAGE_BAGGAGE_KEY", f"k1:{SECRET},k1:{SECRET}"),
        ("USAGE_TRUSTED_PROXY", "header:x-proof=hunter2"),
        ("USAGE_TRUSTED_PROXY", f"nginx,header:x-proof={SECRET}"),
        ("USAGE_OTLP_ENDPOINT", f"https://me:{SECRET}@collector:4318"),
        ("USAGE_OTLP_ENDPOINT", f"https://{SECRET}@collector:4318"),
        ("USAGE_OTLP_ENDPOINT", f"https://me:{SECRET}@collector:port"),
        ("USAGE_OTLP_ENDPOINT", f"https://me:{SECRET}@[::1"),
        ("USAGE_OTLP_ENDPOINT", f"ftp://me:{SECRET}@collector"),
        ("USAGE_OTLP_ENDPOINT", f"https://collector:4318/?api_key={SECRET}"),
    ],
)
def test_an_error_about_a_secret_names_the_variable_and_never_the_value(variable: str, value: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read(**{variable: value})
    assert str(raised.value).startswith(
        f"{variable} is a value that is not shown, because it may be a secret; it takes "
    )
    assert "hunter2" not in "".join(
        map(str, (raised.value, raised.value.__cause__, raised.value.__context__, raised.value.setting))
    )


def test_a_key_without_the_library_that_signs_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("otel_usage.config.find_spec", lambda _name: None)  # what it would find elsewhere
    with pytest.raises(ConfigError, match="pip install 'otel-usage\\[baggage\\]'"):
        read(USAGE_BAGGAGE_KEY=PEPPER)


def test_hosts_that_are_one_text_are_not_taken_for_a_set_of_letters() -> None:
    with pytest.raises(ConfigError, match="it takes a set of hosts"):
        UsageConfig(baggage_key=PEPPER, baggage_hosts="pricing.internal")  # type: ignore[arg-type]


def test_a_config_error_is_also_a_value_error() -> None:
    assert issubclass(ConfigError, UsageError)
    assert issubclass(ConfigError, ValueError)


def test_an_identity_module_that_raises_while_it_is_imported_is_a_config_error_without_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken_identity_module.py").write_text(f"raise RuntimeError({SECRET!r})\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ConfigError, match="RuntimeError while importing it") as raised:
        NamedCallable("USAGE_IDENTITY", "broken_identity_module:who").load()
    assert SECRET not in str(raised.value)
    assert "broken_identity_module" not in sys.modules


WORDS = '"no driver for postgres://u:hunter2pw99@h/db of customer Ann Smith"'


@pytest.mark.parametrize(
    ("source", "why"),
    [
        (f"raise ImportError({WORDS})", "ImportError while importing it"),
        (f"raise ImportError({WORDS}, name='hunter2pw99')", "ImportError while importing '…'"),
        (f"raise ImportError({WORDS}, name='Ann Smith')", "ImportError while importing '…'"),
        (f"raise ModuleNotFoundError({WORDS})", "ModuleNotFoundError while importing it"),
        (f"raise AttributeError({WORDS})", "AttributeError while importing it"),
        ("import no_such_library.at_all", "No module named 'no_such_library'"),
        ("from json import no_such_name", "ImportError while importing 'json'"),
        (f"def __getattr__(name):\n    raise AttributeError({WORDS})", "the module has no attribute 'who'"),
        (f"def __getattr__(name):\n    raise KeyError({WORDS})", "KeyError while importing it"),
        (f"raise type({WORDS}, (Exception,), {{}})", "… while importing it"),
    ],
)
def test_words_of_the_applications_are_not_in_the_error_about_its_module(
    source: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "module_with_words.py").write_text(source + "\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "module_with_words", raising=False)
    with pytest.raises(ConfigError) as raised:
        NamedCallable("USAGE_IDENTITY", "module_with_words:who").load()
    assert str(raised.value).endswith(f"({why})")
    assert raised.value.__context__ is raised.value.__cause__ is None


@pytest.mark.parametrize(
    "setting", ["queue_size", "batch_size", "schedule_delay", "export_timeout", "shutdown_timeout"]
)
@pytest.mark.parametrize("value", [0, -1, float("nan")])
def test_a_size_or_a_time_is_above_0(setting: str, value: float) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is .* it takes a number above 0"):
        UsageConfig(**{setting: value})


@pytest.mark.parametrize("bands", [((0, "fast"),), ((300, "fast"), (60, "live")), ((60, "warp"),)])
def test_cache_bands_ascend_and_name_known_tiers(bands: tuple[tuple[int, str], ...]) -> None:
    with pytest.raises(ConfigError, match="cache_bands"):
        UsageConfig(cache_bands=bands)


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://localhost:4318", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/v1/traces", "http://localhost:4318/v1/traces"),
        ("http://localhost:4318/v1/traces/", "http://localhost:4318/v1/traces"),
        ("https://collector.example.com/otlp", "https://collector.example.com/otlp/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ],
)
def test_an_http_endpoint_is_completed_with_the_path_of_traces(endpoint: str, url: str) -> None:
    assert read(USAGE_OTLP_ENDPOINT=endpoint).endpoint == url


def test_a_grpc_endpoint_is_taken_as_it_is_and_has_no_path() -> None:
    grpc = {"USAGE_OTLP_PROTOCOL": "grpc"}
    assert read(USAGE_OTLP_ENDPOINT="http://localhost:4317", **grpc).endpoint == "http://localhost:4317"
    with pytest.raises(ConfigError, match="for gRPC without a path"):
        read(USAGE_OTLP_ENDPOINT="http://localhost:4317/v1/traces", **grpc)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, True),
        ({"axiom_domain": "edge.example.com"}, True),
        ({"otlp_endpoint": "https://api.axiom.co"}, True),
        ({"otlp_endpoint": "https://API.AXIOM.CO./"}, True),
        ({"otlp_endpoint": "https://eu-central-1.aws.edge.axiom.co"}, True),
        ({"otlp_endpoint": "https://notaxiom.co"}, False),
        ({"otlp_endpoint": "https://axiom.co.example.com"}, False),
        ({"otlp_endpoint": "http://localhost:4318"}, False),
    ],
)
def test_axiom_itself_is_told_from_another_sink(settings: dict[str, Any], expected: bool) -> None:
    assert UsageConfig(**settings).to_axiom is expected


@pytest.mark.parametrize(
    ("endpoint", "expected"),
    [
        (None, True),
        ("https://collector.example.com", True),
        ("http://localhost:4318", True),
        ("http://LOCALHOST.:4318", True),
        ("http://127.0.0.1:4318", True),
        ("http://127.8.8.8:4318", True),
        ("http://[::1]:4318", True),
        ("http://collector:4318", False),
        ("http://10.0.0.7:4318", False),
        ("http://127.0.0.1.example.com:4318", False),
        ("http://127.example.com", False),
        ("http://localhost.example.com", False),
        ("http://api.axiom.co", False),
    ],
)
def test_the_token_travels_over_tls_or_within_this_machine_only(endpoint: str | None, expected: bool) -> None:
    assert UsageConfig(otlp_endpoint=endpoint).token_may_travel is expected


def test_variables_that_mean_nothing_are_listed() -> None:
    environ = {
        **dict.fromkeys(VARIABLES, ""),
        **ON,
        "USAGE_PROVIDER": "x",
        "USAGE_A": "y",
        "OTHER": "z",
        "MY_USAGE_": "",
    }
    assert unknown_variables(environ) == ["USAGE_A", "USAGE_PROVIDER"]


def test_a_configs_repr_shows_no_secret() -> None:
    config = UsageConfig(axiom_token="xaat-hunter2", key_pepper=f"k1:{SECRET}", user_agent_pepper=f"k2:{SECRET}")
    assert "hunter2" not in repr(config)
    assert "axiom_dataset='api_usage'" in repr(config)


def test_a_config_is_frozen() -> None:
    config = UsageConfig()
    for field in dataclasses.fields(config):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(config, field.name, None)


def test_a_pepper_that_is_taken_makes_a_hash() -> None:
    for pepper in (PEPPER, "0123456789abcdef", "Not-A-Key-Id:0123456789abcdef", "pässwörter-sind-lang"):
        config = UsageConfig(key_pepper=pepper)
        assert config.key_pepper is not None
        assert len(KeyedHash(config.key_pepper)("sk_live").partition(":")[2]) == 32


def test_registered_words_stand_beside_the_schemas_own() -> None:
    config = UsageConfig(reasons=frozenset({"quota_402"}), auth_kinds=frozenset({"saml"}))
    assert {"quota_402", "ok", "tier_403"} <= config.known_reasons
    assert {"saml", "jwt", "anon"} <= config.known_auth_kinds


@pytest.mark.parametrize("setting", ["reasons", "auth_kinds"])
@pytest.mark.parametrize("word", ["free text", "", "Upper", "9lives", "x" * 65, "a\n", "ä"])
def test_a_registered_word_that_could_not_leave_is_refused(setting: str, word: str) -> None:
    with pytest.raises(ConfigError, match=f"{setting} is "):
        UsageConfig(**{setting: frozenset({"fine", word})})  # type: ignore[arg-type]  # the setting is a parameter


def test_one_word_in_the_place_of_a_set_is_refused_and_not_taken_for_its_letters() -> None:
    with pytest.raises(ConfigError, match="a set of words"):
        UsageConfig(reasons="maintenance")  # type: ignore[arg-type]  # the mistake
