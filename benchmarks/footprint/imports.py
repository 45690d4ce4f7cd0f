"""What importing costs: time and modules beyond OpenTelemetry's SDK, and what is loaded that is optional."""

from __future__ import annotations

import statistics
import sys
import time
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Final

from .children import run
from .figures import spread
from .finding import Finding, at_most

BOUND: Final = 60.0
OPTIONAL: Final = (
    "duckdb", "rich", "fastapi", "starlette", "flask", "werkzeug", "httpx", "httpx2", "itsdangerous", "uvicorn", "grpc",
    "requests", "pydantic",
)  # fmt: skip
"""What is not to be loaded by us: it is not needed for OTLP/HTTP, or only where the application loads it."""

STEPS: Final = {
    "package": "`import otel_usage`",
    "names": "and every public name of it",
    "instrument": "and `instrument()`, OTLP/HTTP",
}
OURS: Final = ("sdk", *STEPS)
OFFICIAL: Final = ("sdk", "exporter")

Steps = dict[str, dict[str, Any]]

_PROGRAM: Final = str(Path(__file__).parent / "importing.py")
_INSTRUMENT: Final = str(Path(sys.executable).parent / "opentelemetry-instrument")
_COUNT: Final = "import json, sys; print(json.dumps(sorted(sys.modules)))"


def find(rounds: int) -> list[Finding]:
    """Medians of so many processes, each of which imports the SDK first; in turn with the official exporter."""
    for names in (OURS, OFFICIAL):
        _steps(names)  # what Python compiles has then been compiled
    ours, official = zip(*((_steps(OURS), _steps(OFFICIAL)) for _ in range(rounds)), strict=True)
    yardstick = statistics.median(each["exporter"]["ms"] for each in official)
    return [
        *(_added(step, ours) for step in ("package", "names")),
        _started(ours, yardstick),
        _optional(ours[0]),
        _instrumented(rounds),
    ]


def _steps(names: tuple[str, ...]) -> Steps:
    # -P: the program's own directory is no place to import from.
    found: Steps = run([sys.executable, "-P", _PROGRAM, *names])
    return found


def _added(step: str, rounds: tuple[Steps, ...]) -> Finding:
    """The package itself has a bound. Its names are imported as they are used, most of them with what records: wrapt
    and protobuf, which the rest of OpenTelemetry brings as well, are the largest part of that.
    """
    times, modules = _beyond_sdk(step, rounds)
    sdk = statistics.median(each["sdk"]["ms"] for each in rounds)
    more = (
        f"[{min(times):.1f}, {max(times):.1f}] and {modules} modules beyond the SDK's "
        f"({sdk:.0f} ms, {len(rounds[0]['sdk']['modules'])} modules)"
    )
    what, value, numbers = f"import, {STEPS[step]}", statistics.median(times), {"times": times, "modules": modules}
    if step == "package":
        return at_most(what, value, BOUND, "ms", digits=1, more=more, numbers=numbers)
    return Finding(what, f"{value:,.1f} ms {more}", numbers={"value": value, **numbers})


def _started(rounds: tuple[Steps, ...], yardstick: float) -> Finding:
    times, modules = _beyond_sdk("instrument", rounds)
    return Finding(
        f"import, {STEPS['instrument']}",
        f"{statistics.median(times):.1f} ms and {modules} modules beyond the SDK's "
        f"(the official OTLP/HTTP exporter alone: {yardstick:.1f} ms)",
        numbers={"times": times, "modules": modules, "official": yardstick},
    )


def _beyond_sdk(step: str, rounds: tuple[Steps, ...]) -> tuple[list[float], int]:
    """Milliseconds and modules of ``step`` and of ours before it."""
    steps = list(STEPS)[: list(STEPS).index(step) + 1]
    times = [sum(each[name]["ms"] for name in steps) for each in rounds]
    return times, sum(len(rounds[0][name]["modules"]) for name in steps)


def _optional(once: Steps) -> Finding:
    loaded = {STEPS[step]: found for step in STEPS if (found := sorted({*OPTIONAL} & {*once[step]["modules"]}))}
    shown = "; ".join(f"{step}: {', '.join(names)}" for step, names in loaded.items())
    return Finding("import, optional libraries loaded by us", shown or "none", "none", not loaded, {"loaded": loaded})


def _instrumented(rounds: int) -> Finding:
    """``opentelemetry-instrument`` with usage off, with and without our entry point, in turn."""
    others = [point.name for point in entry_points(group="opentelemetry_instrumentor") if point.name != "usage"]
    disabled = {"without": [*others, "usage"], "with": others}
    took: dict[str, list[float]] = {name: [] for name in disabled}
    modules: dict[str, list[str]] = {}
    for _ in range(rounds):
        for name, those in disabled.items():
            began = time.perf_counter()
            modules[name] = _run_instrumented(those)
            took[name].append((time.perf_counter() - began) * 1000)
    added = statistics.median(a - b for a, b in zip(took["with"], took["without"], strict=True))
    ours = [name for name in modules["with"] if name.partition(".")[0] == "otel_usage"]
    return Finding(
        "import, `opentelemetry-instrument` with `USAGE_TELEMETRY` unset",
        f"{len(ours)} modules of ours ({', '.join(ours)}), {len(modules['with']) - len(modules['without'])} in all; "
        f"{added:+.1f} ms of {statistics.median(took['without']):.0f} (without us they differ by "
        f"{spread(took['without']):.0f})",
        numbers={"ms": took, "ours": ours},
    )


def _run_instrumented(disabled: list[str]) -> list[str]:
    off = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    command = [_INSTRUMENT, sys.executable, "-c", _COUNT]
    found: list[str] = run(command, **off, OTEL_PYTHON_DISABLED_INSTRUMENTATIONS=",".join(disabled))
    return found
