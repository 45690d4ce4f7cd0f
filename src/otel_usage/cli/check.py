"""``otel-usage check``: what would be observed in this environment, what would not, and why."""

from __future__ import annotations

import argparse
import json
import logging
import os
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from ..instrumentation.survey import Finding

NAME: Final = "check"
SUMMARY: Final = "show which installed libraries are observed, which are not, and why; --send tries the sink"

_WRONG: Final = 1
_DISABLED: Final = "OTEL_PYTHON_DISABLED_INSTRUMENTATIONS"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.description = (
        "Show which installed libraries are observed, which are not, and why. It imports every library that is known "
        "and installed, and tries the hooks for it, in a process of its own. Run it with the Python and the "
        "environment of your service. It sends nothing; with --send, instead, one span that is nobody's usage "
        "and is not counted goes to the configured sink, and what is wrong with token, dataset, region, TLS or clock "
        "is said."
    )
    parser.add_argument("--send", action="store_true", help="send one marked span to the sink, and say what is wrong")
    parser.add_argument("--json", action="store_true", help="everything, for programs")


def run(arguments: argparse.Namespace) -> int:
    """Print what was found. The exit code is 0, also where something is not observed; 1 if the sink has not taken what
    was sent to it, or takes it for another time.

    Raises:
        UsageError: a setting is wrong, so usage would be off.
    """
    from ..instrumentation.survey import survey

    if arguments.send:
        return _send(arguments)
    switches = _switches()
    logging.disable(logging.WARNING)  # what is found is said below; what libraries say is not ours
    try:
        findings = survey()
    finally:
        logging.disable(logging.NOTSET)
    print(_as_json(switches, findings) if arguments.json else _as_text(switches, findings))
    return 0


def _send(arguments: argparse.Namespace) -> int:
    from ..config import UsageConfig
    from .sending import as_json, as_text, send

    # Where usage is off no other setting is read; whoever asks for a span to be sent wants them tried.
    sent = send(UsageConfig.from_env({**os.environ, "USAGE_TELEMETRY": "1"}))
    print(as_json(sent) if arguments.json else as_text(sent))
    return _WRONG if sent.wrong else 0


def _switches() -> list[str]:
    """Whether usage would be on, one line for each thing that decides it."""
    from ..config import UsageConfig

    config = UsageConfig.from_env()
    lines = ["USAGE_TELEMETRY=1: usage is on" if config.enabled else "USAGE_TELEMETRY is not 1: usage is off"]
    if config.enabled and config.lacks_token:
        lines.append("AXIOM_API_TOKEN is not set: nothing is sent")
    disabled = {name.strip() for name in os.environ.get(_DISABLED, "").split(",")}
    if not list(entry_points(group="opentelemetry_instrumentor", name="usage")):
        lines.append("opentelemetry-instrument does not find otel-usage: it is not installed as a package")
    elif disabled & {"usage", "*"}:
        lines.append(f"{_DISABLED} names it: opentelemetry-instrument does not switch it on")
    return lines


def _as_json(switches: Sequence[str], findings: Iterable[Finding]) -> str:
    return json.dumps({"switches": switches, "libraries": [asdict(finding) for finding in findings]}, indent=2)


def _as_text(switches: Sequence[str], findings: Sequence[Finding]) -> str:
    from ..instrumentation.survey import State

    lines = list(switches)
    for state in (State.OBSERVED, State.IN_PART, State.NOT_OBSERVED):
        chosen = [finding for finding in findings if finding.state is state]
        lines += ["", f"{state}:", *_rows(chosen)] if chosen else []
    missing = [finding.library for finding in findings if finding.state is State.NOT_INSTALLED]
    return "\n".join([*lines, *(["", f"known, not installed: {', '.join(missing)}"] if missing else [])])


def _rows(findings: Sequence[Finding]) -> list[str]:
    width = max(len(finding.library) for finding in findings)
    return [line for finding in findings for line in _row(finding, width)]


def _row(finding: Finding, width: int) -> list[str]:
    version = finding.installed or "of Python"
    tested = f"tested with {finding.tested}" if finding.tested else ""
    cells = finding.library.ljust(width), finding.role.ljust(7), version.ljust(10), tested
    return [f"  {'  '.join(cells)}".rstrip(), *(f"    {reason}" for reason in finding.reasons)]
