"""The scripted sink, as a process of its own: its work must not share an interpreter with the load generator.

``Sink`` is the handle that a scenario holds; ``python -m tests.chaos.sink`` is what it starts. They speak lines of JSON
over the process's standard input and output, and the process ends with its input.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final, Self

from otel_usage.local.messages import Request, Response
from otel_usage.local.receiver import TRACES_PATH, Exchange, Receiver
from otel_usage.testing import AxiomStub
from otel_usage.testing.faults import Outcome
from tests.chaos.account import Account
from tests.chaos.faults import Injector
from tests.chaos.processes import ROOT
from tests.chaos.tls import TlsForwarder

MOST_BYTES: Final = 256 << 20
MOST_SPANS: Final = 1 << 20
"""No limits that any client would meet: they are not what is tested here, and Apitally sends files of 4 MB."""


class OtherSignals:
    """The stub's receiver, with a good answer for what peers send beside spans: metrics, logs, and Logfire's question
    who it is. Faults strike these requests like any other.
    """

    def __init__(self, receiver: Receiver, account: Account) -> None:
        self._receiver = receiver
        self._account = account

    def handle(self, request: Request) -> Exchange:
        if request.path == TRACES_PATH:
            return self._receiver.handle(request)
        if request.path == "/v1/info":
            body = json.dumps({"project_name": "chaos", "project_url": "http://127.0.0.1/chaos"}).encode()
            return Exchange(request, Response(200, {"Content-Type": "application/json"}, body))
        return Exchange(request, Response(200, {"Content-Type": "application/x-protobuf"}, b""))


class ChaosStub(AxiomStub):
    """An AxiomStub that keeps books and no spans."""

    def __init__(self, account: Account) -> None:
        super().__init__(token=None, judge=lambda span: None, max_body_bytes=MOST_BYTES, max_spans=MOST_SPANS)
        self._account = account
        self._receiver = OtherSignals(self._receiver, account)  # type: ignore[assignment]  # does what a receiver does

    def _record(self, exchange: Exchange, outcome: Outcome) -> None:
        self._account.take(outcome.spans)
        if exchange.request.path == "/v1/metrics" and outcome.status == 200:
            self._account.count_metrics(exchange.request)


class Sink:
    """A running sink. ``with Sink(directory) as sink:``"""

    def __init__(self, directory: Path, *, tls: bool = False) -> None:
        """``directory``: where the CA's certificate goes. ``tls``: listen with TLS too."""
        self.ca_file = directory / "ca.pem"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.chaos.sink", *([str(self.ca_file)] if tls else [])],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url: str = self._read()["url"]

    def fail_with(self, fault: str) -> None:
        self._ask("fault", fault)

    def heal(self) -> None:
        self._ask("heal")

    def summary(self) -> dict[str, Any]:
        return self._ask("summary")

    def ids(self) -> tuple[set[str], set[str]]:
        """The ids that were taken, and those that were rejected and not taken."""
        found = self._ask("ids")
        taken = set(found["taken"])
        return taken, set(found["rejected"]) - taken

    def close(self) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        try:
            self._process.wait(15)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self.close()

    def _ask(self, *words: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(words) + "\n")
        self._process.stdin.flush()
        return self._read()

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the sink has ended"
        return json.loads(line)


def main(ca_file: str | None = None) -> None:
    account = Account()
    with ChaosStub(account) as stub:
        wire = TlsForwarder(stub.port, Path(ca_file)) if ca_file else None
        injector = Injector(stub, wire, account.reject)
        say({"url": wire.url if wire else stub.url})
        for line in sys.stdin:
            say(obey(json.loads(line), injector, account))


def obey(words: list[str], injector: Injector, account: Account) -> dict[str, Any]:
    match words:
        case ["fault", name]:
            injector.set(name)
        case ["heal"]:
            account.healed()  # first: what arrives while it heals has recovered
            injector.heal()
        case ["summary"]:
            return account.summary()
        case ["ids"]:
            return account.ids()
    return {}


def say(what: dict[str, Any]) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
