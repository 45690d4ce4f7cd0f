"""What is wrong between here and a sink, and what to do about it, in a sentence."""

from __future__ import annotations

import json
import ssl
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from ..config import UsageConfig
    from ..exporters.otlp_http import Answer
    from ..exporters.outcome import Outcome
    from ..exporters.probe import Probed

CLOCK_SECONDS: Final = 60.0
"""How far two clocks may be apart: a `Date` has whole seconds, and answers take some."""

_WRONG_HOST: Final = frozenset({62, 64})
_NOT_NOW: Final = {9: "is not valid yet", 10: "has expired"}
_EDGES: Final = ("us-east-1.aws.edge.axiom.co", "eu-central-1.aws.edge.axiom.co")


def what_is_wrong(config: UsageConfig, probed: Probed) -> list[str]:
    """Every finding, the first of them why the span was not taken. Empty: all is well."""
    found = _refusal(config, probed)
    ahead = probed.clock_ahead
    if ahead is not None and abs(ahead) > CLOCK_SECONDS:
        way = "ahead of" if ahead > 0 else "behind"
        clock = f"This machine's clock is {_duration(abs(ahead))} {way} the sink's, and so are its spans: set it (NTP)."
        return [*found, clock]
    return found


def _refusal(config: UsageConfig, probed: Probed) -> list[str]:
    from ..exporters.outcome import Accepted

    if isinstance(probed.outcome, Accepted):
        why = (
            "The sink answers 200 and rejects the span: a limit of its fields is reached, or a filter stands before it."
        )
        return [why] if probed.outcome.rejected else []
    if probed.answer is not None:
        return [_of_answer(config, probed.answer) + _words(config, probed.answer)]
    if probed.late:
        return [_late(config)]
    return [_of_grpc(config, probed.outcome) if probed.error is None else _of_error(config, probed.error)]


def _of_grpc(config: UsageConfig, outcome: Outcome) -> str:
    """GRPC has words of its own, and does not say what stands behind them."""
    from ..exporters.outcome import Misconfigured, RetryLater

    if isinstance(outcome, Misconfigured):
        return outcome.advice
    if isinstance(outcome, RetryLater):
        return _busy(config)
    why = getattr(outcome, "why", getattr(outcome, "word", type(outcome).__name__))
    if why == "timeout":
        return _late(config)
    return (
        f"No OTLP/gRPC service takes spans at {config.endpoint} ({why}): check host, port (4317 is usual), and whether "
        "it is http://, or https:// with a certificate that this machine trusts."
    )


def _of_answer(config: UsageConfig, answer: Answer) -> str:
    status, place = answer.status, _place(config)
    if 200 <= status < 300:
        return f"{place} answers {status}, but not as OTLP does: {_setting(config)} names something else."
    if 300 <= status < 400:
        return (
            f"{place} points elsewhere ({status}), where no token is sent to: let {_setting(config)} name that place."
        )
    if status >= 500:
        return f"{place} has a problem of its own ({status}): try again later; services keep spans, and retry."
    known = {401: _unknown_token, 403: _forbidden, 404: _not_found, 429: _busy}
    if status in known:
        return known[status](config)
    return (
        f"{place} refuses what OTLP sends ({status}): check that it takes protobuf over HTTP, and that the dataset "
        f"{config.axiom_dataset!r} is one for traces."
    )


def _unknown_token(config: UsageConfig) -> str:
    place = _place(config)
    if config.axiom_token is None:
        return f"{place} wants a token (401): set AXIOM_API_TOKEN."
    if not config.token_may_travel:
        return f"{place} wants a token (401), which is not sent over an open line: use https://."
    return (
        f"{place} does not know the token (401): set AXIOM_API_TOKEN to an API token of the organization that has "
        "neither expired nor been deleted."
    )


def _forbidden(config: UsageConfig) -> str:
    return (
        f"The token may not ingest into the dataset {config.axiom_dataset!r} (403): give AXIOM_API_TOKEN that "
        f"permission, or name another AXIOM_DATASET.{_region(config)}"
    )


