"""Processes that measure: each measurement in one of its own, with nothing of ours in its environment but what it says.

``measured("memory", "request", "20000")`` runs ``work("request", "20000")`` of ``benchmarks.footprint.memory`` in a new
process and returns what it returned.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
LONGEST: Final = 3600.0
"""Seconds, after which a measurement that has not ended is given up."""

_FOREIGN: Final = ("USAGE_", "OTEL_", "AXIOM_", "FOOTPRINT_", "UVICORN_")


def environment(**more: str) -> dict[str, str]:
    """This process's, without what would set telemetry up, and with ``more``."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_FOREIGN)}
    return {**kept, "PYTHONHASHSEED": "0", **more}


def measured(module: str, *words: object, **more: str) -> dict[str, Any]:
    """What ``work(*words)`` of a module of this package returns, in a process with ``more`` in its environment."""
    found: dict[str, Any] = run(
        [sys.executable, "-m", "benchmarks.footprint.children", module, *map(str, words)], **more
    )
    return found


def run(command: list[str], **more: str) -> Any:
    """What a program prints as JSON, on the last line of its output.

    Raises:
        SystemExit: it failed; with what it said.
    """
    done = subprocess.run(
        command, cwd=ROOT, env=environment(**more), capture_output=True, text=True, timeout=LONGEST, check=False
    )
    if done.returncode:
        raise SystemExit(f"{' '.join(command[:6])} failed:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    name, *rest = sys.argv[1:]
    print(json.dumps(importlib.import_module(f"benchmarks.footprint.{name}").work(*rest)), flush=True)
    os._exit(0)  # what is measured is over; the end of the interpreter, and of what is held back, is not part of it
