import time
from typing import Any

import falcon
import parts
from falcon import Request, Response
from setting import SECRET


class Authenticating:
    def process_resource(self, req: Request, resp: Response, resource: Any, params: dict[str, Any]) -> None:
        if isinstance(resource, Deep):
            parts.identify(params["customer"])


class Hello:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.text = "hello"


class Item:
    def on_get(self, req: Request, resp: Response, n: int, m: str = "n") -> None:
        resp.media = {m: n}


class Echo:
    def on_post(self, req: Request, resp: Response) -> None:
        resp.data = req.bounded_stream.read() if req.content_length else req.stream.read()


class Empty:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.status = falcon.HTTP_204


class Moved:
    def on_get(self, req: Request, resp: Response) -> None:
        raise falcon.HTTPFound("/")


class Status:
    def on_get(self, req: Request, resp: Response, code: int) -> None:
        resp.status, resp.text = code, "as you wish"


class Refused:
    def on_get(self, req: Request, resp: Response) -> None:
        raise falcon.HTTPForbidden


class Broken:
    def on_get(self, req: Request, resp: Response) -> None:
        raise RuntimeError(SECRET)


class Stream:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks(5)

    def on_get_broken(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks(1, breaks=True)

    def on_get_forever(self, req: Request, resp: Response) -> None:
        resp.stream = parts.chunks(1000)

    def on_get_events(self, req: Request, resp: Response) -> None:
        resp.stream, resp.content_type = parts.events(), "text/event-stream"


class Slow:
    def on_get(self, req: Request, resp: Response) -> None:
        time.sleep(0.5)
        resp.text = "at last"


class As:
    def on_get(self, req: Request, resp: Response, customer: str) -> None:
        parts.identify_around_a_pause(customer)
        resp.text = customer


class Deep:
    def on_get(self, req: Request, resp: Response, customer: str) -> None:
        resp.text = customer


class Thread:
    def on_get(self, req: Request, resp: Response, customer: str) -> None:
        parts.identify_on_a_thread(customer)
        resp.text = customer


class Upstream:
    def on_get(self, req: Request, resp: Response) -> None:
        resp.text = parts.call_upstream()


class Background:
    def on_get(self, req: Request, resp: Response, customer: str) -> None:
        parts.identify(customer)
        parts.start_afterwards()
        resp.text = customer


app = falcon.App(middleware=[Authenticating()])
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
app.add_route("/events", Stream(), suffix="events")
app.add_route("/slow", Slow())
app.add_route("/as/{customer}", As())
app.add_route("/deep/{customer}", Deep())
app.add_route("/thread/{customer}", Thread())
app.add_route("/upstream", Upstream())
app.add_route("/background/{customer}", Background())
app.add_route("/inner/{m}/items/{n:int}", Item())
