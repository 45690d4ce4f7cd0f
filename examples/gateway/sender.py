"""Sends exchanges to the gateway and counts what it sent and what came back."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Final

import httpx

from .callers import Caller
from .exchanges import Exchange, Outcome, Style
from .providers import CALLS_HEADER, LATER_CALLS_HEADER
from .tally import TrafficTally

CAN_CONVERSE: Final = find_spec("websockets") is not None
"""Whether exchanges over WebSockets can be sent. Nothing else needs that package."""

_TIMEOUT: Final = 30.0
# Shorter than the 5 s after which uvicorn closes an idle connection, so that no request meets a closing one.
_KEEPALIVE: Final = 2.0
_EVENT_END: Final = b"\n\n"
_SWITCHING_PROTOCOLS: Final = 101


def open_client(base_url: str, concurrency: int) -> httpx.AsyncClient:
    """A client for ``concurrency`` exchanges at a time."""
    return httpx.AsyncClient(
        base_url=base_url,
        # Uncompressed, so that the bytes that are counted are those that the application sent.
        headers={"accept-encoding": "identity", "user-agent": "gateway-traffic"},
        timeout=_TIMEOUT,
        limits=httpx.Limits(max_connections=concurrency, keepalive_expiry=_KEEPALIVE),
        trust_env=False,
    )


@dataclass(frozen=True, slots=True)
class _Answer:
    status: int
    headers: Mapping[str, str]
    size: int


class Sender:
    """Sends one exchange after another. The tally holds those that are over."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self.tally = TrafficTally()
        self._client = client
        self._etag: str | None = None

    async def send(self, exchange: Exchange, caller: Caller) -> None:
        """One exchange, counted once."""
        try:
            answer = await self._perform(exchange, caller)
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, ConnectionRefusedError):
            self.tally.not_sent += 1
        except (httpx.HTTPError, OSError) as error:
            self.tally.unclear[type(error).__name__] += 1
        else:
            self._count(exchange, caller, answer)

    async def _perform(self, exchange: Exchange, caller: Caller) -> _Answer:
        if exchange.style is Style.WEBSOCKET:
            return await self._converse(exchange, caller)
        headers = {**exchange.headers, **caller.headers}
        if exchange.revalidates and self._etag:
            headers["if-none-match"] = self._etag
        request = self._client.build_request(exchange.method, exchange.path, headers=headers, content=exchange.body)
        response = await self._client.send(request, stream=True)
        try:
            size = await _read(response, until_first_event=exchange.style is Style.ABORTED and response.is_success)
        finally:
            # Closing a response that has not ended closes its connection: that is what the server sees of an abort.
            await response.aclose()
        if exchange.revalidates and response.is_success:
            self._etag = response.headers.get("etag", self._etag)
        return _Answer(response.status_code, response.headers, size)

    async def _converse(self, exchange: Exchange, caller: Caller) -> _Answer:
        # Here and not above, because the package behind it may be missing: then no such exchange is sent.
        from .conversation import ConversationError, converse  # see the comment

        url = str(self._client.base_url.join(exchange.path)).replace("http", "ws", 1)
        try:
            handshake = await converse(url, caller, _TIMEOUT)
        except ConversationError as error:
            raise httpx.NetworkError(str(error)) from error
        return _Answer(handshake.status, handshake.headers, handshake.size)

    def _count(self, exchange: Exchange, caller: Caller, answer: _Answer) -> None:
        tally, outcomes = self.tally, exchange.outcomes(caller)
        outcome = outcomes.get(answer.status)
        if outcome is None:
            tally.unexpected[f"{exchange.name}: {answer.status}"] += 1
            outcome = next(iter(outcomes.values()))
        tally.requests += 1
        tally.by_status[answer.status] += 1
        tally.by_reason[outcome.reason] += 1
        tally.by_route[outcome.template] += 1
        tally.by_caller[outcome.customer, outcome.tier] += 1
        tally.aborted += outcome.reason == "client_aborted"
        sizes = tally.websocket_bytes if answer.status == _SWITCHING_PROTOCOLS else tally.response_bytes
        if answer.size:
            sizes[outcome.customer] += answer.size
        self._count_upstream(outcome, answer)

    def _count_upstream(self, outcome: Outcome, answer: _Answer) -> None:
        headers = {name.lower(): value for name, value in answer.headers.items()}
        for name in (CALLS_HEADER, LATER_CALLS_HEADER):
            for part in filter(None, headers.get(name, "").split(",")):
                provider, _, count = part.partition("=")
                self.tally.upstream_calls[outcome.customer, provider] += int(count)


async def _read(response: httpx.Response, *, until_first_event: bool) -> int:
    """Read the body, or its first event alone. Returns how many bytes came."""
    size, tail = 0, b""
    async for chunk in response.aiter_raw():
        size += len(chunk)
        tail = (tail + chunk)[-len(_EVENT_END) :]
        if until_first_event and tail == _EVENT_END:
            break
    return size
