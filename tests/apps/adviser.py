"""A service that asks models and a database, and knows nothing of usage but who its customers are."""

from __future__ import annotations

import os
import sqlite3

import anthropic
from fastapi import FastAPI, Request
from langchain_openai import ChatOpenAI

import otel_usage as usage

PROVIDERS = os.environ["PROVIDERS"]
QUESTION = "QUESTION-11aa"

app = FastAPI()
claude = anthropic.Anthropic(base_url=PROVIDERS, api_key="sk-test", max_retries=0)
claude_async = anthropic.AsyncAnthropic(base_url=PROVIDERS, api_key="sk-test", max_retries=0)
chain = ChatOpenAI(model="gpt-5", base_url=f"{PROVIDERS}/v1", api_key="sk-test", max_retries=0)  # type: ignore[arg-type]


def identified(request: Request) -> None:
    usage.identify(customer_id=request.headers["x-customer"], tier=2, auth_kind="jwt")


@app.get("/brief")
def brief(request: Request) -> None:
    identified(request)
    for index, model in enumerate(("claude-429", "claude-5")):
        with usage.model_call(stage="brief", fallback_index=index):
            try:
                claude.messages.create(model=model, max_tokens=64, messages=[{"role": "user", "content": QUESTION}])
            except anthropic.RateLimitError:
                continue


@app.get("/stream")
async def stream(request: Request) -> str:
    identified(request)
    said: anthropic.types.MessageParam = {"role": "user", "content": QUESTION}
    async with claude_async.messages.stream(model="claude-5", max_tokens=64, messages=[said]) as answer:
        return "".join([text async for text in answer.text_stream])


@app.get("/chain")
async def chained(request: Request) -> None:
    identified(request)
    await chain.ainvoke(QUESTION)


@app.get("/notes")
def notes(request: Request) -> None:
    identified(request)
    connection = sqlite3.connect(":memory:")
    connection.cursor().execute(f"SELECT '{QUESTION}'")
    connection.close()
