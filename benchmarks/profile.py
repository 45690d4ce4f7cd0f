"""``python -m benchmarks.profile A|B``: where the time of a request goes with otel_usage on, function by function."""

from __future__ import annotations

import argparse
import asyncio
import sys
from typing import Final

from benchmarks.application import VARIANTS
from benchmarks.configurations import BY_NAME, OURS
from benchmarks.environments import ROOT
from benchmarks.profiler import Profiler, ThreadProfile, merged
from benchmarks.sink import SinkProcess
from benchmarks.traffic import serve, start_up
from tests.pages import put_into

ROWS: Final = 15
PACKAGES: Final = 6
WARM_UP: Final = 500


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__)
    parser.add_argument("variant", choices=[*VARIANTS])
    parser.add_argument("--requests", type=int, default=2000, help="(default: %(default)s)")
    parser.add_argument("--into-docs", action="store_true", help="put both tables into docs/performance.md")
    arguments = parser.parse_args()
    with SinkProcess() as sink:
        profiler = asyncio.run(profiled(arguments.variant, arguments.requests, sink.url))
    text = section(profiler, arguments.variant, arguments.requests)
    print(text)
    if arguments.into_docs:
        put_into(ROOT / "docs" / "performance.md", f"profile-{arguments.variant}", text)
    return 0


async def profiled(variant: str, requests: int, sink: str) -> Profiler:
    profiler = Profiler()
    profiler.start()
    built = BY_NAME[OURS].build(variant, sink)
    up = await start_up(built.app)
    await serve(built.app, WARM_UP)
    built.flush()
    profiler.record()
    try:
        await serve(built.app, requests, WARM_UP)
    finally:
        profiler.stop_here()
    built.end()
    up.cancel()
    return profiler


def section(profiler: Profiler, variant: str, requests: int) -> str:
    parts = [
        ("On the request's own thread", profiler.here),
        ("On the threads that encode and send", merged(profiler.others)),
    ]
    tables = [f"{title}:\n\n{markdown(profile, requests)}" for title, profile in parts]
    return "\n".join([*tables, f"- Command: `python -m benchmarks.profile {variant} --requests {requests}`", ""])


def markdown(profile: ThreadProfile, requests: int) -> str:
    """The functions that take the most, and what packages take with the functions of C that they call."""
    total = profile.own.total() or 1
    rows = [
        f"| `{name}` | {own / total:.1%} | {profile.calls[name] / requests:.2f} |"
        for name, own in profile.own.most_common(ROWS)
    ]
    table = "\n".join(["| function | own time | calls a request |", "|---|---:|---:|", *rows])
    packages = ", ".join(f"{name} {own / total:.0%}" for name, own in profile.by_package.most_common(PACKAGES))
    return f"{table}\n\nBy package, with the functions of C that each calls: {packages}.\n"


if __name__ == "__main__":
    sys.exit(main())
