import time
from typing import Any

import parts
from django.core.wsgi import get_wsgi_application
from django.http import StreamingHttpResponse
from django.urls import include, path
from django_settings import configure
from setting import SECRET

configure(
    __name__,
    INSTALLED_APPS=["rest_framework"],
    REST_FRAMEWORK={
        "DEFAULT_RENDERER_CLASSES": ["rest_framework.renderers.JSONRenderer"],
        "DEFAULT_PARSER_CLASSES": ["rest_framework.parsers.FileUploadParser"],
        "DEFAULT_AUTHENTICATION_CLASSES": [],
        "DEFAULT_PERMISSION_CLASSES": [],
        "UNAUTHENTICATED_USER": None,
    },
)

from django.http import HttpResponse  # noqa: E402 - what follows reads the settings
from rest_framework.authentication import BaseAuthentication  # noqa: E402
from rest_framework.decorators import api_view  # noqa: E402
from rest_framework.exceptions import PermissionDenied  # noqa: E402
from rest_framework.request import Request  # noqa: E402
from rest_framework.response import Response  # noqa: E402
from rest_framework.routers import SimpleRouter  # noqa: E402
from rest_framework.views import APIView  # noqa: E402
from rest_framework.viewsets import ViewSet  # noqa: E402


class Items(ViewSet):
    lookup_url_kwarg = "n"

    def retrieve(self, request: Request, n: str, m: str = "n") -> Response:
        return Response({m: int(n)})


class ByPath(BaseAuthentication):
    def authenticate(self, request: Request) -> tuple[Any, None]:
        customer = request.path.removeprefix("/deep/")
        parts.identify(customer)
        return customer, None


class Deep(APIView):
    authentication_classes = (ByPath,)

    def get(self, request: Request, customer: str) -> HttpResponse:
        return HttpResponse(customer)


@api_view(["GET"])
def hello(_: Request) -> HttpResponse:
    return HttpResponse("hello")


@api_view(["POST"])
def echo(request: Request) -> HttpResponse:
    return HttpResponse(request.body)


@api_view(["GET"])
def empty(_: Request) -> Response:
    return Response(status=204)


@api_view(["GET"])
def moved(_: Request) -> Response:
    return Response(status=302, headers={"location": "/"})


@api_view(["GET"])
def status(_: Request, code: int) -> Response:
    return Response("as you wish", status=code)


@api_view(["GET"])
def refused(_: Request) -> Response:
    raise PermissionDenied


@api_view(["GET"])
def broken(_: Request) -> Response:
    raise RuntimeError(SECRET)


@api_view(["GET"])
def stream(_: Request) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(5))


@api_view(["GET"])
def stream_broken(_: Request) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(1, breaks=True))


@api_view(["GET"])
def forever(_: Request) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.chunks(1000))


@api_view(["GET"])
def slow(_: Request) -> Response:
    time.sleep(0.5)
    return Response("at last")


@api_view(["GET"])
def as_customer(_: Request, customer: str) -> HttpResponse:
    parts.identify_around_a_pause(customer)
    return HttpResponse(customer)


@api_view(["GET"])
def thread(_: Request, customer: str) -> Response:
    parts.identify_on_a_thread(customer)
    return Response(customer)


@api_view(["GET"])
def upstream(_: Request) -> HttpResponse:
    return HttpResponse(parts.call_upstream())


@api_view(["GET"])
def background(_: Request, customer: str) -> Response:
    parts.identify(customer)
    parts.start_afterwards()
    return Response(customer)


@api_view(["GET"])
def events(_: Request) -> StreamingHttpResponse:
    return StreamingHttpResponse(parts.events(), content_type="text/event-stream")


router = SimpleRouter(trailing_slash=False)
router.register("items", Items, basename="item")

urlpatterns = [
    path("", hello),
    path("", include(router.urls)),
    path("echo", echo),
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
    path("deep/<str:customer>", Deep.as_view()),
    path("thread/<str:customer>", thread),
    path("upstream", upstream),
    path("background/<str:customer>", background),
    path("events", events),
    path("inner/<str:m>/", include(router.urls)),
]

app = get_wsgi_application()
