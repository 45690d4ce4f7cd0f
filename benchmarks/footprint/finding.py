"""What was found, and the one table that it is shown in."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

COLUMNS = ("what", "measured", "bound", "")
VERDICTS = {True: "holds", False: "**does not hold**", None: "-"}


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the table."""

    what: str
    measured: str
    bound: str = "-"
    """In words. ``-``: there is none, and the number is for information."""
    holds: bool | None = None
    """Whether the bound holds. None: there is none, or it cannot be told here."""
    numbers: Mapping[str, object] = field(default_factory=dict)
    """Everything that was measured, for ``--json``."""


def at_most(
    what: str,
    value: float,
    bound: float,
    unit: str,
    *,
    digits: int = 0,
    more: str = "",
    numbers: Mapping[str, object] | None = None,
) -> Finding:
    """A finding whose bound is a number. ``more`` follows the measured value."""
    measured = f"{value:,.{digits}f} {unit}" + (f" {more}" if more else "")
    return Finding(what, measured, f"≤ {bound:,g} {unit}", value <= bound, {"value": value, **(numbers or {})})


def markdown(findings: Iterable[Finding], *, facts: Sequence[str] = ()) -> str:
    """A Markdown table, and ``facts`` as a list below it."""
    lines = [COLUMNS, ("---",) * len(COLUMNS), *map(row, findings)]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return table + "".join(f"\n{'' if n else chr(10)}- {fact}" for n, fact in enumerate(facts)) + "\n"


def row(finding: Finding) -> tuple[str, ...]:
    """The cells of a finding. A bar would end its cell."""
    cells = (finding.what, finding.measured, finding.bound, VERDICTS[finding.holds])
    return tuple(cell.replace("|", "\\|") for cell in cells)
