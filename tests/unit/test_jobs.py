"""What a job carries is believed of that job alone, in its time, and with a key alone."""

from __future__ import annotations

from random import Random
from string import ascii_letters

import pytest

from otel_usage.attribution import LONGEST_TOKEN, SKEW, AttributionSigner, Purpose
from otel_usage.hosts import HostPatterns
from otel_usage.identity import UsageIdentity
from otel_usage.jobs import Job, UsageJobs
from otel_usage.ledger import DropCounter

SECRET = "0123456789abcdef0123456789abcdef"
IDENTITY = UsageIdentity("acme", 2, "api_pro", "jwt", None, "verified")
CALLER = bytes.fromhex("0af7651916cd43dd8448eb211c80319c"), bytes.fromhex("b7ad6b7169203331")
JOB = Job("celery", "reports.render", "4711")
NOW = 1_800_000_000
WEEK = 7 * 86400


def jobs(
    now: float = NOW, drops: DropCounter | None = None, *, purpose: Purpose = Purpose.JOB, **keys: str
) -> UsageJobs:
    patterns = HostPatterns("", ())
    signer = AttributionSigner(keys, patterns, lambda: now, purpose=purpose, lifetime=WEEK)
    return UsageJobs(signer, drops if drops is not None else DropCounter())


def token(job: Job = JOB, identity: UsageIdentity = IDENTITY) -> str:
    made = jobs(k1=SECRET).token(job, identity, CALLER)
    assert made is not None
    return made


def test_a_job_carries_the_customer_and_the_span_that_enqueued_it() -> None:
    found = jobs(k1=SECRET).believed(token(), JOB)
    assert found is not None
    assert (found.identity, found.trace_id, found.span_id) == (IDENTITY, *CALLER)


@pytest.mark.parametrize(
    ("later", "believed"),
    [(0, True), (86_400, True), (WEEK + SKEW - 1, True), (WEEK + SKEW, False), (-SKEW - 1, False)],
)
def test_it_is_believed_for_as_long_as_is_configured(later: int, believed: bool) -> None:
    drops = DropCounter()
    found = jobs(NOW + later, drops, k1=SECRET).believed(token(), JOB)
    assert (found is not None) == believed
    assert drops.counts() == ({} if believed else {"job:expired": 1})


@pytest.mark.parametrize(
    "other", [JOB._replace(id="4712"), JOB._replace(name="reports.delete"), JOB._replace(library="rq")]
)
def test_what_was_copied_to_another_job_is_not_believed(other: Job) -> None:
    drops = DropCounter()
    assert jobs(NOW, drops, k1=SECRET).believed(token(), other) is None
    assert drops.counts() == {"job:other_audience": 1}


@pytest.mark.parametrize("made_up", ["", "acme", "k1.", "k1.e30.aa.bb", 7, None, b"k1", ["k1"]])
def test_what_was_made_up_is_not_believed(made_up: object) -> None:
    drops = DropCounter()
    assert jobs(NOW, drops, k1=SECRET).believed(made_up, JOB) is None
    assert sum(drops.counts().values()) == 1


def test_what_was_signed_for_a_call_is_not_believed_of_a_job() -> None:
    of_a_call = jobs(purpose=Purpose.CALL, k1=SECRET).token(JOB, IDENTITY, CALLER)
    drops = DropCounter()
    assert jobs(NOW, drops, k1=SECRET).believed(of_a_call, JOB) is None
    assert drops.counts() == {"job:forged": 1}


def test_without_a_key_nothing_is_told_and_nothing_believed() -> None:
    assert not jobs().tells
    drops = DropCounter()
    assert jobs(NOW, drops).believed(token(), JOB) is None
    assert drops.counts() == {"job:unknown_key": 1}


def test_a_job_that_is_enqueued_again_is_known_by_what_it_carries() -> None:
    drops = DropCounter()
    here = jobs(NOW, drops, k1=SECRET)
    assert here.belongs(token(), JOB)
    assert not here.belongs(token(), JOB._replace(id="4712"))
    assert not here.belongs("acme", JOB)
    assert drops.counts() == {}, "it is looked at to be replaced, and not to be believed"


@pytest.mark.parametrize(
    ("job", "identity"),
    [
        (JOB._replace(name="".join(Random(7).choices(ascii_letters, k=LONGEST_TOKEN))), IDENTITY),
        (JOB, UsageIdentity("two\nlines", 2, None, "jwt")),
    ],
)
def test_what_would_not_be_believed_is_not_told_and_counted(job: Job, identity: UsageIdentity) -> None:
    drops = DropCounter()
    assert jobs(NOW, drops, k1=SECRET).token(job, identity, CALLER) is None
    assert drops.counts() == {"job:untold": 1}
