"""Runs of client programs, each as a real process, and what became of them at the sink and at the upstream."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import defaultdict
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Final

from otel_usage.testing import AxiomStub, ReceivedSpan
from tests.needs import needed_environment
from tests.servers import free_port

from .declared import Client
from .program import CASES
from .upstream import Upstream, upstream

ROOT: Final = Path(__file__).parents[3]
TOKEN: Final = "xaat-test-0000"
KEY: Final = "k1:0123456789abcdef0123456789abcdef"
MODES: Final = ("zero-code", "by-hand")
LONGEST: Final = 90
"""Seconds that a program may take."""


@dataclass(frozen=True)
class Run:
    """What a program's calls have become."""

    client: Client
    mode: str
    spans: list[ReceivedSpan]
    trusted: Upstream
    elsewhere: Upstream
    log: str
    returned: int

    @cached_property
    def by_case(self) -> dict[str, list[ReceivedSpan]]:
        """The upstream spans of each case, by their start."""
        found: dict[str, list[ReceivedSpan]] = defaultdict(list)
        for span in sorted(self.spans, key=lambda span: span.start_time):
            if span.attributes["usage.kind"] == "upstream":
                found[str(span.attributes["usage.provider"])].append(span)
        return dict(found)

    @cached_property
    def others(self) -> list[ReceivedSpan]:
        """The spans that are no upstream call's."""
        return [span for span in self.spans if span.attributes["usage.kind"] != "upstream"]


def performed(client: Client, mode: str, state: Path) -> Run:
    """Run a client's program once. ``state``: where it may keep its spool."""
    if client.python is not None:
        needed_environment(client.python)
    with AxiomStub(token=TOKEN, dataset="api_usage") as sink, upstream() as trusted, upstream() as elsewhere:
        python = str(client.python or sys.executable)
        instrument = [str(Path(python).parent / "opentelemetry-instrument")] if mode == "zero-code" else []
        command = [
            *instrument, python, str(client.path), mode, trusted.url, elsewhere.url,
            f"http://127.0.0.1:{free_port()}", f"--cannot={','.join(client.cannot)}", f"--flavour={client.flavour}",
        ]  # fmt: skip
        environment = {
            "PATH": f"{Path(python).parent}{os.pathsep}{os.defpath}",
            "PYTHONPATH": os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH")))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "XDG_STATE_HOME": str(state),
            "USAGE_TELEMETRY": "1",
            "USAGE_OTLP_ENDPOINT": sink.url,
            "AXIOM_API_TOKEN": TOKEN,
            "USAGE_BAGGAGE_KEY": KEY,
            "USAGE_BAGGAGE_HOSTS": trusted.url.removeprefix("http://"),
            **{f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")},
        }
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=LONGEST, check=False, cwd=state
        )
        return Run(client, mode, sink.unique_spans, trusted, elsewhere, done.stdout + done.stderr, done.returncode)


NAMES: Final = tuple(case.__name__ for case in CASES)