def _not_found(config: UsageConfig) -> str:
    dataset = config.axiom_dataset
    if not config.to_axiom:
        return f"Nothing takes spans of {dataset!r} at {config.endpoint} (404): check that and AXIOM_DATASET."
    return f"There is no dataset {dataset!r} at {_place(config)} (404): check AXIOM_DATASET.{_region(config)}"


def _region(config: UsageConfig) -> str:
    if not config.to_axiom:
        return ""
    others = [edge for edge in _EDGES if edge != urlsplit(config.endpoint).hostname]
    return f" If it is in another region, set AXIOM_DOMAIN to that one's: {' or '.join(others)}."


def _busy(config: UsageConfig) -> str:
    return f"{_place(config)} takes no more for now (429): wait, or raise its limit; services keep spans, and retry."


def _late(config: UsageConfig) -> str:
    return (
        f"{_place(config)} did not answer within {config.export_timeout:g} s: check host and port, firewalls and "
        "proxies on the way, and whether the sink is well."
    )


def _of_error(config: UsageConfig, error: Exception) -> str:
    chain = list(_chain(error))
    for each in chain:
        if isinstance(each, ssl.SSLCertVerificationError):
            return _certificate(config, each)
    named = (sentence for kind, sentence in _sentences(config) if any(isinstance(each, kind) for each in chain))
    other = f"The span could not be sent to {_place(config)} ({type(error).__name__}): check {_setting(config)}."
    return next(named, other)


def _sentences(config: UsageConfig) -> Iterator[tuple[type[BaseException], str]]:
    """By kinds of errors: the narrower ones first, as one may be behind another."""
    from urllib3 import exceptions

    place, setting = _place(config), _setting(config)
    yield (
        exceptions.ProxyError,
        f"The proxy that the environment names does not lead to {place}: check HTTPS_PROXY and NO_PROXY.",
    )
    yield (
        exceptions.NameResolutionError,
        f"The name of {place} is not known: check {setting}, and DNS on this machine.",
    )
    yield (
        exceptions.NewConnectionError,
        f"Nobody listens at {place} (refused, or no way there): start the sink, or check {setting}.",
    )
    yield exceptions.TimeoutError, _late(config)
    yield (
        ssl.SSLError,
        f"{place} does not speak TLS as this machine does: check the port, and whether {setting} is to be http://.",
    )
    yield (
        exceptions.ProtocolError,
        f"{place} breaks the connection, or answers no HTTP: check that {setting} names the port of OTLP over HTTP "
        "(4318), not gRPC's (4317), and whether it wants https://.",
    )


def _certificate(config: UsageConfig, error: ssl.SSLCertVerificationError) -> str:
    place = _place(config)
    if error.verify_code in _WRONG_HOST:
        return f"The certificate of {place} is for another name: let {_setting(config)} name the one that it is for."
    if error.verify_code in _NOT_NOW:
        return (
            f"The certificate of {place} {_NOT_NOW[error.verify_code]}, or this machine's clock is wrong (it says "
            f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC): renew the one, or set the other."
        )
    return (
        f"The certificate of {place} is by an authority that this machine does not trust: let SSL_CERT_FILE name "
        "a file with that authority's, or see who is in between."
    )


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An error and what is behind it. urllib3 passes the cause on as an argument."""
    seen: list[BaseException] = [error]
    for each in seen:
        behind = [each.__cause__, each.__context__, *each.args, getattr(each, "reason", None)]
        seen += [other for other in behind if isinstance(other, BaseException) and other not in seen]
        yield each


def _words(config: UsageConfig, answer: Answer) -> str:
    """The sink's own words, where it has any."""
    from ..local.asking import harmless

    try:
        said = json.loads(answer.body)
    except (ValueError, RecursionError):
        return ""
    message = said.get("message") if isinstance(said, Mapping) else None
    return f" It says: {harmless(message, config.axiom_token)}" if isinstance(message, str) and message else ""


def _place(config: UsageConfig) -> str:
    return urlsplit(config.endpoint).netloc


def _setting(config: UsageConfig) -> str:
    return "AXIOM_DOMAIN" if config.otlp_endpoint is None else "USAGE_OTLP_ENDPOINT"


def _duration(seconds: float) -> str:
    for unit, size in (("days", 86_400), ("hours", 3_600), ("minutes", 60)):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"
