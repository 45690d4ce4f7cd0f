"""The service that customers call. It checks their key, and asks another service of the business for a price."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, TypedDict

import httpx
from fastapi import FastAPI, Header, HTTPException, Request

import otel_usage as usage

CUSTOMERS = {"sk_demo_acme_9f2c": ("acme", 2, "api_pro"), "sk_demo_globex_51c0": ("globex", 1, "api_basic")}


class State(TypedDict):
    """What every request finds in its state."""

    client: httpx.AsyncClient


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[State]:
    """One client for all calls."""
    async with httpx.AsyncClient() as client:
        yield {"client": client}


app = FastAPI(title="Shop", lifespan=lifespan)


@app.get("/offers/{item}")
async def offer(item: str, request: Request, x_api_key: Annotated[str, Header()] = "") -> dict[str, str]:
    """An item's price, and when it is delivered."""
    if x_api_key not in CUSTOMERS:
        raise HTTPException(401)
    customer, tier, plan = CUSTOMERS[x_api_key]
    usage.identify(customer_id=customer, tier=tier, plan=plan, auth_kind="user_api_key")
    client: httpx.AsyncClient = request.state.client
    # The same code for both. Only the first is a service of one's own, and only it is told the customer.
    price = await client.get(f"{os.environ['PRICING_URL']}/prices/{item}")
    delivery = await client.get(f"{os.environ['COURIER_URL']}/days")
    return {"price": price.text, "days": delivery.text}
