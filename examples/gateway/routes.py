"""The routes: one short handler for each way in which a service answers."""

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncIterator
from typing import Annotated, Final

import httpx
from fastapi import APIRouter, BackgroundTasks, FastAPI, Header, HTTPException, Request, Response, WebSocket
from fastapi.responses import StreamingResponse
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

import otel_usage as usage

from .cache import CacheStatus
from .providers import ProviderError, announce
from .services import QUOTES_PROVIDER, Gateway, Quote, Services

MAX_UPLOAD_BYTES: Final = 64 * 1024

_SYMBOLS: Final = json.dumps(["ACME", "GLBX", "NWND", "UMBR", "VOID"]).encode()
_SYMBOLS_ETAG: Final = f'"{hashlib.sha256(_SYMBOLS).hexdigest()[:16]}"'
_FX_TIMEOUT: Final = 0.25
_HEARTBEAT_SECONDS: Final = 5.0
_LAST_HEARTBEAT: Final = 12
_REPORT_PAGES: Final = 3
_REPORTS: Final = range(1, 101)

public = APIRouter()
v1 = APIRouter(prefix="/v1")
partner = FastAPI(title="Reports for partners", openapi_url=None)
"""An application of its own, mounted below ``/partner``."""


# Without a key


@public.api_route("/health", methods=["GET", "HEAD"])
def health() -> dict[str, str]:
    """200, from a thread; HEAD has no body."""
    return {"status": "ok"}


@public.get("/markets")
async def markets(gateway: Gateway, background: BackgroundTasks) -> list[Quote]:
    """200, for everybody: two quotes, mostly from the cache."""
    return [await _quote(symbol, gateway, background) for symbol in ("ACME", "GLBX")]


# One provider


@v1.get("/quotes/{symbol}")
async def quote(symbol: str, gateway: Gateway, background: BackgroundTasks) -> Quote:
    """200 from the cache or from the provider, or 404 from the handler."""
    found = await _quote(symbol, gateway, background)
    usage.annotate(cache_tier="fast")
    return found


async def _quote(symbol: str, gateway: Services, background: BackgroundTasks) -> Quote:
    found = gateway.quotes.get(symbol)
    value = found.value
    if found.status is CacheStatus.MISS:
        value = await gateway.load_quote(symbol, found.status)
    else:
        usage.record_cache(QUOTES_PROVIDER, "quote", status=found.status.value)
    if found.status is CacheStatus.STALE:
        announce(QUOTES_PROVIDER)
        background.add_task(_refresh_quote, symbol, gateway)
    if value is None:
        raise HTTPException(404, "unknown symbol")
    return value


async def _refresh_quote(symbol: str, gateway: Services) -> None:
    # The caller has an answer already. Without a new value the old one stays.
    with contextlib.suppress(ProviderError):
        await gateway.load_quote(symbol, CacheStatus.STALE)


@v1.get("/geocode")
def geocode(city: str, gateway: Gateway, response: Response) -> dict[str, str | float]:
    """200 from a thread, with a blocking call to a slow provider; 422 without ``city``."""
    response.headers["cache-control"] = "public, max-age=86400"
    answer: dict[str, str | float] = gateway.providers.call_blocking(
        {"provider": "geocoder", "operation": "search"}, "/geocode", {"city": city}
    ).json()
    return answer


@v1.get("/filings/{filing_id}")
async def filing(filing_id: int, gateway: Gateway) -> Response:
    """200 after a redirect by the provider; 422 if ``filing_id`` is not a number."""
    answer = await gateway.providers.call({"provider": "filings", "operation": "fetch"}, f"/filings/{filing_id}")
    return Response(answer.content, media_type="application/json")


@v1.get("/fx/{pair}")
async def exchange_rate(pair: str, gateway: Gateway) -> Response:
    """200; 502 if the provider fails; 503 if it is throttling us or too slow."""
    answer = await gateway.providers.call({"provider": "fx", "operation": "rate"}, f"/fx/{pair}", timeout=_FX_TIMEOUT)
    return Response(answer.content, media_type="application/json", headers={"cache-control": "no-store"})


@v1.get("/ratios/{symbol}")
async def price_to_earnings(symbol: str, gateway: Gateway) -> dict[str, float]:
    """200; an unhandled exception for a company that earns nothing."""
    answer = (
        await gateway.providers.call({"provider": QUOTES_PROVIDER, "operation": "fundamentals"}, f"/quotes/{symbol}")
    ).json()
    return {"ratio": answer["price"] / answer["earnings"]}


@v1.get("/export/{symbol}")
async def export(symbol: str, gateway: Gateway) -> StreamingResponse:
    """200, streamed to the last byte while the provider is still sending."""
    answer = await gateway.providers.call(
        {"provider": "history", "operation": "export"}, f"/history/{symbol}", stream=True
    )
    usage.meter("exports", 1, unit="file")
    return StreamingResponse(_passed_on(answer), media_type="text/csv")


