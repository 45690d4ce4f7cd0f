"""The way queries go over HTTP: Axiom's query API, which the embedded sink answers too. Both its ends are here."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Final
from urllib.parse import urlsplit

from .answers import Answer
from .apl import run_apl
from .asking import TIMEOUT_SECONDS, RemoteError, exchange, refusal
from .errors import MissingExtraError, QueryError, QueryTimeoutError
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
_MEANING: Final = {
    401: "the token is missing or not known",
    403: "the token may not query this dataset",
    404: "there is no such dataset, or no such service",
    429: "too many queries: ask again later",
}


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
    seconds: float = TIMEOUT_SECONDS,
) -> Answer:
    """What the service at ``base`` answers to a query. ``start``, ``end``: the time that Axiom is to look at.

    Raises:
        RemoteError: it cannot be reached within ``seconds``, refuses, or answers something else.
    """
    body: dict[str, object] = {"apl": apl}
    if start is not None and end is not None:
        body |= {"startTime": start.isoformat(), "endTime": end.isoformat()}
    reply = exchange("POST", query_url(base), token, body, seconds)
    if reply.status != 200:
        raise RemoteError(refusal(base, reply, _MEANING, token))
    try:
        return Answer.from_tabular(reply.said)
    except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
        raise RemoteError(f"{base} answered 200 and no table") from error


def query_url(base: str) -> str:
    """Where queries are sent to at a service."""
    path = API_PATH if urlsplit(base).hostname == API_HOST else QUERY_PATH
    return f"{base.rstrip('/')}{path}{_FORMAT}"
