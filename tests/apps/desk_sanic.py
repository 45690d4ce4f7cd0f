"""The service of ``desk.py`` on Sanic's own server."""

import asyncio
import os

from sanic import HTTPResponse, Request, Sanic, text

app = Sanic("desk")


@app.get("/work")
async def work(request: Request) -> HTTPResponse:
    await asyncio.sleep(float(request.args.get("seconds")))
    return text(str(os.getpid()))
