"""The client libraries of models, each called in the ways that it has, and the instrumentations that see the calls."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from dataclasses import dataclass
from typing import Any, Final

import anthropic
import openai
from google import genai
from langchain_core.callbacks import BaseCallbackManager
from langchain_openai import ChatOpenAI
from opentelemetry.sdk.trace import TracerProvider

from tests.conformance.providers import PROMPT
from tests.needs import needed_module

SAID: Final[list[Any]] = [{"role": "user", "content": PROMPT}]
KEY: Final = "sk-test-0000"


@contextmanager
def seen_by(instrumentations: tuple[str, ...], provider: TracerProvider) -> Iterator[None]:
    """Switch instrumentations on, as their users do by hand, and off again."""
    on = []
    original = BaseCallbackManager.__init__  # OpenLLMetry's leaves its wrapper there
    try:
        for name in instrumentations:
            module, _, instrumentor = name.partition(":")
            instance = getattr(needed_module(f"opentelemetry.instrumentation.{module}"), instrumentor)()
            # google-genai's takes no google-genai of 3 or later by itself.
            instance.instrument(tracer_provider=provider, skip_dep_check=True)
            on.append(instance)
        yield
    finally:
        for instance in reversed(on):
            instance.uninstrument()
        BaseCallbackManager.__init__ = original  # type: ignore[method-assign]


GENAI_OPENAI: Final = "genai.openai:OpenAIInstrumentor"
GENAI_ANTHROPIC: Final = "genai.anthropic:AnthropicInstrumentor"
GENAI_LANGCHAIN: Final = "genai.langchain:LangChainInstrumentor"
GOOGLE: Final = "google_genai:GoogleGenAiSdkInstrumentor"
LLMETRY_ANTHROPIC: Final = "anthropic:AnthropicInstrumentor"
LLMETRY_LANGCHAIN: Final = "langchain:LangchainInstrumentor"

Call = Callable[[str, str, TracerProvider], object]
"""Calls a model at a URL. A client that makes spans of its own takes the provider."""


def ask(call: Call, url: str, model: str, provider: TracerProvider) -> None:
    """In a context of its own: OpenLLMetry's instrumentations leave values in the one that they are called in."""
    copy_context().run(call, url, model, provider)


def openai_client(url: str, **settings: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, **{"max_retries": 0, **settings})


def openai_chat(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url) as client:
        client.chat.completions.create(model=model, messages=SAID, max_tokens=50)


def openai_retried(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url, max_retries=1) as client:
        client.chat.completions.create(model=model, messages=SAID)


def openai_stream(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url) as client:
        options: Any = {"include_usage": True}
        assert list(client.chat.completions.create(model=model, messages=SAID, stream=True, stream_options=options))


def openai_stream_without_usage(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url) as client:
        assert list(client.chat.completions.create(model=model, messages=SAID, stream=True))


def openai_stream_given_up(url: str, model: str, _: TracerProvider) -> None:
    with (
        openai_client(url) as client,
        client.chat.completions.create(model=model, messages=SAID, stream=True) as stream,
    ):
        next(iter(stream))


def openai_responses(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url) as client:
        client.responses.create(model=model, input=PROMPT)


def openai_embeddings(url: str, model: str, _: TracerProvider) -> None:
    with openai_client(url) as client:
        client.embeddings.create(model=model, input=PROMPT, encoding_format="float")


def openai_async(url: str, model: str, _: TracerProvider) -> None:
    async def ask() -> None:
        async with openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0) as client:
            await client.chat.completions.create(model=model, messages=SAID)

    asyncio.run(ask())


def openai_nowhere(_url: str, model: str, provider: TracerProvider) -> None:
    openai_chat("http://127.0.0.1:1", model, provider)


def anthropic_client(url: str, provider: TracerProvider) -> anthropic.Anthropic:
    options: Any = {"tracer_provider": provider}
    return anthropic.Anthropic(base_url=url, api_key=KEY, max_retries=0, open_telemetry=options)


def anthropic_messages(url: str, model: str, provider: TracerProvider) -> None:
    with anthropic_client(url, provider) as client:
        client.messages.create(model=model, max_tokens=64, messages=SAID)


def anthropic_stream(url: str, model: str, provider: TracerProvider) -> None:
    with anthropic_client(url, provider) as client:
        assert list(client.messages.create(model=model, max_tokens=64, messages=SAID, stream=True))


