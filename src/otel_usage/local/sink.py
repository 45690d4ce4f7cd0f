"""The handler of ``otel-usage serve``: the receiver in front of the store, and queries beside it."""

from __future__ import annotations

import logging
from threading import Lock
from typing import Final

from .access import Access
from .errors import StoreError
from .messages import Request, Response, error_response, json_response
from .query_api import QUERY_PATH, answer_request
from .receiver import Receiver
from .store import UsageStore, fingerprint

STORE_PATH: Final = "/v1/usage/store"
"""Where is asked which file the sink keeps: ``GET``. The answer does not say where that is."""

_LOG: Final = logging.getLogger(__name__)


class LocalSink:
    """Takes exports into a store, and answers queries. Thread-safe."""

    def __init__(self, store: UsageStore, token: str | None = None) -> None:
        """``token``: what every request must carry, for any dataset. None: nothing is checked."""
        self._store = store
        self._access = Access({token: None}) if token is not None else None
        # Field limits are the destination's; the sink keeps all that it can read.
        self._receiver = Receiver(self._access)
        self._lock = Lock()
        self._received = 0
        self._stored = 0

    @property
    def needs_token(self) -> bool:
        """Whether requests are checked for a token."""
        return self._access is not None

    @property
    def received(self) -> int:
        """Spans that arrived, with the repetitions of at-least-once delivery."""
        return self._received

    @property
    def stored(self) -> int:
        """Spans that were new."""
        return self._stored

    def admit(self, request: Request) -> Response | None:
        """Refuse a request without the token before its body is read. None: it may be sent."""
        return self._access.refuse(request) if self._access is not None else None

    def __call__(self, request: Request) -> Response:
        """Answer one request. A 200 to an export means that its spans are on the disk."""
        try:
            if request.path in _ASKED:
                return self.admit(request) or _ASKED[request.path](self._store, request)
            return self._export(request)
        except StoreError as error:
            _LOG.error("%s", error)
            return error_response(503, "the store cannot be used now")

    def _export(self, request: Request) -> Response:
        exchange = self._receiver.handle(request)
        stored = self._store.add(exchange.spans)
        with self._lock:
            self._received += len(exchange.spans)
            self._stored += stored
        return exchange.response


def _store(store: UsageStore, request: Request) -> Response:
    if request.method != "GET":
        return error_response(405, "method not allowed", {"Allow": "GET"})
    return json_response(200, {"store": fingerprint(store.path)})


_ASKED: Final = {STORE_PATH: _store, QUERY_PATH: answer_request}