async def _passed_on(answer: httpx.Response) -> AsyncIterator[bytes]:
    try:
        async for chunk in answer.aiter_raw():
            yield chunk
    finally:
        await answer.aclose()


# Several providers


@v1.get("/briefs/{symbol}")
async def brief(symbol: str, gateway: Gateway) -> dict[str, str]:
    """200 from a model, after a quote and the news, which is tried twice."""
    answer, news = await asyncio.gather(
        gateway.providers.call({"provider": QUOTES_PROVIDER, "operation": "quote"}, f"/quotes/{symbol}"),
        _news(symbol, gateway),
    )
    completion = (
        await gateway.providers.call(
            {"provider": "openai", "operation": "chat"}, "/chat/completions", json={"prompt": answer.text + news}
        )
    ).json()
    usage.record_llm(
        "openai",
        "gpt-5",
        input_tokens=completion["input_tokens"],
        output_tokens=completion["output_tokens"],
        stage="brief",
        fallback_index=0,
    )
    return {"brief": completion["text"]}


async def _news(symbol: str, gateway: Services) -> str:
    names = {"provider": "newswire", "operation": "headlines"}
    with contextlib.suppress(ProviderError):
        return (await gateway.providers.call(names, f"/news/{symbol}?attempt=0")).text
    return (await gateway.providers.call(names, f"/news/{symbol}?attempt=1")).text


# Without a provider


@v1.get("/symbols")
def symbols(if_none_match: Annotated[str | None, Header()] = None) -> Response:
    """200 with an ETag, 304 for a caller that has it."""
    headers = {"etag": _SYMBOLS_ETAG, "cache-control": "public, max-age=3600"}
    if if_none_match == _SYMBOLS_ETAG:
        return Response(status_code=304, headers=headers)
    return Response(_SYMBOLS, media_type="application/json", headers=headers)


@v1.get("/feed")
async def feed() -> StreamingResponse:
    """200 with server-sent events: a greeting, then a heartbeat every 5 s until the caller leaves, at most a minute."""
    return StreamingResponse(_events(), media_type="text/event-stream", headers={"cache-control": "no-store"})


async def _events() -> AsyncIterator[bytes]:
    yield b"event: hello\ndata: {}\n\n"
    for beat in range(_LAST_HEARTBEAT):
        await asyncio.sleep(_HEARTBEAT_SECONDS)
        yield f"event: beat\ndata: {beat}\n\n".encode()


@v1.post("/uploads", status_code=201)
async def upload(request: Request) -> dict[str, int | str]:
    """201 after the whole body was read, 413 as soon as it is too long."""
    size, digest = 0, hashlib.sha256()
    async for chunk in request.stream():
        size += len(chunk)
        digest.update(chunk)
        if size > MAX_UPLOAD_BYTES:
            raise HTTPException(413, "too long")
    return {"size": size, "sha256": digest.hexdigest()}


class Alert(BaseModel):
    """Tell the customer when a price rises above a limit."""

    symbol: str
    above: float


@v1.post("/alerts", status_code=202)
async def create_alert(alert: Alert, request: Request, gateway: Gateway, background: BackgroundTasks) -> Alert:
    """202, then a call to the customer's webhook; 400 for a bad symbol, 422 for a body of the wrong shape."""
    if not alert.symbol.isalpha():
        usage.reject("malformed_request")
        raise HTTPException(400, "a symbol has letters only")
    announce("webhooks")
    background.add_task(_confirm, alert, request.state.customer, gateway)
    return alert


async def _confirm(alert: Alert, customer: str, gateway: Services) -> None:
    with contextlib.suppress(ProviderError):
        await gateway.providers.call(
            {"provider": "webhooks", "operation": "deliver"}, f"/hooks/{customer}", json=alert.model_dump()
        )


@v1.websocket("/stream")
async def echo(socket: WebSocket) -> None:
    """Echo text until the caller hangs up."""
    await socket.accept()
    with contextlib.suppress(WebSocketDisconnect):
        while True:
            await socket.send_text(await socket.receive_text())


# The mounted application


@partner.get("/reports/{report_id}")
def report(report_id: int) -> Response:
    """200 with a rendered report, metered by the page; 404 if there is no such report."""
    if report_id not in _REPORTS:
        raise HTTPException(404, "no such report")
    with usage.usage_span("report.render", quantity=_REPORT_PAGES, unit="page"):
        pages = "\f".join(f"Report {report_id}, page {page}" for page in range(1, _REPORT_PAGES + 1))
    usage.meter("pages", _REPORT_PAGES, unit="page")
    return Response(pages, media_type="text/plain")
