"""Apache Kafka as a process on loopback: a real broker, without a container."""

from __future__ import annotations

import functools
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final, Self

from tests.needs import needed_program
from tests.servers import free_port, listens

_KAFKA: Final = Path(__file__).parent / "kafka"
_LOG_LEVEL: Final = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
_START: Final = 120.0
"""Seconds that a broker may take to answer. It takes three on an idle machine."""


@functools.cache
def _jars() -> str:
    """The class path. Fetched once, and kept outside of the tree."""
    needed_program("java")
    needed_program("mvn")
    fetched = subprocess.run([_KAFKA / "fetch.sh"], check=False, capture_output=True, text=True, timeout=600)
    assert fetched.returncode == 0, fetched.stdout + fetched.stderr
    return f"{fetched.stdout.strip()}/*"


class Broker:
    """A broker and its data, for the length of a ``with`` block; it may be stopped and started within."""

    def __init__(self, directory: Path, java: Sequence[str] = ("-Xmx256m", "-XX:TieredStopAtLevel=1")) -> None:
        """``java``: options of the broker's Java. By default it starts soon, takes little and never gets faster."""
        self.directory = directory / "kafka"
        self.directory.mkdir()
        self._options = java
        self._port, controller = free_port(), free_port()
        self._settings = self.directory / "broker.properties"
        self._settings.write_text(
            (_KAFKA / "broker.properties").read_text() + f"listeners=PLAINTEXT://{self.address},"
            f"CONTROLLER://127.0.0.1:{controller}\nadvertised.listeners=PLAINTEXT://{self.address}\n"
            f"controller.quorum.voters=1@127.0.0.1:{controller}\nlog.dirs={self.data}\n"
        )
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """What clients are told."""
        return f"127.0.0.1:{self._port}"

    @property
    def data(self) -> Path:
        """Where it keeps what it was given."""
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "broker.log"

    def __enter__(self) -> Self:
        self._tool(
            "kafka.tools.StorageTool", "format", "--cluster-id", "usage-0000000000000000", "--config", self._settings
        )
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def start(self) -> None:
        """Run, until it answers."""
        assert self.process is None
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*self._java(), "kafka.Kafka", self._settings], stdout=log, stderr=log, start_new_session=True
            )
        deadline = time.monotonic() + _START
        while not listens(self._port):
            assert self.process.poll() is None, self.log.read_text()[-4000:]
            assert time.monotonic() < deadline, self.log.read_text()[-4000:]
            time.sleep(0.1)

    def stop(self) -> None:
        """Ask it to end, as an operator does, and wait."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(60)
            self.process = None

    def kill(self) -> None:
        """End it without a word."""
        if self.process is not None:
            self.process.kill()
            self.process.wait(60)
            self.process = None

    def make_topic(self, name: str, partitions: int) -> None:
        self._topics("--create", "--topic", name, "--partitions", str(partitions))

    def records(self, topic: str) -> int:
        """How many records have been put into a topic since it was made."""
        said = self._tool("org.apache.kafka.tools.GetOffsetShell", "--bootstrap-server", self.address, "--topic", topic)
        return sum(int(line.rpartition(":")[2]) for line in said.splitlines() if line.startswith(f"{topic}:"))

    def committed(self, group: str, topic: str) -> int:
        """How many of them a group of consumers has said it is done with."""
        said = self._tool(
            "org.apache.kafka.tools.consumer.group.ConsumerGroupCommand",
            "--bootstrap-server", self.address, "--describe", "--offsets", "--group", group,
        )  # fmt: skip
        rows = [line.split() for line in said.splitlines()]
        return sum(int(row[3]) for row in rows if row[:2] == [group, topic] and row[3].isdigit())

    def partitions(self, topic: str, records: int) -> dict[str, set[int]]:
        """In which partitions the records of each key are, of a topic that holds so many."""
        said = self._tool(
            "org.apache.kafka.tools.consumer.ConsoleConsumer",
            "--bootstrap-server", self.address, "--topic", topic, "--from-beginning", "--max-messages", str(records),
            "--timeout-ms", "60000",
            "--formatter-property", "print.key=true", "--formatter-property", "print.partition=true",
            "--formatter-property", "print.value=false",
        )  # fmt: skip
        found: dict[str, set[int]] = {}
        for line in said.splitlines():
            place, _, key = line.partition("\t")
            if place.startswith("Partition:"):
                found.setdefault(key, set()).add(int(place.removeprefix("Partition:")))
        return found

    def _topics(self, *words: str) -> None:
        self._tool("org.apache.kafka.tools.TopicCommand", "--bootstrap-server", self.address, *words)

    def _java(self) -> list[str]:
        return [needed_program("java"), *self._options, _LOG_LEVEL, "-cp", _jars()]

    def _tool(self, *words: str | Path) -> str:
        """What one of Kafka's own commands prints."""
        done = subprocess.run([*self._java(), *words], check=False, capture_output=True, text=True, timeout=120)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-4000:]
        return done.stdout
