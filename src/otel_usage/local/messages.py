"""Requests and responses as values, so that what answers them needs no socket."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Request:
    """One HTTP request, read to its end."""

    method: str
    """In upper case."""
    path: str
    """The path without its query."""
    headers: Mapping[str, str]
    """By lower-case name. Lines of the same name are joined with a comma."""
    body: bytes | None
    """Empty: no body. None: it was longer than the server reads, and was left unread."""
    query: str = ""
    """The query string without its question mark."""

    def header(self, name: str) -> str:
        """The header's value, or an empty string where the request has none. ``name`` in any case."""
        return self.headers.get(name.lower(), "").strip()


@dataclass(frozen=True, slots=True)
class Response:
    """One HTTP response. The server adds ``Content-Length``."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""


def json_response(status: int, body: object, headers: Mapping[str, str] | None = None) -> Response:
    """A response that carries ``body`` as JSON."""
    return Response(status, {"Content-Type": "application/json", **(headers or {})}, json.dumps(body).encode())


def error_response(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
    """An error as Axiom words it: ``{"message": …}``, whatever the request's own content type was."""
    return json_response(status, {"message": message}, headers)
