"""The customer's way to a job that is done later, elsewhere: what it carries, and what of that is believed.

A job waits in a broker, for hours or until tomorrow, and is perhaps tried again: so what it carries is good for as long
as is configured, and for that job alone. Whoever copies it to another job, or makes it up, has nothing.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .attribution import Attribution, AttributionSigner, Refusal
from .guard import guarded
from .identity import UsageIdentity
from .ledger import DropCounter


class Job(NamedTuple):
    """One job of one library: enqueued once, attempted once or more."""

    library: str
    name: str
    """The function that does it, as the library calls it. It has no arguments in it."""
    id: str

    @property
    def audience(self) -> str:
        """What a token names, so that it is for this job alone."""
        return f"{self.library}:{self.id}:{self.name}"


class UsageJobs:
    """Signs what jobs carry, and believes what is signed."""

    def __init__(self, signer: AttributionSigner, drops: DropCounter) -> None:
        """``drops`` counts what was not believed, and what could not be told."""
        self._signer = signer
        self._drops = drops
        self.tells: Final = signer.signs
        """Whether there is a key. Without one, jobs stay as they are."""

    def token(self, job: Job, identity: UsageIdentity, ids: tuple[bytes, bytes]) -> str | None:
        """What ``job`` is to carry, enqueued within the span of these ids of its trace and its own. None: nothing."""
        token = self._signer.tell(Attribution(identity, *ids), job.audience)
        if token is None:
            self._drops.add("job:untold")
        return token

    @guarded(None)
    def believed(self, token: object, job: Job) -> Attribution | None:
        """What ``job`` carries. What is broken, forged, another job's or too old is counted, and is nobody's."""
        found = self._verified(token, job)
        if isinstance(found, Refusal):
            self._drops.add(f"job:{found}")
            return None
        return found

    def belongs(self, token: object, job: Job) -> bool:
        """Whether ``job`` carries what is believed already, as one that is enqueued again to be tried again."""
        return isinstance(self._verified(token, job), Attribution)

    def _verified(self, token: object, job: Job) -> Attribution | Refusal:
        return self._signer.verify(token, job.audience) if isinstance(token, str) else Refusal.FORGED
