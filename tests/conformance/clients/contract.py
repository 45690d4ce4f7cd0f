"""What must be true of each case, whatever the library: the contract that every client is held to."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from otel_usage.testing import ReceivedSpan

from .program import CONCURRENT, CUSTOMER, PARTS, TRIES
from .runs import Run
from .upstream import GZIPPED, KEPT, STORED

Check = Callable[[Run, list[ReceivedSpan]], None]


def facts(span: ReceivedSpan, *keys: str) -> tuple[Any, ...]:
    """The values of attributes, None for those that are absent."""
    return tuple(span.attributes.get(key) for key in keys)


def whole(spans: list[ReceivedSpan], *, resent: bool = False) -> list[tuple[Any, ...]]:
    """Status, bytes of the request's body and of the response's, in order. None may be aborted.

    ``resent``: each attempt but the first is a resending. Otherwise none is.
    """
    assert not [span for span in spans if "usage.aborted" in span.attributes]
    counts = [span.attributes.get("http.request.resend_count") for span in spans]
    assert counts == [number or None if resent else None for number in range(len(spans))]
    keys = "http.response.status_code", "http.request.body.size", "http.response.body.size"
    return [facts(span, *keys) for span in spans]


def one(spans: list[ReceivedSpan]) -> ReceivedSpan:
    (span,) = spans
    return span


def answered(status: int, sent: int, received: int, error: str | None = None) -> Check:
    """One attempt, whose answer was read to its end."""

    def check(run: Run, spans: list[ReceivedSpan]) -> None:
        assert whole(spans) == [(status, sent, received)]
        assert facts(spans[0], "error.type", "server.address") == (error, "127.0.0.1")
        assert spans[0].kind == "client"
        assert 0 < float(str(spans[0].attributes["usage.time_to_first_byte"])) * 1e9 <= spans[0].duration

    return check


def head(run: Run, spans: list[ReceivedSpan]) -> None:
    answered(200, 0, 0)(run, spans)
    assert spans[0].attributes["http.request.method"] == "HEAD"


def given_up(run: Run, spans: list[ReceivedSpan]) -> None:
    span = one(spans)
    assert facts(span, "usage.aborted", "http.response.status_code", "error.type") == (True, 200, None)
    assert 0 < int(str(span.attributes["http.response.body.size"])) < 3_000_000


def unanswered(run: Run, spans: list[ReceivedSpan]) -> None:
    """There was no answer."""
    span = one(spans)
    assert span.attributes["error.type"]
    assert facts(span, "http.response.status_code", "http.response.body.size", "server.address") == (
        None, 0, "127.0.0.1",
    )  # fmt: skip
    assert span.status_code == "error"


def cut_short(run: Run, spans: list[ReceivedSpan]) -> None:
    """The answer broke off, in the middle of its body."""
    span = one(spans)
    assert facts(span, "usage.aborted", "http.response.status_code", "http.response.body.size") == (True, 200, KEPT)
    assert span.attributes["error.type"]


def reset(run: Run, spans: list[ReceivedSpan]) -> None:
    span = one(spans)
    assert facts(span, "usage.aborted", "http.response.status_code") == (True, 200)
    assert int(str(span.attributes["http.response.body.size"])) <= KEPT
    assert span.attributes["error.type"]


def redirected(run: Run, spans: list[ReceivedSpan]) -> None:
    (status, sent, received), target = whole(spans, resent=True)
    assert (status, sent, target) == (307, 0, (200, 0, 10))
    assert received == 5 or (received == 0 and run.client.distribution == "aiohttp"), "which does not wait for it"


def resent(run: Run, spans: list[ReceivedSpan]) -> None:
    """The library itself has sent it again."""
    assert whole(spans, resent=True) == [(503, 0, 5)] * (TRIES - 1) + [(200, 0, 5)]


def called_again(run: Run, spans: list[ReceivedSpan]) -> None:
    """Somebody around the library has made the call again: each is one of its own."""
    assert whole(spans) == [(503, 0, 5)] * (TRIES - 1) + [(200, 0, 5)]


def concurrent(run: Run, spans: list[ReceivedSpan]) -> None:
    assert len(spans) == CONCURRENT
    sizes = {span.attributes["usage.operation"]: span.attributes["http.response.body.size"] for span in spans}
    assert sizes == {f"call-{n}": 1000 + n for n in range(CONCURRENT)}


def told(run: Run, spans: list[ReceivedSpan]) -> None:
    (lines,) = run.trusted.baggage["/bytes/201"]
    *own, ours = lines
    members = dict(member.split("=", 1) for member in ours.split(","))
    assert members["usage.customer.id"] == CUSTOMER
    assert members["usage.tier"] == "2"
    assert members["usage.signature"].startswith("k1.")
    _only_its_own(run, own)
    assert one(spans).attributes["usage.customer.id"] == CUSTOMER


def untold(run: Run, spans: list[ReceivedSpan]) -> None:
    (lines,) = run.elsewhere.baggage["/bytes/202"]
    _only_its_own(run, lines)
    assert one(spans).attributes["usage.customer.id"] == CUSTOMER


def _only_its_own(run: Run, lines: list[str]) -> None:
    """The application's own baggage, which the official instrumentation of the library may have replaced."""
    members = {member for line in lines for member in line.split(",")}
    assert members
    assert members <= ({"own=1"} if run.mode == "by-hand" else {"own=1", "team=blue"})


def child(run: Run, spans: list[ReceivedSpan]) -> None:
    span = one(spans)
    (parent,) = [each for each in run.others if each.name == "parent"]
    assert (span.parent_span_id, span.trace_id) == (parent.span_id, parent.trace_id)
    assert facts(span, "usage.customer.id", "usage.tier") == (CUSTOMER, 2)


CONTRACT: Final[dict[str, Check]] = {
    "get": answered(200, 0, 1234),
    "post": answered(200, 5, len(STORED)),
    "post_streamed": answered(200, sum(map(len, PARTS)), len(STORED)),
    "streamed": answered(200, 0, 3000),
    "streamed_with_a_length": answered(200, 0, 200_000),
    "given_up": given_up,
    "given_up_with_a_length": given_up,
    "compressed": answered(200, 0, len(GZIPPED)),
    "head": head,
    "no_content": answered(204, 0, 0),
    "not_found": answered(404, 0, 0, "404"),
    "server_error": answered(500, 0, 0, "500"),
    "refused": unanswered,
    "cut_short": cut_short,
    "reset": reset,
    "timed_out": unanswered,
    "redirect": redirected,
    "retries": resent,
    "with_tenacity": called_again,
    "with_stamina": called_again,
    "concurrent": concurrent,
    "told": told,
    "untold": untold,
    "child": child,
}
