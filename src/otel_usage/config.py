"""What can be set: one frozen :class:`UsageConfig`, by hand or from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from .endpoints import host_of, is_loopback, split_url
from .errors import ConfigError
from .forms import BRIDGED, MODEL_CALLS, WORD
from .hosts import HostPatterns
from .keys import SHORTEST_SECRET, NamedKey, named_key
from .named_callable import NamedCallable
from .schema import AUTH_KINDS, CACHE_TIERS, PERSONAL_KEYS, REASONS
from .trusted_proxy import TrustedProxy

if TYPE_CHECKING:
    from .identity import UsageIdentity

AXIOM_DOMAIN: Final = "us-east-1.aws.edge.axiom.co"
"""Axiom's edge deployment that is used unless ``AXIOM_DOMAIN`` names another."""

IdentityHook = Callable[[Mapping[str, Any]], "UsageIdentity | None"]
"""Takes the ASGI scope or the WSGI environ of a request whose response starts, and says who is calling."""


class OtlpProtocol(StrEnum):
    """The transports of OTLP that are supported, by OpenTelemetry's names for them."""

    HTTP_PROTOBUF = "http/protobuf"
    GRPC = "grpc"


class SpoolMode(StrEnum):
    """Where what cannot be sent is kept, other than in a directory that is named."""

    DISK = "disk"
    """In the user's own state directory: ``$XDG_STATE_HOME/otel_usage``, or ``~/.local/state/otel_usage``."""
    MEMORY = "memory"
    OFF = "off"


