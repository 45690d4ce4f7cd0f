"""A service of two faces, WSGI and ASGI, that knows nothing of usage. Each answer names the process that made it."""

from __future__ import annotations

import asyncio
import os
import time

from flask import Flask, request
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route

wsgi = Flask(__name__)


@wsgi.get("/work")
def work() -> str:
    time.sleep(float(request.args.get("seconds", 0)))
    return str(os.getpid())


async def work_async(request: Request) -> PlainTextResponse:
    await asyncio.sleep(float(request.query_params.get("seconds", 0)))
    return PlainTextResponse(str(os.getpid()))


asgi = Starlette(routes=[Route("/work", work_async)])
