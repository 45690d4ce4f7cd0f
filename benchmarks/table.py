"""The table of all configurations, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.application import VARIANTS
from benchmarks.configurations import ALL, BY_NAME, OURS, STOCK, Configuration
from benchmarks.figures import CPU, THREAD, Figures
from benchmarks.results import Results

COLUMNS = ("", "CPU over stock OTel", "request thread over stock OTel", "CPU added, µs", "request thread added, µs")


def rows(figures: Figures) -> list[tuple[str, ...]]:
    """In the order of what is added, the least first."""
    return [(each.label, *cells(figures, each.name)) for each in ordered(figures)]


def ordered(figures: Figures) -> list[Configuration]:
    measured = [each for each in ALL if each.name in figures.names()]
    return sorted(measured, key=lambda each: figures.added(each.name, CPU).median)


def cells(figures: Figures, name: str) -> list[str]:
    ratios = [figures.ratio(name, what).shown(2) if STOCK in figures.names() else "-" for what in (CPU, THREAD)]
    return ratios + [figures.added(name, what).shown(0) for what in (CPU, THREAD)]


def text(results: Results) -> str:
    """A table of each variant, for a terminal."""
    return "\n\n".join(
        f"{variant}: {says}\n{_aligned([COLUMNS, *rows(Figures(results.measurements, variant))])}"
        for variant, says in VARIANTS.items()
    )


def _aligned(lines: Sequence[Sequence[str]]) -> str:
    """Words to the left, numbers to the right."""
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(line[n].rjust(width) if n else line[n].ljust(width) for n, width in enumerate(widths))
        for line in lines
    )


def markdown(results: Results, command: str) -> str:
    """A section that can be made again: with the command, the versions and the date."""
    tables = [_table(Figures(results.measurements, variant), variant) for variant in VARIANTS]
    return "\n\n".join([*tables, "\n".join(f"- {fact}" for fact in facts(results, command))]) + "\n"


def _table(figures: Figures, variant: str) -> str:
    ours = BY_NAME[OURS].label
    head = ((f"{variant}: {VARIANTS[variant]}", *COLUMNS[1:]), ("---", *("---:" for _ in COLUMNS[1:])))
    body = [tuple(f"**{cell}**" for cell in row) if row[0] == ours else row for row in rows(figures)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (*head, *body))


def facts(results: Results, command: str) -> Iterator[str]:
    """How the figures came about."""
    yield f"Command: `{command}`"
    yield f"Date: {results.date}"
    yield f"{results.rounds} rounds of {results.requests} requests after {results.warm_up}; median [least, most]"
    for variant in VARIANTS:
        bare = Figures(results.measurements, variant).bare(CPU)
        yield f"The bare application, {variant}: {bare.shown(0)} µs"
    yield f"{results.python} on {results.system}, {results.processor}, {results.cores} cores"
    yield f"Versions: {', '.join(versions(results))}"
    for name, reason in results.skipped.items():
        yield f"Not measured: {BY_NAME[name].label}: {reason}"


PACKAGES = (
    "otel-usage", "opentelemetry-sdk", "opentelemetry-instrumentation-fastapi", "fastapi", "starlette", "httpx",
    "logfire", "apitally", "moesifasgi", "starlette-exporter", "prometheus-fastapi-instrumentator",
)  # fmt: skip


def versions(results: Results) -> Iterator[str]:
    for package in PACKAGES:
        found = next((each[package] for each in results.versions.values() if package in each), None)
        if found is not None:
            yield f"{package} {found}"