class FlushMode(StrEnum):
    """When spans are sent."""

    BATCH = "batch"
    """In batches, from a thread of their own: no request waits."""
    REQUEST = "request"
    """At the end of each request, before its last byte: for runtimes that freeze a process between requests."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageConfig:
    """Settings of one pipeline. Values that cannot be right raise :class:`~otel_usage.errors.ConfigError` here."""

    enabled: bool = True
    """``USAGE_TELEMETRY``. False: no hooks, no threads, no cost."""
    axiom_token: str | None = field(default=None, repr=False)
    """``AXIOM_API_TOKEN``: an API token (``xaat-…``). Sent only over TLS or to this machine."""
    axiom_dataset: str = "api_usage"
    """``AXIOM_DATASET``: the dataset that spans go to."""
    axiom_domain: str = AXIOM_DOMAIN
    """``AXIOM_DOMAIN``: the dataset's edge deployment, or ``api.axiom.co``."""
    otlp_endpoint: str | None = None
    """``USAGE_OTLP_ENDPOINT``: a Collector or another sink to use in place of Axiom. None: Axiom."""
    otlp_protocol: OtlpProtocol = OtlpProtocol.HTTP_PROTOBUF
    """``USAGE_OTLP_PROTOCOL``."""
    identity: IdentityHook | None = None
    """``USAGE_IDENTITY=module:callable``: asked who is calling when a response starts. None: nobody is."""
    key_pepper: str | None = field(default=None, repr=False)
    """``USAGE_KEY_PEPPER``: keys the hash that becomes ``usage.principal.id``; ``id:secret`` names the key.
    None: that attribute is absent."""
    user_agent_pepper: str | None = field(default=None, repr=False)
    """``USAGE_UA_PEPPER``: the same for ``usage.user_agent.hash``."""
    trusted_proxy: TrustedProxy | str | None = None
    """``USAGE_TRUSTED_PROXY``: what stands in front of the service, whose headers are believed; by hand a
    :class:`~otel_usage.trusted_proxy.TrustedProxy` or the variable's text. None: nothing does."""
    baggage_key: str | None = field(default=None, repr=False)
    """``USAGE_BAGGAGE_KEY``: signs the customer's way to services and jobs of one's own; ``id:secret``, or several,
    separated by commas: the first signs, all verify. None: customers stay here, and none that come are believed."""
    baggage_hosts: frozenset[str] = frozenset()
    """``USAGE_BAGGAGE_HOSTS``: services of one's own, which calls tell the customer: ``pricing.internal``,
    ``*.svc.cluster.local:8080``. Without a port: on any. Empty: none."""
    baggage_audience: frozenset[str] = frozenset()
    """``USAGE_BAGGAGE_AUDIENCE``: the hosts by which services of one's own call this one, as above. A customer that is
    meant for another host is not believed. Empty: none is."""
    job_lifetime: float = 7 * 86400.0
    """``USAGE_JOB_LIFETIME``: seconds after a job was enqueued, within which its attempts are the customer's."""
    providers: Mapping[str, str] = field(default_factory=dict)
    """``USAGE_PROVIDERS``: host, without port, to provider name. ``*.example.com`` stands for every host below it."""
    bridge: frozenset[str] = frozenset()
    """``USAGE_BRIDGE``: the spans of other instrumentations that become usage: ``gen_ai`` (model calls), and those of
    instrumentation scopes that are named. Empty: none."""
    personal: frozenset[str] = frozenset()
    """``USAGE_PERSONAL``: the personal attributes that are recorded. Empty: none."""
    email_addresses: bool = False
    """``USAGE_EMAIL_ADDRESSES``: whether e-mail addresses may leave within values. False: they are redacted."""
    official_encoder: bool = False
    """``USAGE_OFFICIAL_ENCODER``: OpenTelemetry's own encoder writes every span, in ten times the time."""
    dev_header: bool = False
    """``USAGE_DEV_HEADER``: answer with ``x-usage-telemetry: ok|degraded``."""
    reasons: frozenset[str] = frozenset()
    """Reasons of the application's own, beside those of the schema: words, as those are."""
    auth_kinds: frozenset[str] = frozenset()
    """Kinds of authentication of the application's own, beside those of the schema: words, as those are."""
    cache_bands: tuple[tuple[int, str], ...] = (
        (60, "live"), (300, "fast"), (900, "medium"), (3600, "slow"), (21600, "static"), (604800, "daily"),
    )  # fmt: skip
    """Seconds of shared freshness, up to which a response is of a cache tier; ascending."""
    spool: SpoolMode | Path = SpoolMode.DISK
    """``USAGE_SPOOL``: the directory where spans that cannot be sent are kept; ``memory``: they are kept there, and
    lost with the process; ``off``: no more of them are kept than the queue holds."""
    spool_bytes: int = 256 * 2**20
    """Bytes of compressed spans on disk at most, for each service; beyond that, the oldest are dropped."""
    spool_memory_bytes: int = 16 * 2**20
    """The same where they are kept in memory."""
    spool_age: float = 7 * 86400.0
    """Seconds that spans are kept on disk at most."""
    flush: FlushMode = FlushMode.BATCH
    """``USAGE_FLUSH``."""
    queue_size: int = 8192
    """Spans that wait in the queue at most; one more is dropped and counted as ``queue_full``."""
    batch_size: int = 512
    """Spans in one export attempt at most. Axiom takes 10,000 events a request."""
    schedule_delay: float = 1.0
    """Seconds that a span waits for company before it is sent."""
    export_timeout: float = 1.5
    """Seconds that one export attempt may take, whatever the server does."""
    shutdown_timeout: float = 2.0
    """Seconds that the end of the process may wait for delivery."""

    def __post_init__(self) -> None:
        # By hand, a plain word or path is as good as the enumeration's member or a Path.
        object.__setattr__(self, "otlp_protocol", _protocol("USAGE_OTLP_PROTOCOL", self.otlp_protocol))
        object.__setattr__(self, "flush", _flush("USAGE_FLUSH", self.flush))
        if self.spool is not SpoolMode.DISK:
            object.__setattr__(self, "spool", _spool("USAGE_SPOOL", str(self.spool)))
        if isinstance(self.trusted_proxy, str):
            object.__setattr__(self, "trusted_proxy", TrustedProxy.parse(self.trusted_proxy))
        object.__setattr__(self, "providers", {host.lower(): name for host, name in self.providers.items()})
        _require(_DATASET.fullmatch(self.axiom_dataset), "AXIOM_DATASET", self.axiom_dataset, _DATASET_FORM)
        _require(_DOMAIN.fullmatch(self.axiom_domain), "AXIOM_DOMAIN", self.axiom_domain, _DOMAIN_FORM)
        _require(
            self.axiom_token is None or _TOKEN.fullmatch(self.axiom_token), "AXIOM_API_TOKEN", None,
            "an Axiom API token: printable ASCII without spaces, such as xaat-…",
        )  # fmt: skip
        if self.otlp_endpoint is not None:
            _check_endpoint(self.otlp_endpoint, self.otlp_protocol)
        else:
            over_http = self.otlp_protocol is OtlpProtocol.HTTP_PROTOBUF
            _require(over_http, "USAGE_OTLP_PROTOCOL", self.otlp_protocol.value, _AXIOM_PROTOCOL_FORM)
        for setting, pepper in (("USAGE_KEY_PEPPER", self.key_pepper), ("USAGE_UA_PEPPER", self.user_agent_pepper)):
            _require(pepper is None or named_key(pepper).strong, setting, None, _PEPPER_FORM)
        self._check_baggage()
        self._check_words()
        for key in self.personal:
            _require(key in PERSONAL_KEYS, "USAGE_PERSONAL", key, f"keys among {', '.join(sorted(PERSONAL_KEYS))}")
        limits = [seconds for seconds, _ in self.cache_bands]
        ascending = limits == sorted(limits) and all(seconds > 0 for seconds in limits)
        _require(ascending, "cache_bands", str(limits), "ascending numbers of seconds above 0")
        for _, tier in self.cache_bands:
            _require(tier in CACHE_TIERS, "cache_bands", tier, f"one of {', '.join(CACHE_TIERS)}")
        for setting in _NUMBERS:
            value = getattr(self, setting)
            _require(value > 0, setting, str(value), "a number above 0")

    def _check_baggage(self) -> None:
        hosts = {"USAGE_BAGGAGE_HOSTS": self.baggage_hosts, "USAGE_BAGGAGE_AUDIENCE": self.baggage_audience}
        for setting, patterns in hosts.items():
            _require(not isinstance(patterns, str), setting, str(patterns), "a set of hosts")
            HostPatterns(setting, patterns)
            keyless = patterns and self.baggage_key is None
            _require(not keyless, setting, ",".join(sorted(patterns)), "hosts only together with USAGE_BAGGAGE_KEY")
        keys = _key_ring(self.baggage_key)
        distinct = len({key.key_id for key in keys}) == len(keys)
        _require(distinct and all(key.strong for key in keys), "USAGE_BAGGAGE_KEY", None, _BAGGAGE_KEY_FORM)
        _require(not keys or find_spec("itsdangerous"), "USAGE_BAGGAGE_KEY", None, _BAGGAGE_EXTRA)

    def _check_words(self) -> None:
        for setting, words, form, accepts in (
            ("reasons", self.reasons, WORD, _WORD_FORM), ("auth_kinds", self.auth_kinds, WORD, _WORD_FORM),
            ("USAGE_BRIDGE", self.bridge, BRIDGED, _BRIDGE_FORM),
        ):  # fmt: skip
            _require(not isinstance(words, str), setting, str(words), "a set of words")
            for word in words:
                _require(isinstance(word, str) and form.fullmatch(word), setting, str(word), accepts)

    @property
    def proxy(self) -> TrustedProxy | None:
        """What ``trusted_proxy`` declares. None: nothing stands in front."""
        assert not isinstance(self.trusted_proxy, str)  # it has been read
        return self.trusted_proxy

    @property
    def baggage_keys(self) -> dict[str, str]:
        """Key id to secret, of ``baggage_key``. The first one signs."""
        return dict(_key_ring(self.baggage_key))

    @property
    def endpoint(self) -> str:
        """Where spans go: the URL of the OTLP/HTTP request, or host and port with scheme for gRPC."""
        if self.otlp_endpoint is None:
            return f"https://{self.axiom_domain}/v1/traces"
        if self.otlp_protocol is OtlpProtocol.GRPC:
            return self.otlp_endpoint
        base = self.otlp_endpoint.rstrip("/")
        return base if base.endswith("/v1/traces") else f"{base}/v1/traces"

    @property
    def to_axiom(self) -> bool:
        """Whether spans go to Axiom itself, which refuses them without a token."""
        host = host_of(urlsplit(self.endpoint))
        return self.otlp_endpoint is None or host == "axiom.co" or host.endswith(".axiom.co")

    @property
    def lacks_token(self) -> bool:
        """Whether nothing can be sent for want of a token."""
        return self.to_axiom and self.axiom_token is None

    @property
    def token_may_travel(self) -> bool:
        """Whether the way to the endpoint keeps the token secret: TLS, or this machine."""
        url = urlsplit(self.endpoint)
        return url.scheme == "https" or is_loopback(host_of(url))

    @property
    def known_reasons(self) -> frozenset[str]:
        """Every reason that ``reject()`` takes."""
        return self.reasons.union(REASONS)

    @property
    def known_auth_kinds(self) -> frozenset[str]:
        """Every kind of authentication that ``identify()`` takes."""
        return self.auth_kinds.union(AUTH_KINDS)

    @classmethod
    def from_env(cls, environ: Mapping[str, str] | None = None) -> UsageConfig:
        """Read the settings from ``environ``, by default the process's own. Empty values count as absent.

        Raises:
            ConfigError: a variable has a value that it does not take.
        """
        env = {name: value for name, value in (os.environ if environ is None else environ).items() if value != ""}
        if env.get("USAGE_TELEMETRY") != "1":
            return cls(enabled=False)
        readers: dict[str, tuple[str, Callable[[str, str], object]]] = VARIABLES
        found = {setting: read(name, env[name]) for name, (setting, read) in readers.items() if name in env}
        return cls(**found)  # type: ignore[arg-type]  # the table names the fields with their readers


