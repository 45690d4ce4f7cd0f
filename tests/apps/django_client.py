"""Django's test clients, with usage on: they go around every server and every entry. Says what they were answered."""

import asyncio

import django
from django.conf import settings
from django.http import Http404, HttpRequest, HttpResponse
from django.test import AsyncClient, Client
from django.urls import path

import otel_usage as usage


def hello(_: HttpRequest, n: int) -> HttpResponse:
    if n == 0:
        raise Http404
    return HttpResponse(str(1 // (n - 1)))


urlpatterns = [path("items/<int:n>", hello)]

usage.instrument()
settings.configure(SECRET_KEY="of tests", ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"])
django.setup()

PATHS = ("/items/2", "/items/0", "/items/1", "/nowhere")


async def ask_async() -> list[int]:
    client = AsyncClient(raise_request_exception=False)
    return [(await client.get(path)).status_code for path in PATHS]


sync = Client(raise_request_exception=False)
print([sync.get(path).status_code for path in PATHS], asyncio.run(ask_async()), usage.health().internal_errors)
usage.uninstrument()
