"""The service of ``desk.py`` on aiohttp's own server."""

import asyncio
import os

from aiohttp import web


async def work(request: web.Request) -> web.Response:
    await asyncio.sleep(float(request.query["seconds"]))
    return web.Response(text=str(os.getpid()))


app = web.Application()
app.router.add_get("/work", work)
