import asyncio
from collections.abc import AsyncIterator
from typing import Any

import falcon
import parts
from falcon.asgi import App, Request, Response, SSEvent, WebSocket
from setting import PAUSE, SECRET


async def authenticate(req: Request, resp: Response, resource: Any, params: dict[str, Any]) -> None:
    parts.identify(params["customer"])


class Hello:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.text = "hello"


class Item:
    async def on_get(self, req: Request, resp: Response, n: int, m: str = "n") -> None:
        resp.media = {m: n}


class Echo:
    async def on_post(self, req: Request, resp: Response) -> None:
        resp.data = await req.stream.read()


class Empty:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.status = falcon.HTTP_204


class Moved:
    async def on_get(self, req: Request, resp: Response) -> None:
        raise falcon.HTTPFound("/")


class Status:
    async def on_get(self, req: Request, resp: Response, code: int) -> None:
        resp.status, resp.text = code, "as you wish"


class Refused:
    async def on_get(self, req: Request, resp: Response) -> None:
        raise falcon.HTTPForbidden


class Broken:
    async def on_get(self, req: Request, resp: Response) -> None:
        raise RuntimeError(SECRET)


class Stream:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks_async(5)

    async def on_get_broken(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks_async(1, breaks=True)

    async def on_get_forever(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks_async(1000)


class Slow:
    async def on_get(self, req: Request, resp: Response) -> None:
        await asyncio.sleep(0.5)
        resp.text = "at last"


class As:
    async def on_get(self, req: Request, resp: Response, customer: str) -> None:
        await parts.identify_around_a_pause_async(customer)
        resp.text = customer


class Deep:
    @falcon.before(authenticate)
    async def on_get(self, req: Request, resp: Response, customer: str) -> None:
        resp.text = customer


class Thread:
    async def on_get(self, req: Request, resp: Response, customer: str) -> None:
        await falcon.sync_to_async(parts.identify_on_a_thread, customer)
        resp.text = customer


class Upstream:
    async def on_get(self, req: Request, resp: Response) -> None:
        resp.text = await parts.call_upstream_async()


class Background:
    async def on_get(self, req: Request, resp: Response, customer: str) -> None:
        parts.identify(customer)
        resp.schedule(parts.afterwards_async)
        resp.text = customer


class Echoing:
    async def on_websocket(self, req: Request, socket: WebSocket) -> None:
        await socket.accept()
        while (text := await socket.receive_text()) != "bye":
            await socket.send_text(text)


class Events:
    async def on_get(self, req: Request, resp: Response) -> None:
        async def three() -> AsyncIterator[SSEvent]:
            for number in range(3):
                yield SSEvent(data=b"%d" % number)
                await asyncio.sleep(PAUSE)

        resp.sse = three()


app = App()
app.add_route("/", Hello())
app.add_route("/items/{n:int}", Item())
app.add_route("/echo", Echo())
app.add_route("/empty", Empty())
app.add_route("/moved", Moved())
app.add_route("/status/{code:int}", Status())
app.add_route("/refused", Refused())
app.add_route("/broken", Broken())
app.add_route("/stream", Stream())
app.add_route("/stream-broken", Stream(), suffix="broken")
app.add_route("/forever", Stream(), suffix="forever")
app.add_route("/slow", Slow())
app.add_route("/as/{customer}", As())
app.add_route("/deep/{customer}", Deep())
app.add_route("/thread/{customer}", Thread())
app.add_route("/upstream", Upstream())
app.add_route("/background/{customer}", Background())
app.add_route("/ws", Echoing())
app.add_route("/events", Events())
app.add_route("/inner/{m}/items/{n:int}", Item())
