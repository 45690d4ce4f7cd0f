"""The way queries go over HTTP: Axiom's query API, which the embedded sink answers too. Both its ends are here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final
from urllib.parse import urlsplit

from ..redaction import redact
from .answers import Answer
from .apl import run_apl
from .errors import LocalError, MissingExtraError, QueryError, QueryTimeoutError
from .messages import Request, Response, error_response, json_response
from .otlp import JSON, essence
from .store import UsageStore

QUERY_PATH: Final = "/v1/query/_apl"
"""Where queries are sent to, at an edge deployment of Axiom's and at the embedded sink."""

API_HOST: Final = "api.axiom.co"
"""Axiom's other place, which serves them at :data:`API_PATH`."""

API_PATH: Final = "/v1/datasets/_apl"
"""Where queries are sent to at ``api.axiom.co``."""

_FORMAT: Final = "?format=tabular"
_TIMEOUT_SECONDS: Final = 60.0
_MAX_BODY_BYTES: Final = 64 * 1024 * 1024
_MAX_MESSAGE: Final = 300


class RemoteQueryError(LocalError):
    """Whoever was asked did not answer, or not with rows."""


def answer_request(store: UsageStore, request: Request) -> Response:
    """Answer a query as Axiom does: ``{"apl": …}`` with a table, what is wrong with a message.

    Raises:
        StoreError: the store cannot be read.
    """
    if request.method != "POST":
        return error_response(405, "method not allowed", {"Allow": "POST"})
    # A page of another origin can send other types without asking, and this one only after it was let.
    if essence(request.header("Content-Type")) != JSON:
        return error_response(415, f"send {JSON}")
    try:
        return json_response(200, run_apl(store, _apl(request)).to_tabular())
    except QueryTimeoutError as error:
        return error_response(504, str(error))
    except QueryError as error:
        return error_response(400, str(error))
    except MissingExtraError as error:
        return error_response(501, str(error))


def _apl(request: Request) -> str:
    try:
        body = json.loads(request.body or b"")
    except (ValueError, RecursionError):
        body = None
    apl = body.get("apl") if isinstance(body, dict) else None
    if not isinstance(apl, str):
        raise QueryError('the body is not JSON such as {"apl": "[\'api_usage\'] | count"}')
    if "startTime" in body or "endTime" in body:
        raise QueryError("startTime and endTime are not read here: say `where _time >= ago(1h)`")
    return apl


def ask(
    base: str,
    apl: str,
    token: str | None,
    *,
    start: datetime | None = None,
    end: datetime | None = None,
    seconds: float = _TIMEOUT_SECONDS,
) -> Answer:
    """What the service at ``base`` answers to a query. ``start``, ``end``: the time that Axiom is to look at.

    Raises:
        RemoteQueryError: it cannot be reached within ``seconds``, refuses, or answers something else.
    """
    body: dict[str, object] = {"apl": apl}
    if start is not None and end is not None:
        body |= {"startTime": start.isoformat(), "endTime": end.isoformat()}
    status, said = _post(query_url(base), body, token, seconds)
    if status != 200:
        raise RemoteQueryError(_refusal(base, status, said, token))
    try:
        return Answer.from_tabular(said)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RemoteQueryError(f"{base} answered 200 and no table") from error


def query_url(base: str) -> str:
    """Where queries are sent to at a service."""
    path = API_PATH if urlsplit(base).hostname == API_HOST else QUERY_PATH
    return f"{base.rstrip('/')}{path}{_FORMAT}"


def _post(url: str, body: Mapping[str, object], token: str | None, seconds: float) -> tuple[int, Any]:
    import urllib3

    headers = {"Content-Type": JSON, "Accept": JSON, **({"Authorization": f"Bearer {token}"} if token else {})}
    try:
        with urllib3.PoolManager(timeout=seconds, retries=False) as pool:
            # No redirects: the token is for this server.
            answer = pool.request(
                "POST", url, body=json.dumps(body).encode(), headers=headers, redirect=False, preload_content=False
            )
            content = answer.read(_MAX_BODY_BYTES + 1, decode_content=True)
    except (urllib3.exceptions.HTTPError, ValueError) as error:
        raise RemoteQueryError(f"no answer from {urlsplit(url).netloc}: {_cause(error)}") from error
    if len(content) > _MAX_BODY_BYTES:
        raise RemoteQueryError(f"{urlsplit(url).netloc} answered more than {_MAX_BODY_BYTES} bytes: ask for less")
    try:
        return answer.status, json.loads(content)
    except (ValueError, RecursionError):
        return answer.status, None


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


def _refusal(base: str, status: int, said: Any, token: str | None) -> str:
    message = said.get("message") if isinstance(said, dict) else None
    words = f": {_harmless(message, token)}" if isinstance(message, str) and message else ""
    meaning = {
        401: " (the token is missing or not known)",
        403: " (the token may not query this dataset)",
        404: " (there is no such dataset, or no such service)",
        429: " (too many queries: ask again later)",
    }
    return f"{urlsplit(base).netloc} answered {status}{meaning.get(status, '')}{words}"


def _harmless(text: str, token: str | None) -> str:
    # Whoever was asked may repeat what it was sent, and may send what a terminal obeys.
    without = text.replace(token, "[token]") if token else text
    return "".join(each if each.isprintable() else " " for each in redact(without)[:_MAX_MESSAGE])
