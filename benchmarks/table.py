"""The table of all configurations, for a terminal and for Markdown."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.application import VARIANTS
from benchmarks.configurations import ALL, BY_NAME, OURS, STOCK, Configuration
from benchmarks.figures import CPU, THREAD, Figures
from benchmarks.results import Results

FIGURES = ("CPU over stock OTel", "request thread over stock OTel", "CPU added, µs", "request thread added, µs")
COLUMNS = ("", *(f"{variant}: {figure}" for variant in VARIANTS for figure in FIGURES))


def rows(results: Results) -> Iterator[tuple[str, ...]]:
    """In the order of what is added in A, the least first."""
    figures = {variant: Figures(results.measurements, variant) for variant in VARIANTS}
    for each in ordered(figures["A"]):
        yield (each.label, *(cell for variant in VARIANTS for cell in cells(figures[variant], each.name)))


def ordered(figures: Figures) -> list[Configuration]:
    measured = [each for each in ALL if each.name in figures.names()]
    return sorted(measured, key=lambda each: figures.added(each.name, CPU).median)


def cells(figures: Figures, name: str) -> list[str]:
    ratios = [figures.ratio(name, what).shown(2) if STOCK in figures.names() else "-" for what in (CPU, THREAD)]
    return ratios + [figures.added(name, what).shown(0) for what in (CPU, THREAD)]


def text(results: Results) -> str:
    """For a terminal."""
    lines = [COLUMNS, *rows(results)]
    widths = [max(len(line[n]) for line in lines) for n in range(len(COLUMNS))]
    return "\n".join(
        "  ".join(line[n].rjust(width) if n else line[n].ljust(width) for n, width in enumerate(widths))
        for line in lines
    )


def markdown(results: Results, command: str) -> str:
    """A section that can be made again: with the command, the versions and the date."""
    ours = BY_NAME[OURS].label
    body = [tuple(f"**{cell}**" for cell in row) if row[0] == ours else row for row in rows(results)]
    head = (COLUMNS, ("---", *("---:" for _ in COLUMNS[1:])))
    table = "\n".join(f"| {' | '.join(line)} |" for line in (*head, *body))
    return f"{table}\n\n" + "\n".join(f"- {fact}" for fact in facts(results, command)) + "\n"


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