def unknown_variables(environ: Mapping[str, str]) -> list[str]:
    """The ``USAGE_…`` variables that mean nothing to this version: most likely misspelt."""
    known = {*VARIABLES, "USAGE_TELEMETRY"}
    return sorted(name for name in environ if name.startswith("USAGE_") and name not in known)


def _text(_name: str, value: str) -> str:
    return value


def _flag(name: str, value: str) -> bool:
    _require(value in ("0", "1"), name, value, "1 or 0")
    return value == "1"


def _seconds(name: str, value: str) -> float:
    _require(_WHOLE.fullmatch(value), name, value, "a whole number of seconds above 0")
    return float(value)


def _protocol(name: str, value: str) -> OtlpProtocol:
    names = [protocol.value for protocol in OtlpProtocol]
    _require(value in names, name, value, " or ".join(names))
    return OtlpProtocol(value)


def _flush(name: str, value: str) -> FlushMode:
    modes = [mode.value for mode in FlushMode]
    _require(value in modes, name, value, " or ".join(modes))
    return FlushMode(value)


def _spool(name: str, value: str) -> SpoolMode | Path:
    if value in (SpoolMode.MEMORY, SpoolMode.OFF):
        return SpoolMode(value)
    path = Path(value)
    _require(path.is_absolute() and "\0" not in value, name, value, _SPOOL_FORM)
    _require(not path.exists() or path.is_dir(), name, value, _SPOOL_FORM)
    return path


