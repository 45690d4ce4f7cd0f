"""One model call, and what the application says of it: the step that asked, and where in a chain of fallbacks."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final

from .blocks import Block, begin, end, said
from .facts import ModelFacts
from .ids import new_span_id
from .readable import UsageReadableSpan
from .said import known_word, of_type
from .scope import Recording, UsageScope

if TYPE_CHECKING:
    from .identity import UsageIdentity
    from .recorder import Recorder


@dataclass(frozen=True, slots=True)
class ModelNaming:
    """What is said of model calls beforehand. None: not said."""

    stage: str | None = None
    fallback_index: int | None = None


_UNNAMED: Final = ModelNaming()


def model_naming() -> ModelNaming:
    """What the surrounding ``with model_call(…)`` says."""
    return said(ModelNaming) or _UNNAMED


class model_call:  # noqa: N801  # as `upstream`
    """Say of the model calls within which step of the application asks, and where in a chain of fallbacks they stand:
    ``with model_call(stage="brief", fallback_index=0): client.chat.completions.create(…)``.

    It records nothing itself: calls that :func:`~otel_usage.record_llm` or a bridge records within are named so. Blocks
    may stand within one another; what the inner one does not say is as around it.
    """

    def __init__(self, *, stage: str | None = None, fallback_index: int | None = None) -> None:
        """``stage``: a name of a small set. ``fallback_index``: from 0. None: as around it."""
        self._stage = stage
        self._fallback_index = fallback_index
        self._block: Block | None = None

    def __enter__(self) -> None:
        around = model_naming()
        stage = around.stage if self._stage is None else self._stage
        index = around.fallback_index if self._fallback_index is None else self._fallback_index
        self._block = begin(self, ModelNaming(stage, index))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        end(self, self._block)


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCall:
    """What is known of one that has ended, in the application's words or in those of its instrumentation."""

    provider: object
    model: object
    stage: object
    reason: object
    own: Mapping[str, Any]
    """Attributes of this call alone."""
    started: int
    """Nanoseconds since the epoch."""
    ended: int
    """As above."""

    def record(self, recorder: Recorder, here: Recording | None) -> None:
        """Record it as a span within ``here``; None: as a root, of nobody."""
        drops = recorder.drops
        scope = here.scope if here is not None else UsageScope(recorder)
        reason = known_word(drops, "usage.reason", self.reason, recorder.reasons)
        provider = of_type(drops, "gen_ai.provider.name", self.provider, str)
        model = of_type(drops, "gen_ai.request.model", self.model, str)
        stage = of_type(drops, "usage.llm.stage", self.stage, str)
        trace_id, parent_id = here.ids if here is not None else (scope.ids[0], b"")
        span_id = new_span_id() if here is not None else scope.ids[1]

        def emit(identity: UsageIdentity) -> None:
            recorder.emit(
                UsageReadableSpan(
                    recorder.maker,
                    ModelFacts(provider, model, stage, reason, scope.template),
                    identity,
                    {**scope.inherited(), **self.own},
                    trace_id,
                    span_id,
                    parent_id,
                    self.started,
                    self.ended,
                    scope.made_id,
                )
            )

        scope.attribute(emit)
        if here is None:
            scope.close()