def anthropic_stream_helper(url: str, model: str, provider: TracerProvider) -> None:
    with (
        anthropic_client(url, provider) as client,
        client.messages.stream(model=model, max_tokens=64, messages=SAID) as stream,
    ):
        assert list(stream.text_stream)


def anthropic_async(url: str, model: str, provider: TracerProvider) -> None:
    async def ask() -> None:
        options: Any = {"tracer_provider": provider}
        client = anthropic.AsyncAnthropic(base_url=url, api_key=KEY, max_retries=0, open_telemetry=options)
        async with client:
            await client.messages.create(model=model, max_tokens=64, messages=SAID)

    asyncio.run(ask())


def google_client(url: str) -> genai.Client:
    return genai.Client(api_key=KEY, http_options={"base_url": url})  # type: ignore[arg-type]  # a dict will do


def google_content(url: str, model: str, _: TracerProvider) -> None:
    with google_client(url) as client:
        client.models.generate_content(model=model, contents=PROMPT, config={"max_output_tokens": 70})


def google_stream(url: str, model: str, _: TracerProvider) -> None:
    with google_client(url) as client:
        assert list(client.models.generate_content_stream(model=model, contents=PROMPT))


_EACH: Final = itertools.count()


def langchain_model(url: str, model: str) -> ChatOpenAI:
    # One URL for each: the library keeps a client for a URL, with connections of an event loop that is closed by then.
    url = f"{url}/{next(_EACH)}"
    return ChatOpenAI(model=model, base_url=f"{url}/v1", api_key=KEY, max_retries=0, stream_usage=True)  # type: ignore[arg-type]


def langchain_chat(url: str, model: str, _: TracerProvider) -> None:
    langchain_model(url, model).invoke(PROMPT)


def langchain_stream(url: str, model: str, _: TracerProvider) -> None:
    assert list(langchain_model(url, model).stream(PROMPT))


def langchain_async(url: str, model: str, _: TracerProvider) -> None:
    asyncio.run(langchain_model(url, model).ainvoke(PROMPT))


@dataclass(frozen=True)
class Way:
    """One way to call a model, and what its instrumentations tell of a call that succeeds. None: nothing."""

    call: Call
    provider: str
    tokens: tuple[int | None, int | None]
    instrumentations: tuple[tuple[str, ...], ...]
    """Each is tested by itself. Empty: the library's own."""
    limit: int | None = None


OPENAI: Final = ((GENAI_OPENAI,),)
ANTHROPIC: Final = ((), (GENAI_ANTHROPIC,), (LLMETRY_ANTHROPIC,), (LLMETRY_ANTHROPIC, GENAI_ANTHROPIC))
LANGCHAIN: Final = (
    (GENAI_LANGCHAIN,), (LLMETRY_LANGCHAIN,), (GENAI_LANGCHAIN, GENAI_OPENAI), (LLMETRY_LANGCHAIN, GENAI_OPENAI),
)  # fmt: skip

WAYS: Final = {
    "openai": Way(openai_chat, "openai", (12, 3), OPENAI, 50),
    "openai stream": Way(openai_stream, "openai", (12, 3), OPENAI),
    "openai stream without usage": Way(openai_stream_without_usage, "openai", (None, None), OPENAI),
    "openai stream given up": Way(openai_stream_given_up, "openai", (None, None), OPENAI),
    "openai responses": Way(openai_responses, "openai", (12, 3), OPENAI),
    "openai embeddings": Way(openai_embeddings, "openai", (7, None), OPENAI),
    "openai async": Way(openai_async, "openai", (12, 3), OPENAI),
    "anthropic": Way(anthropic_messages, "anthropic", (11, 4), ANTHROPIC, 64),
    "anthropic stream": Way(anthropic_stream, "anthropic", (11, 4), ANTHROPIC, 64),
    "anthropic stream helper": Way(anthropic_stream_helper, "anthropic", (11, 4), ANTHROPIC, 64),
    "anthropic async": Way(anthropic_async, "anthropic", (11, 4), ANTHROPIC, 64),
    "google": Way(google_content, "gemini", (9, 2), ((GOOGLE,),), 70),
    "google stream": Way(google_stream, "gemini", (9, 2), ((GOOGLE,),)),
    "langchain": Way(langchain_chat, "openai", (12, 3), LANGCHAIN),
    "langchain stream": Way(langchain_stream, "openai", (12, 3), LANGCHAIN),
    "langchain async": Way(langchain_async, "openai", (12, 3), LANGCHAIN),
}
