"""What providers of models answer, in the shapes that their APIs have, on a loopback socket. Everything that is said in
a conversation is in the answers, and in the errors, too.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

PROMPT: Final = "PROMPT-7c1f"
COMPLETION: Final = "COMPLETION-93be"
COMPLAINT: Final = "COMPLAINT-5d02"

Event = tuple[str, dict[str, Any]]
"""Name and data of a server-sent event."""


class Providers(ThreadingHTTPServer):
    """All of them. A model whose name ends in a status gets that status; ``meet`` lets requests answer each other."""

    daemon_threads = True
    block_on_close = False

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.meeting: threading.Barrier | None = None
        self.asked: list[str] = []
        """The path of each request."""

    @property
    def url(self) -> str:
        """Where they listen."""
        return f"http://127.0.0.1:{self.server_port}"


@contextmanager
def providers() -> Iterator[Providers]:
    """Serve them on threads."""
    with Providers() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), name="test-providers", daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join(10)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Providers

    def log_message(self, *_: Any) -> None:
        """Nothing: a test's output is the test's."""

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["content-length"])))
        self.server.asked.append(self.path)
        if self.server.meeting is not None:
            self.server.meeting.wait(20)
        model = asked.get("model") or self.path.rpartition("/")[2].partition(":")[0]
        status = next((status for status in (401, 429, 500) if model.endswith(f"-{status}")), 200)
        if status != 200:
            error = {"message": COMPLAINT, "type": _ERRORS[status], "code": status, "status": _ERRORS[status]}
            self._answer(status, {"type": "error", "error": error})
            return
        path = self.path.partition("?")[0]
        answer = next(answer for ending, answer in _ANSWERS.items() if path.endswith(ending))(asked)
        if isinstance(answer, dict):
            self._answer(200, answer)
        else:
            self._stream(answer)

    def _answer(self, status: int, answer: dict[str, Any]) -> None:
        self._send(status, "application/json", json.dumps(answer).encode())

    def _stream(self, events: Sequence[Event]) -> None:
        lines = [*(f"event: {name}\n" * bool(name) + f"data: {json.dumps(data)}\n\n" for name, data in events)]
        lines += [] if events[0][0] or "choices" not in events[0][1] else ["data: [DONE]\n\n"]
        self._send(200, "text/event-stream", "".join(lines).encode())

    def _send(self, status: int, kind: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", kind)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


_ERRORS: Final = {401: "authentication_error", 429: "rate_limit_error", 500: "api_error"}


def _chat(asked: dict[str, Any]) -> dict[str, Any] | list[Event]:
    usage = {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}
    head = {"id": "chatcmpl-1", "created": 1, "model": f"{asked['model']}-2026"}
    if not asked.get("stream"):
        message = {"role": "assistant", "content": COMPLETION}
        choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
        return {**head, "object": "chat.completion", "choices": choices, "usage": usage}
    chunk = {**head, "object": "chat.completion.chunk"}
    said = {"index": 0, "delta": {"role": "assistant", "content": COMPLETION}, "finish_reason": None}
    over = {"index": 0, "delta": {}, "finish_reason": "stop"}
    events: list[Event] = [("", {**chunk, "choices": [said]}), ("", {**chunk, "choices": [over]})]
    if (asked.get("stream_options") or {}).get("include_usage"):
        events.append(("", {**chunk, "choices": [], "usage": usage}))
    return events


def _responses(asked: dict[str, Any]) -> dict[str, Any]:
    text = {"type": "output_text", "text": COMPLETION, "annotations": []}
    message = {"id": "msg_1", "type": "message", "role": "assistant", "status": "completed", "content": [text]}
    usage = {
        "input_tokens": 12, "output_tokens": 3, "total_tokens": 15,
        "input_tokens_details": {"cached_tokens": 0}, "output_tokens_details": {"reasoning_tokens": 0},
    }  # fmt: skip
    return {
        "id": "resp_1", "object": "response", "created_at": 1, "status": "completed", "model": f"{asked['model']}-2026",
        "output": [message], "usage": usage, "parallel_tool_calls": True, "tool_choice": "auto", "tools": [],
    }  # fmt: skip


def _embeddings(asked: dict[str, Any]) -> dict[str, Any]:
    data = [{"object": "embedding", "index": 0, "embedding": [0.1, 0.2]}]
    return {"object": "list", "model": asked["model"], "data": data, "usage": {"prompt_tokens": 7, "total_tokens": 7}}


def _messages(asked: dict[str, Any]) -> dict[str, Any] | list[Event]:
    message = {
        "id": "msg_1", "type": "message", "role": "assistant", "model": f"{asked['model']}-2026",
        "content": [{"type": "text", "text": COMPLETION}], "stop_reason": "end_turn", "stop_sequence": None,
        "usage": {"input_tokens": 11, "output_tokens": 4},
    }  # fmt: skip
    if not asked.get("stream"):
        return message
    begun = {**message, "content": [], "stop_reason": None, "usage": {"input_tokens": 11, "output_tokens": 1}}
    ended = {"delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": {"output_tokens": 4}}
    events: dict[str, dict[str, Any]] = {
        "message_start": {"message": begun},
        "content_block_start": {"index": 0, "content_block": {"type": "text", "text": ""}},
        "content_block_delta": {"index": 0, "delta": {"type": "text_delta", "text": COMPLETION}},
        "content_block_stop": {"index": 0},
        "message_delta": ended,
        "message_stop": {},
    }
    return [(name, {"type": name, **data}) for name, data in events.items()]


def _content(_asked: dict[str, Any]) -> dict[str, Any]:
    candidate = {"content": {"role": "model", "parts": [{"text": COMPLETION}]}, "finishReason": "STOP", "index": 0}
    usage = {"promptTokenCount": 9, "candidatesTokenCount": 2, "totalTokenCount": 11}
    return {"candidates": [candidate], "usageMetadata": usage, "modelVersion": "gemini-3-2026"}


_ANSWERS: Final = {
    "/chat/completions": _chat,
    "/responses": _responses,
    "/embeddings": _embeddings,
    "/messages": _messages,
    ":generateContent": _content,
    ":streamGenerateContent": lambda asked: [("", _content(asked))],
}
