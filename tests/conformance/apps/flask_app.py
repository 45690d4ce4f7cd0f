import threading
import time
from collections.abc import Iterator

import flask
import httpx
from setting import CHUNK, PAUSE, SECRET, UPSTREAM

import otel_usage as usage

app = flask.Flask(__name__)


@app.before_request
def authenticate() -> None:
    if flask.request.endpoint == "deep":
        usage.identify(customer_id=flask.request.view_args["customer"], tier=1)


@app.get("/")
def hello() -> str:
    return "hello"


@app.get("/items/<int:n>")
def item(n: int) -> dict[str, int]:
    return {"n": n}


@app.post("/echo")
def echo() -> bytes:
    return flask.request.get_data()


@app.get("/empty")
def empty() -> tuple[str, int]:
    return "", 204


@app.get("/moved")
def moved() -> flask.typing.ResponseReturnValue:
    return flask.redirect("/", 302)


@app.get("/status/<int:code>")
def status(code: int) -> tuple[str, int]:
    return "as you wish", code


@app.get("/refused")
def refused() -> None:
    flask.abort(403)


@app.get("/broken")
def broken() -> None:
    raise RuntimeError(SECRET)


def chunks(count: int, *, breaks: bool = False) -> Iterator[bytes]:
    for _ in range(count):
        yield CHUNK
        time.sleep(PAUSE)
    if breaks:
        raise RuntimeError(SECRET)


@app.get("/stream")
def stream() -> Iterator[bytes]:
    return chunks(5)


@app.get("/stream-broken")
def stream_broken() -> Iterator[bytes]:
    return chunks(1, breaks=True)


@app.get("/forever")
def forever() -> Iterator[bytes]:
    return chunks(1000)


@app.get("/slow")
def slow() -> str:
    time.sleep(0.5)
    return "at last"


@app.get("/as/<customer>")
def as_customer(customer: str) -> str:
    time.sleep(PAUSE)
    usage.identify(customer_id=customer, tier=1)
    time.sleep(PAUSE)
    usage.identify(plan="pro")
    return customer


@app.get("/deep/<customer>")
def deep(customer: str) -> str:
    return customer


@app.get("/thread/<customer>")
def thread(customer: str) -> str:
    worker = threading.Thread(target=usage.identify, kwargs={"customer_id": customer, "tier": 1})
    worker.start()
    worker.join()
    return customer


@app.get("/upstream")
def upstream() -> str:
    return str(len(httpx.get(UPSTREAM).content))


def afterwards() -> None:
    time.sleep(PAUSE)
    with usage.usage_span("afterwards"):
        httpx.get(UPSTREAM)


@app.get("/background/<customer>")
def background(customer: str) -> str:
    usage.identify(customer_id=customer, tier=1)
    threading.Thread(target=afterwards).start()
    return customer


@app.get("/events")
def events() -> flask.Response:
    def three() -> Iterator[bytes]:
        for number in range(3):
            yield b"data: %d\n\n" % number
            time.sleep(PAUSE)

    return flask.Response(three(), mimetype="text/event-stream")


inner = flask.Blueprint("inner", __name__, url_prefix="/inner/<m>")


@inner.get("/items/<int:n>")
def inner_item(m: str, n: int) -> dict[str, int]:
    return {m: n}


app.register_blueprint(inner)
