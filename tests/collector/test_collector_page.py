"""What docs/collector.md says is what is there."""

from __future__ import annotations

import re
from pathlib import Path

import yaml

from benchmarks.collector.scale import _read
from benchmarks.collector.sizing import added, table
from tests.needs import needed_collector

from .collectors import CONFIGS

DOCS = Path(__file__).parents[2] / "docs"
PAGE = (DOCS / "collector.md").read_text()


def test_every_link_leads_somewhere() -> None:
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)#][^)]*)\)", PAGE)}
    assert links
    assert not [link for link in links if not (DOCS / link).exists()]


def test_every_file_that_it_puts_into_the_config_map_is_one_that_the_manifests_ask_for() -> None:
    given = set(re.findall(r"--from-file=collector-config/(\S+)", PAGE))
    manifests = "".join(path.read_text() for path in (CONFIGS / "kubernetes").glob("*.yaml"))
    assert given == set(re.findall(r"--config=/etc/otelcol-usage/([\w.-]+)", manifests))
    assert all((CONFIGS / name).exists() for name in given)


def test_every_metric_that_is_to_be_watched_is_one_of_the_collectors() -> None:
    programs = [Path(needed_collector(name)).read_bytes() for name in ("builder.yaml", "builder-kafka.yaml")]
    watched = set(re.findall(r"`otelcol_(\w+)`", PAGE))
    assert len(watched) > 8
    # To Prometheus, the dots in their names are underscores.
    missing = [
        name for name in watched if not any(re.search(re.sub(b"_", b"[._]", name.encode()), p) for p in programs)
    ]
    assert not missing


def test_the_sizing_is_reckoned_of_what_was_measured() -> None:
    found = _read(Path(__file__).parents[2] / "benchmarks" / "collector" / "sizing.json")
    reckoned = table(found, added((DOCS / "performance.md").read_text()))
    assert reckoned in PAGE.partition("<!-- sizing -->")[2].partition("<!-- /sizing -->")[0]


def test_what_may_come_twice_is_what_the_consumer_is_set_to() -> None:
    receiver = yaml.safe_load((CONFIGS / "scale-consumer.yaml").read_text())["receivers"]["kafka"]
    records = receiver["partition_processing"]["max_in_flight"]["records"]
    assert f"{records} records of each partition at most" in PAGE


def test_no_trace_of_a_batch_is_too_long_for_a_record_or_the_topic() -> None:
    exporter = yaml.safe_load((CONFIGS / "scale-gateway.yaml").read_text())["exporters"]["kafka"]
    topics = int(re.search(r"max\.message\.bytes=(\d+)", PAGE)[1])
    batch = exporter["sending_queue"]["batch"]
    assert batch["sizer"] == "bytes"
    assert batch["max_size"] < exporter["producer"]["max_message_bytes"] < topics
