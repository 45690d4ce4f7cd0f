"""The page of the documentation that shows every recipe: ``python -m otel_usage.local.recipes_page``."""

from __future__ import annotations

from typing import Any, Final

from .parameters import Parameter, timespan
from .recipes import Recipe, recipes

_EXAMPLES: Final = {
    "customer": "acme",
    "service": "gateway",
    "trace": "771a43a4192642f0b136d5159a501700",
    "prices": '{"models": {"gpt-5": {"input": 1.25, "output": 10}}, "providers": {"yahoo-finance": 0.002}}',
    "plans": '{"free": 1000, "api_pro": 100000}',
}

_HEAD: Final = """# Recipes

Questions about usage, in APL: each is answered by the local store and by Axiom alike. Made from
`src/otel_usage/local/recipes/` by `make docs`.

```sh
otel-usage query                                   # what can be asked
otel-usage query customers --since 1h              # of usage.duckdb, or of the `otel-usage serve` that holds it
otel-usage query customers --apl                   # the query, to paste into Axiom
AXIOM_QUERY_TOKEN=xaat-… otel-usage query customers --source axiom
otel-usage query costs --since 30d --param prices=@prices.json --format csv
otel-usage query upstreams --customer acme --format parquet --output upstreams.parquet
```

`--format` is `table`, `csv`, `json` or `parquet`. In CSV, a text that a spreadsheet would take for a formula (it
begins with `=`, `+`, `-` or `@`) has an apostrophe before it; in tables and CSV, control characters are replaced. A
token that may query is read from `AXIOM_QUERY_TOKEN`, else `AXIOM_API_TOKEN`; `AXIOM_DOMAIN` and `AXIOM_DATASET` (or
`--dataset`) say where.

**Each span once.** Delivery is at least once, so a destination may hold a span twice. The line that ends in `// each
span once` keeps one of each `(trace_id, span_id)`. The local store has each span once, and is asked without that
line. In Axiom it makes a group for each span of the window, and Axiom bounds the groups of a query: of what is too
much for it, ask for shorter windows.

**The same layout.** The view `api_usage` of the local file has the columns of an Axiom dataset of traces:
`['attributes.http.route']`, `['attributes.custom']['usage.customer.id']`, `duration / 1ms`. What is not in the subset
that both know is refused with its name, such as `topk` or `evaluate`.

How long each takes on ten million spans is in [performance.md](performance.md#recipes).

Nothing here has been tried against Axiom itself: the queries use what its documentation of August 2026 describes, and
their answers are compared with plain Python's on the local store (`tests/e2e/test_recipes.py`).
"""


def markdown() -> str:
    """The page."""
    table = ["| recipe | question |", "|---|---|", *(f"| [`{n}`](#{n}) | {r.question} |" for n, r in recipes().items())]
    return "\n".join([_HEAD, *table, "", *(line for each in recipes().values() for line in _section(each))])


def _section(each: Recipe) -> list[str]:
    drawn = (
        f"a {each.chart.kind} chart of {_names(each.chart.y)} by {_names(each.chart.x)}" if each.chart.x else "a table"
    )
    return [
        f"## {each.name}",
        "",
        f"**{each.title}.** {each.question} Drawn as {drawn}.",
        "",
        *(f"{note}\n" for note in each.notes),
        "| parameter | | default |",
        "|---|---|---|",
        *map(_row, each.parameters),
        "",
        "```kusto",
        each.apl(_shown(each)),
        "```",
        "",
    ]


def _names(columns: tuple[str, ...]) -> str:
    return ", ".join(f"`{column}`" for column in columns)


def _row(parameter: Parameter) -> str:
    default = "needed" if parameter.required else "none"
    if parameter.default is not None:
        default = f"`{_text(parameter)}`"
    return f"| `{parameter.name}` | {parameter.doc} | {default} |"


def _text(parameter: Parameter) -> str:
    return timespan(parameter.default) if "window" in parameter.name else str(parameter.default)


def _shown(each: Recipe) -> dict[str, Any]:
    return each.parse({p.name: _EXAMPLES[p.name] for p in each.parameters if p.name in _EXAMPLES})


if __name__ == "__main__":
    print(markdown(), end="")  # noqa: T201  # what it makes is its output
