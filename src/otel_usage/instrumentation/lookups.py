"""What a cache in front of a client says: an event where it answers, and the status of the calls where it does not.

The caches' hooks put a :class:`CacheLookup` around each call. The clients' hooks find it where they look for a name,
and so each attempt that is made behind the cache has what the cache said of it.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Final

from ..attempt import UpstreamNaming, naming
from ..blocks import Block, begin, end
from ..facts import provider_of
from ..guard import guarded
from ..schema import CACHE_STATUSES, UsageEvent
from ..scope import current
from .calls import listening

if TYPE_CHECKING:
    from ..recorder import Recorder

MISS, FRESH, STALE, FAILURE = CACHE_STATUSES


def stored(status_code: int, *, stale: bool) -> str:
    """What a cache says that answers with a stored response. A failure is one, however fresh."""
    return FAILURE if status_code >= 400 else STALE if stale else FRESH


@dataclass(slots=True, kw_only=True)
class CacheLookup(UpstreamNaming):
    """A call through a cache, for the length of a ``with`` block."""

    recorder: Recorder
    around: UpstreamNaming | None
    """What names the calls around it, if anything does."""
    block: Block | None = None
    called: bool = False
    """Whether the cache has turned to whom it stands in front of, where it is known to and no hook may have seen it."""
    answer: tuple[str | None, str] | None = None
    """The host that the cache has answered for, and how. None: it has not."""

    def asked(self, status: str = MISS) -> None:
        """The cache has been asked. ``status`` is that of the calls that are made now, if there are any."""
        self.cache_status = self.cache_status or status  # the application has the first word

    def answered(self, host: str | None, status: str) -> None:
        """The answer is the cache's own, for the ``host`` that would have been called. Where one was, as where a stored
        response is served because that call has failed, it is the call that is recorded.
        """
        if self.attempts == 0 and not self.called:
            self.answer = host, status

    def __enter__(self) -> CacheLookup:
        self.block = begin(self, self)
        return self

    @guarded(None)
    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end(self, self.block)
        if self.around is not None:
            self.around.attempts += self.attempts or self.answer is not None
        if self.answer is not None:
            self._record(*self.answer)

    def _record(self, host: str | None, status: str) -> None:
        here = current()
        if here is None:
            return
        provider, operation, _ = self.words(self.recorder.drops)
        facts = {
            "usage.provider": provider or provider_of(host or "unknown", self.recorder.config.providers),
            "usage.operation": operation,
            "usage.cache.status": status,
        }
        here.event(UsageEvent.CACHE.value, facts)


@guarded(None)
def lookup(own: object = None, *, names: UpstreamNaming | None = None) -> CacheLookup | None:
    """A lookup that begins. None: usage is off, or somebody wishes that the call is not seen.

    ``own``: what the call says of itself, as in httpx's ``extensions={"usage": {…}}``. ``names``: what names it, where
    that is not what is current.
    """
    recorder = listening()
    if recorder is None:
        return None
    around = naming()
    named = names or around or _UNNAMED
    if isinstance(own, dict):
        named = named.nearer(own)
    return CacheLookup(named.provider, named.operation, named.cache_status, around=around, recorder=recorder)


_UNNAMED: Final = UpstreamNaming()
