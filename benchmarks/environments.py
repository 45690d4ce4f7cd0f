"""An environment of its own for each peer, made on demand, with the same versions of what all of them share.

Peers bring instrumentations, which would be found and used by one another in one environment.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from benchmarks.configurations import Configuration
from benchmarks.versions import installed

ROOT: Final = Path(__file__).parents[1]
SHARED: Final = ("fastapi", "httpx")
"""What the application needs, in every environment."""
PINNED: Final = (
    "fastapi", "starlette", "httpx", "httpcore", "h11", "anyio", "sniffio", "idna", "certifi", "pydantic",
    "pydantic-core", "typing-extensions", "typing-inspection", "annotated-types", "annotated-doc", "protobuf",
)  # fmt: skip
"""What every environment has in the version of this one, besides all of OpenTelemetry."""
INSTALL_SECONDS: Final = 600
RUN_SECONDS: Final = 600

Versions = dict[str, str]


class Unavailable(Exception):
    """An environment cannot be had. The message is the reason, in a line."""


def python_of(environment: str | None) -> Path:
    """The interpreter of an environment. None: this one."""
    return Path(sys.executable) if environment is None else ROOT / f".venv-bench-{environment}" / "bin" / "python"


def variables_of(environment: str | None) -> dict[str, str]:
    """A peer's process finds this folder's packages by its working directory, and none of this environment's."""
    return {name: value for name, value in os.environ.items() if environment is None or name != "PYTHONPATH"}


def run(environment: str | None, module: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a module of the benchmarks in an environment, to its end. What it printed is text."""
    return subprocess.run(
        [python_of(environment), "-m", module, *words],
        cwd=ROOT,
        env=variables_of(environment),
        capture_output=True,
        text=True,
        timeout=RUN_SECONDS,
        check=False,
    )


def pinned(versions: Mapping[str, str]) -> Versions:
    return {name: version for name, version in versions.items() if name in PINNED or name.startswith("opentelemetry-")}


def prepare(configuration: Configuration) -> None:
    """Make the environment of a configuration, unless it is there as it should be.

    Raises:
        Unavailable: something cannot be installed.
    """
    name = configuration.environment
    if name is None:
        return
    place = ROOT / f".venv-bench-{name}"
    constraints = "".join(f"{each}=={version}\n" for each, version in sorted(pinned(installed()).items()))
    wanted = f"{sys.version}\n{' '.join(configuration.requirements)}\n{constraints}"
    ready, limits = place / "ready.txt", place / "constraints.txt"
    if ready.is_file() and ready.read_text() == wanted:
        return
    print(f"setting up {place.name}", flush=True)
    _run(sys.executable, "-m", "venv", "--clear", str(place))
    limits.write_text(constraints)
    pip = (str(python_of(name)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--constraint", str(limits), *SHARED, *configuration.requirements)
    ready.write_text(wanted)


def _run(*command: str) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=INSTALL_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise Unavailable(f"the installation took longer than {INSTALL_SECONDS} s") from error
    if done.returncode:
        lines = [line for line in done.stderr.strip().splitlines() if line.startswith("ERROR")] or [done.stderr[-200:]]
        raise Unavailable(lines[0].strip())


def versions_in(environment: str | None) -> Versions:
    """What is installed in an environment.

    Raises:
        Unavailable: it does not work.
    """
    if environment is None:
        return installed()
    done = run(environment, "benchmarks.versions")
    if done.returncode:
        raise Unavailable(done.stderr.strip()[-200:])
    found: Versions = json.loads(done.stdout)
    return found


def differences(versions: Mapping[str, Versions]) -> list[str]:
    """What environments have in different versions, of what has to be the same in all, a line for each."""
    lines = []
    for package in sorted({name for found in versions.values() for name in pinned(found)}):
        by_version: dict[str, list[str]] = {}
        for environment, found in versions.items():
            if package in found:
                by_version.setdefault(found[package], []).append(environment)
        if len(by_version) > 1:
            where = "; ".join(f"{version} in {', '.join(names)}" for version, names in by_version.items())
            lines.append(f"{package}: {where}")
    return lines


def check(configurations: Iterable[Configuration]) -> dict[str, Versions]:
    """The versions in the environments of these, by environment; ``main`` is this one.

    Raises:
        SystemExit: they differ in what has to be the same.
    """
    names = dict.fromkeys(each.environment for each in configurations)
    versions = {name or "main": versions_in(name) for name in names}
    found = differences(versions)
    if found:
        raise SystemExit(
            "The environments are not the same, so what they cost cannot be compared:\n" + "\n".join(found)
        )
    return versions
