"""Everything that was measured, as a file.

A JSON object of `format` (1), `date` (ISO 8601), `python`, `processor`, `cores`, `system`, `requests` and `warm_up` (of
each run), `rounds`, `versions` (by environment and package), `skipped` (reasons by configuration), `measurements`: the
fields of `figures.Measurement`, one object for each run, in the order that they were run in.
"""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Self

from benchmarks.environments import Versions
from benchmarks.figures import Measurement
from benchmarks.one import WARM_UP

FORMAT: Final = 1


@dataclass(frozen=True)
class Results:
    """Measurements, and where they were made."""

    date: str
    python: str
    processor: str
    cores: int
    system: str
    requests: int
    warm_up: int
    rounds: int
    versions: Mapping[str, Versions]
    skipped: Mapping[str, str]
    measurements: Sequence[Measurement] = field(repr=False)

    @classmethod
    def made_here(
        cls,
        measurements: Sequence[Measurement],
        *,
        requests: int,
        versions: Mapping[str, Versions],
        skipped: Mapping[str, str],
    ) -> Self:
        """Of this machine, now."""
        return cls(
            date=datetime.now(UTC).date().isoformat(),
            python=f"{platform.python_implementation()} {platform.python_version()}",
            processor=processor(),
            cores=os.cpu_count() or 1,
            system=platform.system(),
            requests=requests,
            warm_up=WARM_UP,
            rounds=len({each.round for each in measurements}),
            versions=versions,
            skipped=skipped,
            measurements=measurements,
        )

    def write(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"format": FORMAT, **asdict(self)}, indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Raises ValueError: the file is of another format."""
        found: dict[str, Any] = json.loads(path.read_text())
        if found.pop("format", None) != FORMAT:
            raise ValueError(f"{path} is not of format {FORMAT}")
        measurements = [Measurement(**each) for each in found.pop("measurements")]
        return cls(measurements=measurements, **found)


def processor() -> str:
    """The model's name, as the system calls it."""
    information = Path("/proc/cpuinfo")
    if information.is_file():
        for line in information.read_text().splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name":
                return value.strip()
    return platform.processor() or platform.machine()
