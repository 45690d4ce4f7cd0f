"""``otel-usage query``: a question about usage, answered by the local store or by Axiom."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .command import CommandError, age
from .files import text_of
from .served import add_place, answered, check_endpoint

if TYPE_CHECKING:
    from ..local.answers import Answer
    from ..local.recipes import Recipe

NAME: Final = "query"
SUMMARY: Final = "answer a question about usage, from the local store or from Axiom"

QUERY_TOKEN_VARIABLE: Final = "AXIOM_QUERY_TOKEN"
"""The environment variable with a token that may query. The one that spans are sent with can often only ingest."""

_API_TOKEN: Final = "AXIOM_API_TOKEN"
_PERSONAL_TOKEN: Final = "xapt-"
_API_DOMAIN: Final = "api.axiom.co"
_FORMATS: Final = ("table", "csv", "json", "parquet")
_CLOCKS_APART: Final = timedelta(hours=1)
"""How much more of the time Axiom is told to look at: which spans count is said in the query, by Axiom's own clock."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("recipe", nargs="?", metavar="RECIPE", help="the question; without one, all of them are shown")
    parser.add_argument("--since", type=age, metavar="AGE", help="only the last 30s, 15m, 1h or 7d")
    parser.add_argument("--customer", metavar="ID", help="only this customer")
    parser.add_argument("--limit", metavar="N", help="rows at most")
    parser.add_argument(
        "--param",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="another of the recipe's parameters; NAME=@FILE reads the value from a file",
    )
    parser.add_argument("--source", choices=("local", "axiom"), default="local", help="who answers (default: local)")
    parser.add_argument("--dataset", help="Axiom's dataset (default: AXIOM_DATASET, else api_usage)")
    add_place(parser)
    parser.add_argument("--format", choices=_FORMATS, default="table", help="of the answer (default: table)")
    parser.add_argument("--output", metavar="FILE", help="write the answer there; --format parquet needs it")
    parser.add_argument("--apl", action="store_true", help="print the query, to paste into Axiom, and ask nobody")
    parser.epilog = (
        f"Axiom is asked with the token of {QUERY_TOKEN_VARIABLE}, else {_API_TOKEN}, at AXIOM_DOMAIN or --endpoint."
    )


def run(arguments: argparse.Namespace) -> int:
    """Answer, or list what can be asked.

    Raises:
        UsageError: the recipe or one of its values is not known, or whoever is asked cannot answer.
    """
    from ..local.recipes import recipe, recipes

    if arguments.recipe is None:
        print(_listed(recipes()))
        return 0
    asked = recipe(arguments.recipe)
    values = asked.parse(_given(asked, arguments))
    if arguments.apl:
        print(asked.apl(values, dataset=_dataset(arguments)))
        return 0
    if arguments.format == "parquet" and arguments.output is None:
        raise CommandError("--format parquet needs --output FILE")
    apl = asked.apl(values, repeated=False)
    answer = (
        _of_axiom(asked, values, arguments)
        if arguments.source == "axiom"
        else answered(arguments, lambda ask: ask(apl))
    )
    _show(asked, answer, arguments)
    if answer.partial:
        print(f"otel-usage {NAME}: these are the first {len(answer.rows):,} rows only", file=sys.stderr)
    return 0


def _listed(recipes: Mapping[str, Recipe]) -> str:
    width = max(map(len, recipes))
    lines = [f"{name.ljust(width)}  {each.question}" for name, each in recipes.items()]
    needs = [
        f"{name.ljust(width)}  needs --param {parameter.name}={parameter.doc}"
        for name, each in recipes.items()
        for parameter in each.parameters
        if parameter.required
    ]
    return "\n".join([*lines, "", *needs])


def _given(asked: Recipe, arguments: argparse.Namespace) -> dict[str, str]:
    """The texts of parameters that were given in one way or another."""
    from ..local.parameters import timespan

    names = {parameter.name for parameter in asked.parameters}
    given = dict(map(_named, arguments.param))
    if arguments.since is not None:
        given["week_window" if "week_window" in names else "window"] = timespan(arguments.since)
    given |= {name: each for name in ("customer", "limit") if (each := getattr(arguments, name)) is not None}
    return given


def _named(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise CommandError(f"--param {text!r} has no value: it takes NAME=VALUE or NAME=@FILE")
    return name, text_of(value)


def _of_axiom(asked: Recipe, values: Mapping[str, Any], arguments: argparse.Namespace) -> Answer:
    from ..config import AXIOM_DOMAIN
    from ..local.query_api import ask

    token = os.environ.get(QUERY_TOKEN_VARIABLE) or os.environ.get(_API_TOKEN)
    if not token:
        raise CommandError(f"Axiom wants a token that may query: set {QUERY_TOKEN_VARIABLE}")
    domain = os.environ.get("AXIOM_DOMAIN") or AXIOM_DOMAIN
    if token.startswith(_PERSONAL_TOKEN) and arguments.endpoint is None and domain != _API_DOMAIN:
        raise CommandError(f"{domain} takes no personal tokens ({_PERSONAL_TOKEN}…): use an API token (xaat-…)")
    base = arguments.endpoint or f"https://{domain}"
    check_endpoint(base, token, QUERY_TOKEN_VARIABLE)
    now = datetime.now(UTC)
    start, end = now - asked.reach(values) - _CLOCKS_APART, now + _CLOCKS_APART
    return ask(base, asked.apl(values, dataset=_dataset(arguments)), token, start=start, end=end)


def _dataset(arguments: argparse.Namespace) -> str:
    from ..local.layout import TABLE

    return str(arguments.dataset or os.environ.get("AXIOM_DATASET") or TABLE)


def _show(asked: Recipe, answer: Answer, arguments: argparse.Namespace) -> None:
    from ..local.formats import to_csv, to_json, write_parquet
    from ..local.render import print_answer

    if arguments.format == "table" and arguments.output is None:
        print_answer(asked.title, answer)
        return
    if arguments.output is None:
        print(to_json(answer) if arguments.format == "json" else to_csv(answer).removesuffix("\n"))
        return
    if arguments.format == "table":
        raise CommandError("--output takes an answer with --format csv, json or parquet")
    os.umask(0o077)  # what is written is this user's alone
    path = Path(arguments.output)
    if arguments.format == "parquet":
        write_parquet(answer, path)
        return
    try:
        path.write_text(f"{to_json(answer)}\n" if arguments.format == "json" else to_csv(answer), "utf-8")
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