def _proxy(_name: str, value: str) -> TrustedProxy | None:
    return TrustedProxy.parse(value)


def _names(_name: str, value: str) -> frozenset[str]:
    return frozenset(part.strip() for part in value.split(",") if part.strip())


def _key_ring(text: str | None) -> list[NamedKey]:
    return [named_key(part.strip()) for part in text.split(",")] if text is not None else []


def _pairs(name: str, value: str) -> dict[str, str]:
    accepts = "host=name pairs, such as api.openai.com=openai,*.finance.com=quotes"
    pairs = {}
    for part in filter(None, map(str.strip, value.split(","))):
        host, _, provider = map(str.strip, part.partition("="))
        _require(_HOST_PATTERN.fullmatch(host) and provider, name, part, accepts)
        pairs[host] = provider
    return pairs


VARIABLES: Final[dict[str, tuple[str, Callable[[str, str], object]]]] = {
    "AXIOM_API_TOKEN": ("axiom_token", _text),
    "AXIOM_DATASET": ("axiom_dataset", _text),
    "AXIOM_DOMAIN": ("axiom_domain", _text),
    "USAGE_OTLP_ENDPOINT": ("otlp_endpoint", _text),
    "USAGE_OTLP_PROTOCOL": ("otlp_protocol", _protocol),
    "USAGE_IDENTITY": ("identity", NamedCallable),
    "USAGE_KEY_PEPPER": ("key_pepper", _text),
    "USAGE_UA_PEPPER": ("user_agent_pepper", _text),
    "USAGE_TRUSTED_PROXY": ("trusted_proxy", _proxy),
    "USAGE_BAGGAGE_KEY": ("baggage_key", _text),
    "USAGE_BAGGAGE_HOSTS": ("baggage_hosts", _names),
    "USAGE_BAGGAGE_AUDIENCE": ("baggage_audience", _names),
    "USAGE_JOB_LIFETIME": ("job_lifetime", _seconds),
    "USAGE_PROVIDERS": ("providers", _pairs),
    "USAGE_BRIDGE": ("bridge", _names),
    "USAGE_PERSONAL": ("personal", _names),
    "USAGE_EMAIL_ADDRESSES": ("email_addresses", _flag),
    "USAGE_OFFICIAL_ENCODER": ("official_encoder", _flag),
    "USAGE_DEV_HEADER": ("dev_header", _flag),
    "USAGE_SPOOL": ("spool", _spool),
    "USAGE_FLUSH": ("flush", _flush),
}
"""Environment variable to the field it sets and the function that reads it."""

