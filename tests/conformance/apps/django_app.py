import asyncio
import time
from collections.abc import Callable

import parts
from django.core.exceptions import PermissionDenied
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, StreamingHttpResponse
from django.urls import include, path, re_path
from django.views import View
from django.views.decorators.http import require_safe
from django_settings import configure
from setting import SECRET


def authenticate(get_response: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def middleware(request: HttpRequest) -> HttpResponse:
        if request.path.startswith("/deep/"):
            parts.identify(request.path.removeprefix("/deep/"))
        return get_response(request)

    return middleware


def hello(_: HttpRequest) -> HttpResponse:
    return HttpResponse("hello")


@require_safe
def item(_: HttpRequest, n: int, m: str = "n") -> HttpResponse:
    return JsonResponse({m: int(n)})


class Echo(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse(request.read())


def empty(_: HttpRequest) -> HttpResponse:
    return HttpResponse(status=204)


def moved(_: HttpRequest) -> HttpResponse:
    return HttpResponseRedirect("/")


def status(_: HttpRequest, code: int) -> HttpResponse:
    return HttpResponse("as you wish", status=code)


def refused(_: HttpRequest) -> HttpResponse:
    raise PermissionDenied


def broken(_: HttpRequest) -> HttpResponse:
    raise RuntimeError(SECRET)


def stream(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(5))


def stream_broken(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(1, breaks=True))


def forever(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(1000))


def slow(_: HttpRequest) -> HttpResponse:
    time.sleep(0.5)
    return HttpResponse("at last")


async def as_customer(_: HttpRequest, customer: str) -> HttpResponse:
    """An asynchronous view, which WSGI has, too: on a loop and a thread of its own."""
    await asyncio.gather(parts.identify_around_a_pause_async(customer))
    return HttpResponse(customer)


def deep(_: HttpRequest, customer: str) -> HttpResponse:
    return HttpResponse(customer)


def thread(_: HttpRequest, customer: str) -> HttpResponse:
    parts.identify_on_a_thread(customer)
    return HttpResponse(customer)


def upstream(_: HttpRequest) -> HttpResponse:
    return HttpResponse(parts.call_upstream())


def background(_: HttpRequest, customer: str) -> HttpResponse:
    parts.identify(customer)
    parts.start_afterwards()
    return HttpResponse(customer)


def events(_: HttpRequest) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.events(), content_type="text/event-stream")


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
    path("inner/<str:m>/", include([re_path(r"^items/(?P<n>[0-9]+)$", item)])),
]

configure(__name__, MIDDLEWARE=["django.middleware.common.CommonMiddleware", f"{__name__}.authenticate"])
app = get_wsgi_application()
