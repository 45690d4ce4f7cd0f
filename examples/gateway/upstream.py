"""The third parties that the gateway calls, in one small app.

Every answer is deterministic: the same request gets the same status and the same number of bytes. The providers that
misbehave do so for fixed arguments, so that a run of the gateway can be predicted.
"""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Final

from fastapi import Body, FastAPI, Query, Request, Response
from fastapi.responses import JSONResponse, RedirectResponse, StreamingResponse

app = FastAPI(title="Third-party providers", openapi_url=None)

PRICES: Final = {"ACME": 41.5, "GLBX": 118.0, "NWND": 9.75, "VOID": 3.2, "UMBR": 27.0}
"""The companies that are known, and their prices."""

_EARNINGS: Final = {"ACME": 2.5, "GLBX": 4.0, "NWND": 0.75, "VOID": 0.0, "UMBR": 1.5}
_FLAKY_NEWS: Final = frozenset({"UMBR"})
_FX: Final = {"EURUSD": 1.08, "GBPUSD": 1.27}
_FX_STATUSES: Final = {"XAUUSD": 500, "XAGUSD": 429}
_FX_HANGS: Final = {"BTCUSD": 700}

_SUBSCRIPTIONS: Final = {
    "acme": (2, "api_pro"),
    "globex": (3, "enterprise"),
    "contoso": (1, "widget"),
    "northwind": (0, "free"),
}
_UNREACHABLE_CUSTOMERS: Final = frozenset({"initech"})
"""Customers whose subscription is kept where the service cannot look at the moment."""

_CUSTOMER_OF_KEY: Final = {"ek_demo_globex_51c0": "globex"}
_UNVERIFIABLE_KEYS: Final = frozenset({"ek_demo_outage_77e1"})


def sized_json(size: int) -> Response:
    """A JSON object of exactly ``size`` bytes. 12 is the least: an object with one empty string."""
    filler = "x" * (size - len(json.dumps({"data": ""})))
    return Response(json.dumps({"data": filler}), media_type="application/json")


# Keys and subscriptions


@app.post("/keys/verify")
async def verify_key(key: str = Body(embed=True)) -> Response:
    """Whose enterprise key it is: ``{"customer": null}`` for a key that does not exist."""
    if key in _UNVERIFIABLE_KEYS:
        return Response(status_code=503)
    return JSONResponse({"customer": _CUSTOMER_OF_KEY.get(key)})


@app.get("/entitlements/{customer}")
async def entitlement(customer: str) -> Response:
    """The tier and plan of a customer."""
    if customer in _UNREACHABLE_CUSTOMERS:
        return Response(status_code=503)
    if customer not in _SUBSCRIPTIONS:
        return Response(status_code=404)
    tier, plan = _SUBSCRIPTIONS[customer]
    return JSONResponse({"tier": tier, "plan": plan})


# Market data


@app.get("/quotes/{symbol}")
async def quote(symbol: str) -> Response:
    """The price of one company; 404 for a company that is not known."""
    if symbol not in PRICES:
        return JSONResponse({"error": "unknown symbol"}, status_code=404)
    return JSONResponse({"symbol": symbol, "price": PRICES[symbol], "earnings": _EARNINGS[symbol]})


@app.get("/news/{symbol}")
async def news(symbol: str, attempt: int = Query(0, ge=0)) -> Response:
    """Headlines, 2048 bytes of JSON. For some symbols the first attempt fails."""
    if symbol in _FLAKY_NEWS and attempt == 0:
        return Response(status_code=500)
    return sized_json(2048)


@app.get("/history/{symbol}")
async def history(symbol: str, chunks: int = Query(8, ge=1, le=256), size: int = Query(1024, ge=1)) -> Response:
    """A price history as CSV, streamed: ``chunks`` pieces of ``size`` bytes."""

    async def body() -> AsyncIterator[bytes]:
        for _ in range(chunks):
            yield symbol.encode().ljust(size - 1, b",")[: size - 1] + b"\n"
            await asyncio.sleep(0.002)

    return StreamingResponse(body(), media_type="text/csv")


@app.get("/filings/{filing_id}")
async def filing(filing_id: int) -> Response:
    """A filing that has moved to the archive."""
    return RedirectResponse(f"/archive/{filing_id}?size={1024 + filing_id % 1024}")


@app.get("/archive/{filing_id}")
async def archived_filing(size: int = Query(ge=12, le=1_000_000)) -> Response:
    """The filing: JSON of ``size`` bytes."""
    return sized_json(size)


@app.get("/fx/{pair}")
async def exchange_rate(pair: str) -> Response:
    """A rate. One pair fails, one is throttled, one answers after 700 ms."""
    if pair in _FX_HANGS:
        return await hang(_FX_HANGS[pair])
    if pair in _FX_STATUSES:
        return await status(_FX_STATUSES[pair])
    return JSONResponse({"pair": pair, "rate": _FX.get(pair)})


@app.get("/geocode")
async def geocode(city: str) -> Response:
    """Where a city is, after 30 ms: this provider is always slow."""
    await asyncio.sleep(0.03)
    return JSONResponse({"city": city, "latitude": 52.52, "longitude": 13.4})


# Other services


@app.post("/chat/completions")
async def complete(prompt: str = Body(embed=True)) -> Response:
    """A model's answer, with the tokens it cost: a token is four characters here."""
    return JSONResponse({"text": "Buy low, sell high.", "input_tokens": len(prompt) // 4, "output_tokens": 5})


@app.post("/hooks/{customer}")
async def deliver_hook(request: Request) -> Response:
    """The receiving end of a customer's webhook."""
    await request.body()
    return Response(status_code=204)


# Answers of any kind


@app.get("/sized")
async def sized(size: int = Query(ge=12, le=10_000_000)) -> Response:
    """JSON of ``size`` bytes."""
    return sized_json(size)


@app.get("/hang")
async def hang(ms: int = Query(ge=0, le=60_000)) -> Response:
    """204 after ``ms`` milliseconds."""
    await asyncio.sleep(ms / 1000)
    return Response(status_code=204)


@app.get("/status/{code}")
async def status(code: int) -> Response:
    """An empty answer with the status ``code``; a 429 says to come back after 2 seconds."""
    return Response(status_code=code, headers={"retry-after": "2"} if code == 429 else None)
