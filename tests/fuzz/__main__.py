"""``python -m tests.fuzz``: try each target with inputs that atheris makes, and say how many there were.

atheris (Google, Apache-2.0) wraps libFuzzer: it watches which lines an input reaches, and changes inputs so as to reach
new ones. Each target runs in a process of its own, because libFuzzer ends the process that it runs in.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from ..pages import put_into

ROOT: Final = Path(__file__).parents[2]
SECONDS_BEYOND: Final = 120.0


def main() -> int:
    """Run what was asked for. 0 if nothing failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=60, help="for each target (default: %(default)s)")
    parser.add_argument("--runs", type=int, default=-1, help="inputs for each target at most (default: no limit)")
    parser.add_argument("--into-docs", action="store_true", help="put the numbers into docs/security.md")
    parser.add_argument("--target", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.target:
        return fuzz(arguments.target, arguments.runs, arguments.seconds)
    counts = {name: run(name, arguments.runs, arguments.seconds) for name in names()}
    table = "\n".join(["| target | inputs |", "|---|---|", *(f"| {n} | {c:,} |" for n, c in counts.items())])
    print(table)
    if arguments.into_docs:
        put_into(ROOT / "docs" / "security.md", "fuzz", table)
    return 0


def names() -> list[str]:
    """The targets' names, without importing what they test, which a target's own process instruments."""
    return re.findall(r"^def (\w+)\(data: bytes\)", (Path(__file__).parent / "targets.py").read_text(), re.MULTILINE)


def run(target: str, runs: int, seconds: int) -> int:
    """Fuzz one target in a process of its own. Returns the number of inputs.

    Raises:
        SystemExit: the target failed; its output says with which input.
    """
    command = [sys.executable, "-m", "tests.fuzz", "--target", target, f"--runs={runs}", f"--seconds={seconds}"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=seconds + SECONDS_BEYOND
    )
    count = re.search(r"Done (\d+) runs", done.stderr)
    if done.returncode or count is None:
        raise SystemExit(f"{target} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return int(count[1])


def fuzz(name: str, runs: int, seconds: int) -> int:
    """Fuzz one target here. libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=["otel_usage"]):
        from .targets import TARGETS
    # The fallback of a guarded function would hide that it raised.
    from otel_usage.guard import internal_errors

    def once(data: bytes) -> None:
        TARGETS[name](data)
        assert internal_errors() == {}

    limits = [f"-runs={runs}", f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-print_final_stats=0"]
    os.chdir("/tmp" if Path("/tmp").is_dir() else ROOT)  # where libFuzzer leaves an input that failed
    atheris.Setup([sys.argv[0], *limits], once)
    atheris.Fuzz()
    return 0


if __name__ == "__main__":
    sys.exit(main())
