"""``otel-usage check --send``: one marked span to the sink that is configured."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..config import UsageConfig
    from ..exporters.probe import Probed


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of it."""

    endpoint: str
    dataset: str
    trace_id: str | None
    """None: nothing was sent."""
    milliseconds: float | None
    wrong: tuple[str, ...]
    """A sentence for each thing that is wrong, with what to do. Empty: the sink has the span."""


def send(config: UsageConfig) -> Sent:
    """Send it the way that usage goes, once, and say what is wrong.

    Raises:
        ConfigError: the environment names a proxy for the endpoint that is none.
    """
    from .advice import what_is_wrong

    if config.lacks_token:
        wrong = "Axiom takes no spans without a token, so nothing was sent: set AXIOM_API_TOKEN."
        return Sent(config.endpoint, config.axiom_dataset, None, None, (wrong,))
    probed = _probe(config)
    findings = tuple(what_is_wrong(config, probed))
    return Sent(config.endpoint, config.axiom_dataset, probed.trace_id, round(probed.milliseconds, 1), findings)


def _probe(config: UsageConfig) -> Probed:
    from ..exporters.opening import open_exporter
    from ..exporters.probe import check_span, probe
    from ..exporters.redacting import Redactor
    from ..ledger import DropCounter
    from ..service import service_resource

    drops = DropCounter()
    redactor = Redactor(drops, email_addresses=config.email_addresses)
    logging.disable(logging.WARNING)  # what a service would log is said below, in a sentence
    try:
        exporter = open_exporter(config, redactor)
        try:
            return probe(exporter, check_span(service_resource(redactor, drops)))
        finally:
            exporter.shutdown()
    finally:
        logging.disable(logging.NOTSET)


def as_text(sent: Sent) -> str:
    """A few lines for people."""
    lines = [f"sink: {sent.endpoint}, dataset {sent.dataset}"]
    if sent.wrong:
        return "\n".join([*lines, *(f"wrong: {each}" for each in sent.wrong)])
    return "\n".join(
        [
            *lines,
            f"well: it took a span in {sent.milliseconds:g} ms, which is nobody's usage and is not counted.",
            f"      to see it there: otel-usage query story --param trace={sent.trace_id}",
        ]
    )


def as_json(sent: Sent) -> str:
    """Everything, for programs."""
    return json.dumps({name: getattr(sent, name) for name in Sent.__slots__}, indent=2)