_NUMBERS: Final = (
    "job_lifetime", "spool_bytes", "spool_memory_bytes", "spool_age", "queue_size", "batch_size", "schedule_delay",
    "export_timeout", "shutdown_timeout",
)  # fmt: skip
_WORD_FORM: Final = "words of a-z, 0-9, _ and -, that begin with a letter and have 64 characters at most"
_SPOOL_FORM: Final = "the absolute path of a directory, memory or off"
_BRIDGE_FORM: Final = (
    f"{MODEL_CALLS}, or the names of instrumentation scopes, such as opentelemetry.instrumentation.redis"
)
_DATASET: Final = re.compile(r"[A-Za-z0-9_.-]{1,128}")
_DATASET_FORM: Final = "a dataset's name: letters, digits, _ . - (at most 128)"
_DOMAIN: Final = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")
_DOMAIN_FORM: Final = f"a host name without scheme, port or path, such as {AXIOM_DOMAIN} or api.axiom.co"
_TOKEN: Final = re.compile(r"[!-~]+")
_SECRET_FORM: Final = f"a secret of at least {SHORTEST_SECRET} printable characters"
_PEPPER_FORM: Final = f"{_SECRET_FORM}, not counting the name of its key before a colon"
_BAGGAGE_KEY_FORM: Final = f"{_PEPPER_FORM}; or several of them, separated by commas, each of another name"
_BAGGAGE_EXTRA: Final = "a key where itsdangerous is installed: pip install 'otel-usage[baggage]'"
_AXIOM_PROTOCOL_FORM: Final = "http/protobuf for Axiom; grpc needs USAGE_OTLP_ENDPOINT"
_WHOLE: Final = re.compile(r"0*[1-9][0-9]{0,9}")
_HOST_PATTERN: Final = re.compile(r"(\*\.)?[A-Za-z0-9_.-]+")


def _require(condition: object, setting: str, got: str | None, accepts: str) -> None:
    if not condition:
        raise ConfigError(setting, got, accepts)


def _check_endpoint(endpoint: str, protocol: OtlpProtocol) -> None:
    example = "http://localhost:4317" if protocol is OtlpProtocol.GRPC else "http://localhost:4318"
    accepts = f"an http:// or https:// URL without user, query or fragment, such as {example}"
    url = split_url(endpoint)
    _require(url, "USAGE_OTLP_ENDPOINT", endpoint, accepts)
    bare = protocol is not OtlpProtocol.GRPC or (url and url.path in ("", "/"))
    _require(bare, "USAGE_OTLP_ENDPOINT", endpoint, f"{accepts}; for gRPC without a path")
