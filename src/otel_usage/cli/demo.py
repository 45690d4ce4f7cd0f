"""``otel-usage demo``: an example gateway with real traffic, and the usage that came of it."""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from .command import CommandError
from .processes import free_port, server_process

if TYPE_CHECKING:
    from ..local.store import UsageStore

NAME: Final = "demo"
SUMMARY: Final = "run an example gateway with real traffic, and show its usage"

_CONCURRENCY: Final = 8
_LEDGER_LINE: Final = "otel_usage: usage: "


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument("--seconds", type=_seconds, default=10.0, help="of traffic (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=1, help="of the traffic's random mix (default: %(default)s)")
    parser.add_argument("--db", metavar="FILE", help="keep the spans in this DuckDB file (default: not kept)")


def run(arguments: argparse.Namespace) -> int:
    """Run the demo. The exit code is 0 if the usage equals what the traffic driver has counted, else 1.

    Raises:
        UsageError: something that the demo needs is missing, or one of its servers did not start.
    """
    from ..local.apl import run_apl
    from ..local.render import print_report
    from ..local.report import PARTS, build_report
    from ..local.store import UsageStore
    from .comparison import compare

    package, search_path = _gateway()
    with (
        tempfile.TemporaryDirectory(prefix="otel-usage-demo-") as folder,
        UsageStore(arguments.db or str(Path(folder) / "usage.duckdb")) as store,
    ):
        log = Path(folder) / "gateway.log"
        tally = _run_gateway(store, package, search_path, log, arguments)
        report = build_report(lambda apl: run_apl(store, apl), names=(*PARTS, "tiers"))
        print()
        print_report(report)
        print(f"\nThe gateway's ledger: {_ledger(log)}")
        return 0 if compare(report, tally, print) else 1


def _run_gateway(
    store: UsageStore, package: str, search_path: Path | None, log: Path, arguments: argparse.Namespace
) -> Any:
    """Start the sink, the providers and the gateway, drive traffic, stop them, and return the driver's tally."""
    from ..local.http_server import HttpServer
    from ..local.sink import LocalSink

    with ExitStack() as stack:
        sink = stack.enter_context(closing(HttpServer(LocalSink(store), host="127.0.0.1", port=0)))
        sink.start()
        print(f"sink       {sink.url}   OTLP/HTTP, into DuckDB")
        providers = stack.enter_context(
            server_process(_uvicorn(f"{package}.upstream:app", search_path), free_port(), os.environ, log)
        )
        print(f"providers  {providers}   the third parties behind the gateway")
        gateway = stack.enter_context(
            server_process(
                [_script("opentelemetry-instrument"), *_uvicorn(f"{package}.app:app", search_path)],
                free_port(),
                {**_environment(), "USAGE_OTLP_ENDPOINT": sink.url, "GATEWAY_UPSTREAM": providers},
                log,
            )
        )
        print(f"gateway    {gateway}   FastAPI, under opentelemetry-instrument with USAGE_TELEMETRY=1")
        return _drive(package, gateway, arguments)


def _drive(package: str, gateway: str, arguments: argparse.Namespace) -> Any:
    from importlib import import_module

    drive = import_module(f"{package}.traffic").drive
    with _progress(arguments.seconds) as on_progress:
        return asyncio.run(
            drive(
                gateway,
                seconds=arguments.seconds,
                concurrency=_CONCURRENCY,
                seed=arguments.seed,
                on_progress=on_progress,
            )
        )


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[Any], None]]:
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("traffic   "), BarColumn(), TextColumn("{task.fields[requests]:,} requests"))
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("traffic", total=seconds, requests=0)

        def show(tally: Any) -> None:
            progress.update(task, completed=min(progress.tasks[0].elapsed or 0.0, seconds), requests=tally.requests)

        yield show


def _environment() -> dict[str, str]:
    """What the gateway runs with: usage on, and nothing of this machine's own telemetry or settings."""
    ours = ("USAGE_", "AXIOM_", "OTEL_", "GATEWAY_")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {
        **inherited,
        "USAGE_TELEMETRY": "1",
        "USAGE_SPOOL": "memory",  # nothing of the demo stays on this machine
        "USAGE_KEY_PEPPER": f"demo:{secrets.token_hex(16)}",
        "OTEL_SERVICE_NAME": "gateway",
        # Where a distribution of OpenTelemetry is installed, it would look for a Collector of its own.
        "OTEL_TRACES_EXPORTER": "none",
        "OTEL_METRICS_EXPORTER": "none",
        "OTEL_LOGS_EXPORTER": "none",
    }


def _uvicorn(app: str, search_path: Path | None) -> list[str]:
    location = ["--app-dir", str(search_path)] if search_path is not None else []
    return [sys.executable, "-m", "uvicorn", app, "--no-access-log", "--log-level", "warning", *location]


def _script(name: str) -> str:
    """A command of this Python's environment, whether that is activated or not."""
    path = Path(sys.executable).parent / name
    if not path.exists():
        raise CommandError(f"{name} is not installed beside {sys.executable}: pip install 'otel-usage[demo]'")
    return str(path)


def _gateway() -> tuple[str, Path | None]:
    """The example gateway's package, and the folder to find it in. None: it is installed, inside of this package."""
    for needed in ("fastapi", "uvicorn", "httpx", "duckdb", "rich"):
        if find_spec(needed) is None:
            raise CommandError(f"{needed} is not installed: pip install 'otel-usage[demo]'")
    if find_spec("otel_usage.examples") is not None:
        return "otel_usage.examples.gateway", None
    folder = Path(__file__).parents[3] / "examples"
    if not (folder / "gateway").is_dir():
        raise CommandError("the example gateway is neither installed nor in the checkout")
    sys.path.insert(0, str(folder))
    return "gateway", folder


def _ledger(log: Path) -> str:
    lines = [line for line in log.read_text(errors="replace").splitlines() if _LEDGER_LINE in line]
    return lines[-1].partition(_LEDGER_LINE)[2] if lines else "it has not logged one"


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is not a duration: it takes seconds, above 0 and up to 600")
    return seconds
