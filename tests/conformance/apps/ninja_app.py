import asyncio

import parts
from django.core.asgi import get_asgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.urls import path
from django_settings import configure
from setting import SECRET

configure(__name__)

from ninja import NinjaAPI, Path, Router  # noqa: E402 - it reads the settings
from ninja.errors import HttpError  # noqa: E402

api = NinjaAPI(docs_url=None, openapi_url=None)


@api.get("/")
async def hello(request: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@api.get("/items/{int:n}")
def item(request: HttpRequest, n: int) -> dict[str, int]:
    return {"n": n}


@api.post("/echo")
async def echo(request: HttpRequest) -> HttpResponse:
    return HttpResponse(request.body)


@api.get("/empty", response={204: None})
def empty(request: HttpRequest) -> tuple[int, None]:
    return 204, None


@api.get("/moved")
async def moved(request: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


@api.get("/status/{int:code}")
async def status(request: HttpRequest, code: int) -> HttpResponse:
    return HttpResponse("as you wish", status=code)


@api.get("/refused")
async def refused(request: HttpRequest) -> None:
    raise HttpError(403, "no")


@api.get("/broken")
async def broken(request: HttpRequest) -> None:
    raise RuntimeError(SECRET)


@api.get("/stream")
async def stream(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.chunks_async(5))


@api.get("/stream-broken")
async def stream_broken(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.chunks_async(1, breaks=True))


@api.get("/forever")
async def forever(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.chunks_async(1000))


@api.get("/slow")
async def slow(request: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0.5)
    return HttpResponse("at last")


@api.get("/as/{customer}")
async def as_customer(request: HttpRequest, customer: str) -> HttpResponse:
    await parts.identify_around_a_pause_async(customer)
    return HttpResponse(customer)


async def authenticate(request: HttpRequest) -> str:
    customer = request.path.removeprefix("/deep/")
    parts.identify(customer)
    return customer


@api.get("/deep/{customer}", auth=authenticate)
async def deep(request: HttpRequest, customer: str) -> HttpResponse:
    return HttpResponse(customer)


@api.get("/thread/{customer}")
def thread(request: HttpRequest, customer: str) -> HttpResponse:
    parts.identify_on_a_thread(customer)
    return HttpResponse(customer)


@api.get("/upstream")
async def upstream(request: HttpRequest) -> HttpResponse:
    return HttpResponse(await parts.call_upstream_async())


@api.get("/background/{customer}")
async def background(request: HttpRequest, customer: str) -> HttpResponse:
    parts.identify(customer)
    parts.start_afterwards_async()
    return HttpResponse(customer)


@api.get("/events")
async def events(request: HttpRequest) -> HttpResponse:
    return StreamingHttpResponse(parts.events_async(), content_type="text/event-stream")


inner = Router()


@inner.get("/items/{int:n}")
async def inner_item(request: HttpRequest, m: Path[str], n: int) -> dict[str, int]:
    return {m: n}


api.add_router("/inner/{m}", inner)

urlpatterns = [path("", api.urls)]
app = get_asgi_application()
