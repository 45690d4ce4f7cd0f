"""``python -m benchmarks.collector.scale``: what a span costs at each step of the scale pipeline, with a real broker,
and what that comes to for 10,000 requests a second.

Each step has a core to itself: the gateway puts everything into Kafka, and only then the consumer takes it out. The
agent is measured as ``benchmarks.collector`` does it, and what a service pays is taken from docs/performance.md.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime
import gzip
import json
import os
import platform
import shlex
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.cores import stay_on
from benchmarks.footprint.sink import Sink
from tests.collector.broker import Broker
from tests.collector.collectors import CONFIGS, Collector
from tests.pages import put_into
from tests.servers import free_port

from .__main__ import AGENTS_BATCH, PAGE, RECORDED, ROOT, collector
from .bodies import Body, joined, recorded
from .measuring import TOKEN, Round, bind, chosen, cpu, disk, measure, peak, send, size, wait
from .sizing import BUSY, REQUESTS, Measured, Step, added, step, table

SECTION: Final = "sizing"
PARTITIONS: Final = 8
_TOPIC: Final = "usage-spans"
_JAVA: Final = ("-Xms512m", "-Xmx512m")


def main() -> None:
    asked = parse()
    found = _read(asked.read) if asked.read else measured(asked.spans)
    if asked.json:
        asked.json.write_text(json.dumps(dataclasses.asdict(found), indent=1) + "\n")
    text = table(found, added((ROOT / "docs" / "performance.md").read_text())) + "\n" + "\n".join(facts(found)) + "\n"
    print(text)
    if asked.into_docs:
        put_into(PAGE, SECTION, text)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.collector.scale",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--spans", type=int, default=300_000, metavar="N", help="at each step (default: %(default)s)")
    add("--json", metavar="FILE", type=Path, help="write what was measured here")
    add("--from", dest="read", metavar="FILE", type=Path, help="measure nothing: what was written there")
    add("--into-docs", action="store_true", help=f"put the table into docs/{PAGE.name}")
    return parser.parse_args()


def _read(file: Path) -> Measured:
    written: dict[str, Any] = json.loads(file.read_text())
    return Measured(**{name: Step(**of) if isinstance(of, dict) else of for name, of in written.items()})


def measured(spans: int, requests: int = RECORDED) -> Measured:
    """Every step, one after the other. ``requests``: as many are recorded, and sent again until the spans suffice."""
    bodies = recorded(requests)
    core = sorted(os.sched_getaffinity(0))[-1]
    stay_on(first=True)  # with the sink; what is measured has another core
    with tempfile.TemporaryDirectory() as place:
        directories = [Path(place) / name for name in ("agent", "gateway", "consumer")]
        for directory in directories:
            directory.mkdir()
        agent = measure(collector(), "agent", bodies, spans, directories[0], core=core)
        with Broker(Path(place), _JAVA) as broker:
            broker.make_topic(_TOPIC, PARTITIONS)
            gateway, at_first = _gateway(broker, chosen(joined(bodies, AGENTS_BATCH), spans), directories[1], core)
            consumer, then = _consumer(broker, gateway.spans, directories[2], core)
            kept = _kept(broker) / gateway.spans
            assert broker.process is not None
            kafka = Step((at_first + then) / gateway.spans, peak(broker.process.pid), kept, kept)
    of_all = sum(body.spans for body in bodies)
    wire = sum(len(body.wire) for body in bodies) / of_all
    plain = sum(len(gzip.decompress(body.wire)) for body in bodies) / of_all
    return Measured(of_all / requests, wire, plain, step(agent), step(gateway), kafka, step(consumer))


def _gateway(broker: Broker, bodies: Sequence[Body], directory: Path, core: int) -> tuple[Round, float]:
    """What the gateway used, and the broker's seconds meanwhile."""
    spans = sum(body.spans for body in bodies)
    running, own = _collector("scale-gateway", broker, directory)

    def work() -> None:
        send(running.http, bodies)
        wait(own, spans, running)

    return _used(running, broker, core, spans, work=work, sent=lambda: _kept(broker))


def _consumer(broker: Broker, spans: int, directory: Path, core: int) -> tuple[Round, float]:
    """The same of the consumer, which finds everything there."""
    wire = directory / "wire"
    wire.mkdir()
    with Sink(keep=wire) as sink:
        running, own = _collector("scale-consumer", broker, directory, AXIOM_URL=sink.url, AXIOM_API_TOKEN=TOKEN)
        return _used(running, broker, core, spans, work=lambda: wait(own, spans, running), sent=lambda: size(wire))


def _collector(config: str, broker: Broker, directory: Path, **environment: str) -> tuple[Collector, int]:
    own = free_port()
    settings = {"KAFKA_BROKERS": broker.address, "KAFKA_TOPIC": _TOPIC, "OTELCOL_METRICS_PORT": str(own)}
    binary, file = collector("builder-kafka.yaml"), CONFIGS / f"{config}.yaml"
    return Collector(binary, file, directory, GOMAXPROCS="1", **settings, **environment), own


def _used(
    running: Collector, broker: Broker, core: int, spans: int, *, work: Callable[[], None], sent: Callable[[], int]
) -> tuple[Round, float]:
    assert broker.process is not None
    before, brokers = sent(), cpu(broker.process.pid)
    began = datetime.datetime.now(datetime.UTC)
    running.start()
    try:
        assert running.process is not None
        pid = running.process.pid
        bind(pid, core)
        work()
        seconds = (datetime.datetime.now(datetime.UTC) - began).total_seconds()
        took = Round(spans, seconds, cpu(pid), peak(pid), disk(pid), sent() - before, 0)
    finally:
        running.kill()
    return took, cpu(broker.process.pid) - brokers


def _kept(broker: Broker) -> int:
    """Bytes of the records that the broker has on its disk."""
    return sum(file.stat().st_size for file in broker.data.glob(f"{_TOPIC}-*/*.log"))


def facts(found: Measured) -> list[str]:
    """What it takes to make the table again."""
    return [
        f"- Command: `{shlex.join(['python', '-m', 'benchmarks.collector.scale', *sys.argv[1:]])}`",
        f"- Date: {datetime.datetime.now(datetime.UTC).date().isoformat()}; one of {os.cpu_count()} cores of "
        f"{platform.system()} for each Collector (`GOMAXPROCS=1`), all that is left for the broker and what sends",
        f"- {REQUESTS:,} requests a second of {found.spans_per_request:.1f} spans each. Instances are planned to use "
        f"{BUSY:.0%} of a core. What services pay is B of [performance.md](performance.md). A span is "
        f"{found.plain:.0f} bytes where it waits, uncompressed, and {found.kafka.disk:.0f} in Kafka",
    ]


if __name__ == "__main__":
    main()
