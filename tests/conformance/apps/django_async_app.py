import asyncio
from collections.abc import Awaitable, Callable

import parts
from asgiref.sync import markcoroutinefunction
from django.core.asgi import get_asgi_application
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import include, path
from django.utils.decorators import async_only_middleware
from django.views import View
from django.views.decorators.http import require_safe
from django_settings import configure
from setting import SECRET


class Plain:
    """Middleware that is not asynchronous: Django serves what is beneath it on a thread, and from there on its loop."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self.get_response(request)


@async_only_middleware
class Authenticate:
    def __init__(self, get_response: Callable[[HttpRequest], Awaitable[HttpResponse]]) -> None:
        self.get_response = get_response
        markcoroutinefunction(self)

    async def __call__(self, request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/deep/"):
            parts.identify(request.path.removeprefix("/deep/"))
        return await self.get_response(request)


async def hello(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@require_safe
def item(_: HttpRequest, n: int, m: str = "n") -> HttpResponse:
    return JsonResponse({m: n})


class Echo(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.body)


async def empty(_: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


async def moved(_: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


async def status(_: HttpRequest, code: int) -> HttpResponse:
    return HttpResponse("as you wish", status=code)


def refused(_: HttpRequest) -> HttpResponse:
    raise PermissionDenied


async def broken(_: HttpRequest) -> HttpResponse:
    raise RuntimeError(SECRET)


async def stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks_async(5))


async def stream_broken(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks_async(1, breaks=True))


def forever(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks_async(1000))


async def slow(_: HttpRequest) -> HttpResponse:
    await asyncio.sleep(0.5)
    return HttpResponse("at last")


async def as_customer(_: HttpRequest, customer: str) -> HttpResponse:
    await parts.identify_around_a_pause_async(customer)
    return HttpResponse(customer)


async def deep(_: HttpRequest, customer: str) -> HttpResponse:
    return HttpResponse(customer)


def thread(_: HttpRequest, customer: str) -> HttpResponse:
    parts.identify_on_a_thread(customer)
    return HttpResponse(customer)


async def upstream(_: HttpRequest) -> HttpResponse:
    return HttpResponse(await parts.call_upstream_async())


async def background(_: HttpRequest, customer: str) -> HttpResponse:
    parts.identify(customer)
    parts.start_afterwards_async()
    return HttpResponse(customer)


async def events(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.events_async(), content_type="text/event-stream")


urlpatterns = [
    path("", hello),
    path("items/<int:n>", item),
    path("echo", Echo.as_view()),
    path("empty", empty),
    path("moved", moved),
    path("status/<int:code>", status),
    path("refused", refused),
    path("broken", broken),
    path("stream", stream),
    path("stream-broken", stream_broken),
    path("forever", forever),
    path("slow", slow),
    path("as/<str:customer>", as_customer),
    path("deep/<str:customer>", deep),
    path("thread/<str:customer>", thread),
    path("upstream", upstream),
    path("background/<str:customer>", background),
    path("events", events),
    path("inner/<str:m>/", include([path("items/<int:n>", item)])),
]

configure(__name__, MIDDLEWARE=[f"{__name__}.Plain", f"{__name__}.Authenticate"])
app = get_asgi_application()
