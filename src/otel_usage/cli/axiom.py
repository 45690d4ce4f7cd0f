"""``otel-usage axiom``: a dashboard and monitors at Axiom, made of the recipes."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .command import CommandError
from .files import text_of
from .served import check_endpoint

if TYPE_CHECKING:
    from ..local.axiom.changes import Change
    from ..local.axiom.things import Thing

NAME: Final = "axiom"
SUMMARY: Final = "make a dashboard and monitors at Axiom, of the recipes"

TOKEN_VARIABLE: Final = "AXIOM_MANAGEMENT_TOKEN"
"""The environment variable with a token that may make dashboards and monitors. The one of a service should not."""

_API_TOKEN: Final = "xaat-"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    actions = parser.add_subparsers(title="actions", metavar="ACTION", required=True, dest="action")
    apply = actions.add_parser("apply", help="create or change what the recipes say, and leave all else alone")
    export = actions.add_parser("export", help="write it as JSON files, and ask nobody")
    export.add_argument("directory", metavar="DIR", help="where the files are put")
    for each in (apply, export):
        _add_content(each)
    apply.add_argument("--dry-run", action="store_true", help="only show what would be done")
    apply.add_argument("--endpoint", metavar="URL", help="Axiom's API (default: https://api.axiom.co)")
    apply.epilog = f"It needs {TOKEN_VARIABLE}, an advanced API token: docs/axiom.md says which permissions it has."


def _add_content(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", help="Axiom's dataset (default: AXIOM_DATASET, else api_usage)")
    parser.add_argument("--plans", metavar="JSON", help="what plans allow in 30 days, or @FILE; see `otel-usage query`")
    parser.add_argument("--prices", metavar="JSON", help="what models and providers cost, or @FILE")
    parser.add_argument(
        "--notifier", action="append", default=[], metavar="ID", help="who is told by monitors (default: as it is)"
    )
    numbers: list[tuple[str, Any, float, str]] = [
        ("--error-percent", _percent, 5.0, "alert when so many of the requests are not served"),
        ("--silent-minutes", _count, 15, "alert when nothing has arrived for so long"),
        ("--plan-percent", _percent, 80.0, "alert when a customer has used so much of the plan"),
        ("--anonymous-requests", _count, 1000, "alert when so many come without a credential in 15 minutes"),
    ]
    for option, kind, default, doc in numbers:
        parser.add_argument(option, type=kind, default=default, metavar="N", help=f"{doc} (default: {default:g})")


def run(arguments: argparse.Namespace) -> int:
    """Apply or export.

    Raises:
        UsageError: a value is wrong, a file cannot be written, or Axiom cannot be asked.
    """
    dataset = str(arguments.dataset or os.environ.get("AXIOM_DATASET") or "api_usage")
    things = _things(arguments, dataset)
    if arguments.action == "export":
        return _export(things, Path(arguments.directory))
    return _apply(things, dataset, arguments)


def _things(arguments: argparse.Namespace, dataset: str) -> list[Thing]:
    from ..local.axiom.dashboard import dashboard
    from ..local.axiom.monitors import Limits, monitors

    given = {name: text_of(each) for name in ("plans", "prices") if (each := getattr(arguments, name)) is not None}
    limits = Limits(
        arguments.error_percent, arguments.silent_minutes, arguments.plan_percent, arguments.anonymous_requests
    )
    made = monitors(dataset, limits=limits, plans=given.get("plans"), notifiers=arguments.notifier)
    return [dashboard(dataset, given), *made]


def _export(things: Iterable[Thing], directory: Path) -> int:
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for each in things:
            name = each.key if each.key == each.kind else f"{each.kind}-{each.key}"
            path = directory / f"{name}.json"
            path.write_text(json.dumps(each.content, indent=2, ensure_ascii=False) + "\n", "utf-8")
            print(path)
    except OSError as error:
        raise CommandError(f"{error.filename or directory} cannot be written: {error.strerror}") from error
    return 0


def _apply(things: Iterable[Thing], dataset: str, arguments: argparse.Namespace) -> int:
    from ..local.axiom.api import BASE, ManagementApi
    from ..local.axiom.changes import Verdict, carry_out, compare, tells_nobody

    api = ManagementApi(_token(), arguments.endpoint or BASE)
    check_endpoint(api.base, api.token, TOKEN_VARIABLE)
    changes = compare(api, things, dataset)
    conflicts = [each for each in changes if each.verdict is Verdict.CONFLICT]
    is_tried = bool(conflicts or arguments.dry_run)
    for each in changes:
        if not is_tried:
            carry_out(api, each, dataset)
        _say(each, done=not is_tried)
    if conflicts:
        raise CommandError("nothing was changed: what is in the way above was made by somebody else")
    if silent := sum(map(tells_nobody, changes)):
        print(f"{silent} of the monitors tell nobody: --notifier names who is told")
    return 0


def _say(change: Change, *, done: bool = False) -> None:
    from ..local.axiom.changes import Verdict
    from ..local.formats import printable

    words = {
        Verdict.CREATE: ("would create", "created"),
        Verdict.CHANGE: ("would change", "changed"),
        Verdict.LEAVE: ("unchanged", "unchanged"),
        Verdict.CONFLICT: ("in the way", "in the way"),
    }
    print(f"{words[change.verdict][done].ljust(13)}{change.thing.kind.ljust(10)} {change.thing.name}")
    for why in change.why:
        print(f"{' ' * 13}{printable(why)}")


def _token() -> str:
    token = os.environ.get(TOKEN_VARIABLE, "")
    if not token:
        raise CommandError(f"Axiom wants a token that may make dashboards and monitors: set {TOKEN_VARIABLE}")
    if not token.startswith(_API_TOKEN) or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandError(f"{TOKEN_VARIABLE} is no API token: it begins with {_API_TOKEN}, and is not shown here")
    return token


def _percent(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is no percentage: it takes a number above 0, up to 1000")
    return number


def _count(text: str) -> int:
    number = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    if not number:
        raise argparse.ArgumentTypeError(f"{text!r} is no count: it takes a whole number from 1 on")
    return number
