"""Asking a service for JSON over HTTP, and saying in one line why it did not answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

from ..redaction import redact
from .errors import LocalError
from .otlp import JSON

TIMEOUT_SECONDS: Final = 60.0
"""Seconds that an answer may take."""

_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_MESSAGE: Final = 300


class RemoteError(LocalError):
    """Whoever was asked did not answer, or not with what was asked for."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a service answered."""

    status: int
    headers: Mapping[str, str]
    """In any case."""
    said: Any
    """What its JSON stands for. None: it was none."""


def exchange(
    method: str, url: str, token: str | None, body: Mapping[str, object] | None = None, seconds: float = TIMEOUT_SECONDS
) -> Reply:
    """Make one request, and read what is answered, whatever its status.

    Raises:
        RemoteError: nothing is answered within ``seconds``, or more than 64 MiB.
    """
    import urllib3

    headers = {"Content-Type": JSON, "Accept": JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
    content = None if body is None else json.dumps(body).encode()
    try:
        with urllib3.PoolManager(timeout=seconds, retries=False) as pool:
            # No redirects: the token is for this server.
            answer = pool.request(method, url, body=content, headers=headers, redirect=False, preload_content=False)
            read = answer.read(_MAX_BODY_BYTES + 1, decode_content=True)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise RemoteError(f"no answer from {urlsplit(url).netloc}: {_cause(error)}") from error
    if len(read) > _MAX_BODY_BYTES:
        raise RemoteError(f"{urlsplit(url).netloc} answered more than {_MAX_BODY_BYTES} bytes: ask for less")
    try:
        return Reply(answer.status, answer.headers, json.loads(read))
    except (ValueError, RecursionError):
        return Reply(answer.status, answer.headers, None)


def _cause(error: Exception) -> str:
    import urllib3

    causes = {
        urllib3.exceptions.NameResolutionError: "its name is not known",
        urllib3.exceptions.NewConnectionError: "it cannot be reached",  # which is a timeout, too, to urllib3
        urllib3.exceptions.TimeoutError: "it took too long",
        urllib3.exceptions.SSLError: "its certificate is not trusted",
    }
    named = (cause for kind, cause in causes.items() if isinstance(error, kind))
    return next(named, "it cannot be reached")


def refusal(url: str, reply: Reply, meaning: Mapping[int, str], token: str | None) -> str:
    """What to say of an answer with an error: its status, what that means here, and the service's own words."""
    message = reply.said.get("message") if isinstance(reply.said, dict) else None
    words = f": {harmless(message, token)}" if isinstance(message, str) and message else ""
    means = f" ({meaning[reply.status]})" if reply.status in meaning else ""
    return f"{urlsplit(url).netloc} answered {reply.status}{means}{words}"


def harmless(text: str, token: str | None) -> str:
    """What a service said, without the token, secrets and what a terminal obeys: it may repeat what it was sent."""
    without = text.replace(token, "[token]") if token else text
    return "".join(each if each.isprintable() else " " for each in redact(without)[:_MAX_MESSAGE])
