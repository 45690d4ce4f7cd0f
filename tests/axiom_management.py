"""Axiom's management API for tests: it keeps state and refuses what the documentation of the API does not allow.

What it knows is from the OpenAPI document of version 2 in https://github.com/axiomhq/docs (August 2026).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from otel_usage.local.http_server import HttpServer
from otel_usage.local.messages import Request, Response, json_response

TOKEN: Final = "xaat-manage-0000"
EVERYTHING: Final = frozenset(
    f"{thing}|{verb}" for thing in ("dashboards", "monitors") for verb in ("create", "read", "update")
)

_DOCUMENT: Final = {
    "name": str, "owner": str, "charts": list, "layout": list, "refreshTime": int, "schemaVersion": int,
    "timeWindowStart": str, "timeWindowEnd": str,
}  # fmt: skip
_CHART: Final = {
    "Table": {"id", "type", "name", "query", "tableSettings"},
    "TimeSeries": {"id", "type", "name", "query"},
    "Note": {"id", "type", "text", "variant"},
}
_MONITOR: Final = {
    "name": str, "type": str, "description": str, "aplQuery": str, "operator": str, "threshold": (int, float),
    "rangeMinutes": int, "intervalMinutes": int, "alertOnNoData": bool, "notifyByGroup": bool, "notifierIds": list,
    "disabled": bool, "disabledUntil": str, "secondDelay": int, "resolvable": bool,
}  # fmt: skip
_OPERATORS: Final = {"Below", "BelowOrEqual", "Above", "AboveOrEqual", "AboveOrBelow"}


class Refusal(Exception):
    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ManagementStub:
    """The organization. ``with_url`` serves it."""

    def __init__(self) -> None:
        self.dashboards: dict[str, dict[str, Any]] = {}
        self.monitors: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str]] = []
        self.allowed: frozenset[str] = EVERYTHING
        self.next: list[Response] = []
        """Answers that are given in the place of its own, the first one first."""

    @property
    def writes(self) -> list[tuple[str, str]]:
        return [each for each in self.requests if each[0] != "GET"]

    @contextmanager
    def served(self) -> Iterator[str]:
        with HttpServer(self) as server:
            yield server.url

    def __call__(self, request: Request) -> Response:
        self.requests.append((request.method, request.path))
        if self.next:
            return self.next.pop(0)
        try:
            return self._answer(request)
        except Refusal as refusal:
            return json_response(refusal.status, {"code": "x", "message": str(refusal)})

    def _answer(self, request: Request) -> Response:
        if request.header("Authorization") != f"Bearer {TOKEN}":
            raise Refusal(401, "unauthorized")
        parts = request.path.strip("/").split("/")
        verb = {"GET": "read", "POST": "create", "PUT": "update"}[request.method]
        if f"{parts[1]}|{verb}" not in self.allowed:
            raise Refusal(403, f"forbidden: {parts[1]}|{verb}")
        body = json.loads(request.body) if request.body else None
        match request.method, parts:
            case "GET", ["v2", "monitors"]:
                return json_response(200, list(self.monitors.values()) or None)
            case "POST", ["v2", "monitors"]:
                return json_response(200, self._store_monitor(f"mon_{len(self.monitors)}", body))
            case "PUT", ["v2", "monitors", name] if name in self.monitors:
                return json_response(200, self._store_monitor(name, body))
            case "GET", ["v2", "dashboards", "uid", uid] if uid in self.dashboards:
                return json_response(200, self.dashboards[uid])
            case "POST", ["v2", "dashboards"]:
                return self._store_dashboard(body["uid"], body, is_new=True)
            case "PUT", ["v2", "dashboards", "uid", uid]:
                return self._store_dashboard(uid, body, is_new=False)
        raise Refusal(404, "not found")

    def _store_monitor(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        _check(body, _MONITOR, needed={"name", "type"})
        if body["type"] != "Threshold" or body["operator"] not in _OPERATORS or not body["aplQuery"].strip():
            raise Refusal(400, "invalid monitor")
        if body["rangeMinutes"] < 1 or body["intervalMinutes"] < 1:
            raise Refusal(400, "invalid minutes")
        made = {"notifierIds": [], "disabled": False, "resolvable": False, **body}
        self.monitors[name] = {**made, "id": name, "createdAt": "2026-01-01T00:00:00Z", "createdBy": "token"}
        return self.monitors[name]

    def _store_dashboard(self, uid: str, body: dict[str, Any], *, is_new: bool) -> Response:
        _check(body, {"dashboard": dict, "uid": str, "overwrite": bool, "version": int, "message": str}, {"dashboard"})
        there = self.dashboards.get(uid)
        if is_new and there:
            raise Refusal(409, "dashboard already exists")
        if there and body.get("version") != there["version"]:
            raise Refusal(412, "version conflict")
        document = body["dashboard"]
        _check_document(uid, document)
        # Axiom's console has settings of its own for a place.
        layout = [{**place, "minW": 2, "static": False} for place in document["layout"]]
        version = there["version"] + 1 if there else 1
        self.dashboards[uid] = {
            "uid": uid, "id": "1", "version": version, "dashboard": {**document, "layout": layout},
            "createdAt": "x", "updatedAt": "x", "createdBy": "x", "updatedBy": "x",
        }  # fmt: skip
        answer = {"status": "updated" if there else "created", "dashboard": self.dashboards[uid]}
        return json_response(200 if there else 201, answer)


def _check(body: Any, known: Mapping[str, Any], needed: set[str]) -> None:
    if not isinstance(body, dict) or not needed <= set(body):
        raise Refusal(400, "something is missing")
    for name, value in body.items():
        if name not in known:
            raise Refusal(400, f"unrecognized key: {name}")
        is_number = isinstance(value, int) and not isinstance(value, bool)
        if not isinstance(value, known[name]) or (known[name] is int and not is_number):
            raise Refusal(400, f"wrong type: {name}")


def _check_document(uid: str, document: Any) -> None:
    _check(document, {**_DOCUMENT, "description": str}, set(_DOCUMENT))
    if not re.fullmatch("[A-Za-z0-9_-]{1,128}", uid) or len(document["name"]) > 100:
        raise Refusal(400, "invalid name")
    if document["owner"] != "X-AXIOM-EVERYONE":
        raise Refusal(403, "creating private dashboards is not allowed for API tokens")
    if document["refreshTime"] not in (15, 60, 300) or document["schemaVersion"] != 2:
        raise Refusal(400, "invalid refreshTime or schemaVersion")
    _check_charts(document)


def _check_charts(document: Any) -> None:
    if not re.fullmatch("qr-now-[0-9]+[smhdw]", document["timeWindowStart"]) or document["timeWindowEnd"] != "qr-now":
        raise Refusal(400, "invalid time window")
    ids = []
    for chart in document["charts"]:
        if set(chart) - _CHART.get(chart["type"], set()):
            raise Refusal(400, "unrecognized keys of a chart")
        if chart["type"] != "Note" and not chart["query"]["apl"]:
            raise Refusal(400, "no query")
        ids.append(chart["id"])
    if sorted(place["i"] for place in document["layout"]) != sorted(set(ids)) or len(set(ids)) != len(ids):
        raise Refusal(400, "the layout is not of the charts")
    for place in document["layout"]:
        if set(place) - {"i", "x", "y", "w", "h", "minW", "minH", "static"} or place["x"] + place["w"] > 12:
            raise Refusal(400, "invalid layout")
