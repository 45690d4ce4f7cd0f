"""Axiom's API for dashboards and monitors (https://axiom.co/docs/restapi, version 2), as far as it is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import quote

from ..asking import RemoteError, Reply, exchange, refusal

BASE: Final = "https://api.axiom.co"
"""Where organizations are managed, wherever their datasets are."""

_MEANING: Final = {
    400: "it does not take this",
    401: "the token is missing, expired or not known: set AXIOM_MANAGEMENT_TOKEN to an advanced API token, xaat-…",
    403: "the token lacks a permission: it needs create, read and update for dashboards and for monitors",
    404: "there is no such thing there",
    409: "somebody has made it meanwhile: run this again",
    412: "somebody has changed it meanwhile: run this again",
}
_BUSY: Final = range(500, 600)


@dataclass(frozen=True, slots=True)
class ManagementApi:
    """What is asked of an organization. Nothing is tried twice: whoever applies again continues where this ended."""

    token: str = field(repr=False)
    base: str = BASE

    def dashboard(self, uid: str) -> Mapping[str, Any] | None:
        """A dashboard with its version. None: there is none.

        Raises:
            RemoteError: Axiom cannot be reached, or refuses.
        """
        reply = exchange("GET", self._url("dashboards", "uid", uid), self.token)
        if reply.status == 404:
            return None
        found = self._object(reply)
        if not isinstance(found.get("version"), int):
            raise self._nonsense()
        return found

    def create_dashboard(self, uid: str, document: Mapping[str, Any]) -> None:
        """Make a dashboard; one of that id must not be there.

        Raises:
            RemoteError: as above.
        """
        body = {"uid": uid, "dashboard": document, "overwrite": False}
        self._object(exchange("POST", self._url("dashboards"), self.token, body))

    def update_dashboard(self, uid: str, version: int, document: Mapping[str, Any]) -> None:
        """Replace a dashboard of that version, and of no later one.

        Raises:
            RemoteError: as above.
        """
        body = {"version": version, "dashboard": document, "overwrite": False}
        self._object(exchange("PUT", self._url("dashboards", "uid", uid), self.token, body))

    def monitors(self) -> list[Mapping[str, Any]]:
        """All monitors of the organization.

        Raises:
            RemoteError: as above.
        """
        reply = exchange("GET", self._url("monitors"), self.token)
        self._check(reply)
        found = reply.said if reply.said is not None else []  # Go's empty list is JSON's null
        if not isinstance(found, list) or not all(isinstance(each, dict) and each.get("id") for each in found):
            raise self._nonsense()
        return found

    def create_monitor(self, content: Mapping[str, Any]) -> None:
        """Make a monitor.

        Raises:
            RemoteError: as above.
        """
        self._object(exchange("POST", self._url("monitors"), self.token, content))

    def update_monitor(self, monitor: str, content: Mapping[str, Any]) -> None:
        """Replace a monitor.

        Raises:
            RemoteError: as above.
        """
        self._object(exchange("PUT", self._url("monitors", monitor), self.token, content))

    def _url(self, *path: str) -> str:
        return "/".join([self.base.rstrip("/"), "v2", *(quote(part, safe="") for part in path)])

    def _object(self, reply: Reply) -> Mapping[str, Any]:
        self._check(reply)
        if not isinstance(reply.said, dict):
            raise self._nonsense()
        return reply.said

    def _check(self, reply: Reply) -> None:
        if 200 <= reply.status < 300:
            return
        meaning = dict(_MEANING)
        if reply.status == 429:
            meaning[429] = f"too many requests: run this again {_when(reply.headers)}"
        if reply.status in _BUSY:
            meaning[reply.status] = "Axiom has a problem: run this again later"
        raise RemoteError(refusal(self.base, reply, meaning, self.token))

    def _nonsense(self) -> RemoteError:
        return RemoteError(f"{self.base} answered, but not as Axiom does: is it Axiom's API?")


def _when(headers: Mapping[str, str]) -> str:
    """``X-RateLimit-Reset`` is a moment in epoch seconds."""
    reset = headers.get("X-RateLimit-Reset", "")
    if not (reset.isascii() and reset.isdigit() and len(reset) < 12):
        return "in a minute"
    return f"in {max(1, int(reset) - int(time.time()))} s"
