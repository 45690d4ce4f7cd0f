"""``otel-usage spool``: what could not be sent yet, and sending it now."""

from __future__ import annotations

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

from .command import CommandError

if TYPE_CHECKING:
    from ..config import UsageConfig
    from ..ledger import LedgerSnapshot
    from ..spool.survey import SpoolFile

NAME: Final = "spool"
SUMMARY: Final = "show or send what could not be sent"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's options."""
    parser.add_argument(
        "action",
        choices=("status", "replay"),
        help="status: what is kept, for which sink; replay: send what is kept for the sink that the environment names",
    )
    parser.add_argument(
        "--service", metavar="NAME", help="replay what this service has kept (default: OTEL_SERVICE_NAME and kin)"
    )
    parser.add_argument("--json", action="store_true", help="status for programs; times in seconds since the epoch")
    parser.add_argument(
        "--timeout", type=float, default=600.0, metavar="SECONDS", help="end replay after this (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Do one of both, with the settings that the service has.

    Raises:
        UsageError: a setting is wrong, there is no spool on disk, or not everything could be sent.
    """
    from ..config import UsageConfig

    config = UsageConfig.from_env({**os.environ, "USAGE_TELEMETRY": "1"})
    files = _files(config)
    if arguments.action == "status":
        print(_as_json(files) if arguments.json else _as_text(files, _directory(config)))
    else:
        _replay(config, files, arguments.service or _service(config), time.monotonic() + arguments.timeout)
    return 0


def _service(config: UsageConfig) -> str:
    """The name as the service's own process spools under it, which is one that may leave."""
    from ..exporters.redacting import Redactor
    from ..ledger import DropCounter
    from ..service import service_name, service_resource

    drops = DropCounter()
    return service_name(service_resource(Redactor(drops, email_addresses=config.email_addresses), drops))


def _directory(config: UsageConfig) -> Path:
    from ..config import SpoolMode
    from ..spool.contract import SpoolError
    from ..spool.opening import directory_of

    if config.spool in (SpoolMode.MEMORY, SpoolMode.OFF):
        raise CommandError(f"USAGE_SPOOL is {config.spool}: nothing is kept on disk")
    try:
        return directory_of(config)
    except SpoolError as error:
        raise CommandError(f"{error}; set USAGE_SPOOL to a directory") from None


def _files(config: UsageConfig) -> list[SpoolFile]:
    from ..spool.survey import survey

    return list(survey(_directory(config)))


def _as_json(files: list[SpoolFile]) -> str:
    return json.dumps([{**asdict(file), "path": str(file.path)} for file in files], indent=2)


def _as_text(files: list[SpoolFile], directory: Path) -> str:
    return "\n".join(map(_line, files)) or f"nothing is kept in {directory}"


def _line(file: SpoolFile) -> str:
    if file.origin is None:
        return f"{file.path}: {file.size:,} bytes, {file.unreadable}"
    counts = ((file.spans, "span"), (file.payloads, "batch"), (file.processes, "process"))
    kept = ", ".join(f"{count:,} {word}{_plural(count, word)}" for count, word in counts)
    since = "" if file.oldest is None else f", the oldest {_age(time.time() - file.oldest)} old"
    return f"{file.origin}: {kept}{since} ({file.path})"


def _plural(count: int, word: str) -> str:
    if count == 1:
        return ""
    return "s" if word == "span" else "es"


def _age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{max(0.0, seconds):.0f} s"


def _replay(config: UsageConfig, files: list[SpoolFile], service: str, ends: float) -> None:
    from ..spool.place import SUFFIX, Origin

    if config.lacks_token:
        raise CommandError("AXIOM_API_TOKEN is not set")
    wanted = Origin(config.endpoint, config.axiom_dataset, service)
    troubles = [
        f"{file.path}: {file.unreadable}" for file in files if file.path.name.endswith(SUFFIX) and not file.origin
    ]
    mine = [file for file in files if file.origin == wanted]
    for file in mine:
        try:
            print(f"{file.path}: {_replay_file(config, file, ends)}")
        except CommandError as error:
            troubles.append(str(error))
    if not any(file.spans for file in mine):
        print(f"nothing is kept for {wanted}")
    for other in sorted({str(file.origin) for file in files if file.spans and file.origin != wanted}):
        print(f"left alone: what is kept for {other}")
    if troubles:
        raise CommandError("; ".join(troubles))


def _replay_file(config: UsageConfig, file: SpoolFile, ends: float) -> str:
    from ..circuit_breaker import CircuitBreaker
    from ..delivery.attempts import Attempts
    from ..delivery.backlog import Backlog
    from ..delivery.gate import Gate
    from ..delivery.sender import Sender
    from ..exporters.opening import open_exporter
    from ..exporters.redacting import Redactor
    from ..ledger import Ledger
    from ..spool.contract import REPLAY_PAUSE
    from ..spool.opening import disk_spool

    assert file.origin is not None
    if file.path.stat().st_uid != os.geteuid():
        raise CommandError(f"{file.path} belongs to another user: run this as that user")
    exporter = open_exporter(config, Redactor())  # of spans that were redacted before they were spooled
    gate = Gate(CircuitBreaker(time.monotonic), time.monotonic)
    attempts = Attempts(exporter, meanwhile=lambda: None, until=lambda: ends)
    ledger = Ledger()
    backlog = Backlog(disk_spool(config, file.path.parent, file.origin.service), ledger)
    sender = Sender(attempts.make, gate)
    try:
        backlog.look()
        while backlog.held.spans and time.monotonic() < ends:
            if not backlog.replay(sender.send, well=False) and gate.hindrance not in (None, "rate_limited"):
                break
            time.sleep(min(max(gate.wait, REPLAY_PAUSE / 2), max(0.0, ends - time.monotonic())))
        return _told(ledger.snapshot(), backlog.held.spans, gate.hindrance)
    finally:
        exporter.shutdown()
        attempts.stop(1.0)
        backlog.close()


def _told(ledger: LedgerSnapshot, left: int, hindrance: str | None) -> str:
    dropped = sum(ledger.dropped.values())
    told = f"{ledger.accepted:,} spans accepted, {ledger.rejected:,} rejected, {dropped:,} dropped"
    if left:
        raise CommandError(f"{told}; {left:,} are left ({hindrance or 'time is up'})")
    return told
