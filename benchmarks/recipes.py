"""How long each recipe takes on a store of generated spans.

``python -m benchmarks.recipes --spans 10000000`` makes the store in a temporary folder, asks every recipe about all of
it three times, and prints the fastest, with the time of the processor beside it, which does not depend on who else is
using it. Two of three spans are upstream or model calls. ``--into-docs`` puts that into docs/performance.md.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import duckdb

from benchmarks.environments import ROOT
from otel_usage.local.apl import run_apl
from otel_usage.local.columns import COLUMNS, quoted
from otel_usage.local.layout import SPANS
from otel_usage.local.recipes import Recipe, recipes
from otel_usage.local.store import UsageStore
from tests.pages import put_into
from tests.usage_data import generated

_SLICE: Final = 500_000
_DAYS: Final = 28
_BATCH: Final = 512
_BATCHES: Final = 40
_ASKED: Final = {
    "prices": '{"models": {"model-1": {"input": 1.25, "output": 10}}, "providers": {"provider-1": 0.002}}',
    "plans": '{"free": 1000, "api_pro": 100000}',
    "trace": f"{'0' * 31}3",
    "window": f"{_DAYS + 1}d",
    "week_window": "7d",
}


def _pick(seed: int, count: int) -> str:
    return f"(hash(i * 64 + {seed}) % {count})"


_VALUES: Final = {
    "_time": f"make_timestamp($now - ({{total}} - i) * ({_DAYS} * 86400000000 // {{total}}))",
    "trace_id": "lpad(format('{:x}', i // 3 * 3), 32, '0')",
    "span_id": "lpad(format('{:x}', hash(i) % 9000000000000000000), 16, '0')",
    "name": "'GET'",
    "kind": "CASE i % 3 WHEN 0 THEN 'server' ELSE 'client' END",
    "duration": f"to_microseconds({_pick(1, 500000)}::BIGINT)",
    "error": f"{_pick(2, 20)} = 0",
    "status.code": "'unset'",
    "service.name": "'gateway'",
    "events": f"""CASE WHEN i % 3 = 0 AND {_pick(3, 3)} = 0 THEN '[{{"name":"usage.cache","timestamp":1,"attributes":
        {{"usage.provider":"provider-1","usage.cache.status":"fresh"}}}}]' ELSE '[]' END""",
    "links": "'[]'",
    "attributes.http.route": f"CASE i % 3 WHEN 0 THEN '/v1/route-' || {_pick(4, 200)} END",
    "attributes.http.response.status_code": f"CASE {_pick(2, 20)} WHEN 0 THEN 503 ELSE 200 END",
    "attributes.http.response.body.size": f"{_pick(5, 100000)}",
    "attributes.gen_ai.request.model": f"CASE i % 3 WHEN 2 THEN 'model-' || {_pick(6, 5)} END",
    "attributes.gen_ai.usage.input_tokens": f"CASE i % 3 WHEN 2 THEN {_pick(7, 4000)} END",
    "attributes.gen_ai.usage.output_tokens": f"CASE i % 3 WHEN 2 THEN {_pick(8, 900)} END",
    "attributes.geo.country.iso_code": f"CASE i % 3 WHEN 0 THEN 'C' || {_pick(9, 60)} END",
    "attributes.custom.usage.kind": "CASE i % 3 WHEN 0 THEN 'request' WHEN 1 THEN 'upstream' ELSE 'llm' END",
    "attributes.custom.usage.customer.id": f"'customer-' || {_pick(10, 5000)}",
    "attributes.custom.usage.principal.id": f"'k1:' || md5({_pick(11, 9000)}::VARCHAR)",
    "attributes.custom.usage.tier": f"{_pick(12, 4)}",
    "attributes.custom.usage.plan": f"CASE {_pick(12, 4)} WHEN 0 THEN 'free' ELSE 'api_pro' END",
    "attributes.custom.usage.auth.kind": f"CASE {_pick(12, 4)} WHEN 0 THEN 'anon' ELSE 'jwt' END",
    "attributes.custom.usage.reason": f"CASE {_pick(2, 20)} WHEN 0 THEN 'server_error' ELSE 'ok' END",
    "attributes.custom.usage.provider": f"CASE i % 3 WHEN 1 THEN 'provider-' || {_pick(13, 20)} END",
    "attributes.custom.usage.cache.status": "CASE i % 3 WHEN 1 THEN 'miss' END",
    "attributes.custom.usage.cache.tier": "CASE i % 3 WHEN 0 THEN 'fast' END",
    "attributes.custom.usage.identity.provenance": "'verified'",
    "attributes.custom.usage.request.id": "format('{:x}', i // 3)",
}


def fill(path: Path, total: int) -> None:
    """Make a store with ``total`` spans of the last four weeks."""
    UsageStore(path).close()
    now = int(datetime.now(UTC).timestamp() * 1_000_000)
    types = {column.name: column.sql_type for column in COLUMNS}
    values = ", ".join(
        f"CAST({value.replace('{total}', str(total)).replace('$now', str(now))} AS {types[name]})"
        for name, value in _VALUES.items()
    )
    with duckdb.connect(str(path)) as connection:
        for start in range(0, total, _SLICE):
            connection.execute(
                f"INSERT INTO {SPANS} ({', '.join(map(quoted, _VALUES))}) "
                f"SELECT {values} FROM range({start}, {min(total, start + _SLICE)}) AS numbers(i)"
            )


def seconds(store: UsageStore, asked: Recipe) -> tuple[float, float]:
    """The fastest of three answers about the whole store, and the least of the processor's time, of all its cores."""
    names = {parameter.name for parameter in asked.parameters}
    apl = asked.apl(asked.parse({key: each for key, each in _ASKED.items() if key in names}), repeated=False)
    took, worked = [], []
    for _ in range(3):
        before, before_work = time.perf_counter(), time.process_time()
        assert run_apl(store, apl).rows, asked.name
        took.append(time.perf_counter() - before)
        worked.append(time.process_time() - before_work)
    return min(took), min(worked)


def rate(store: UsageStore) -> float:
    """Spans a second that the store takes in batches of 512 that have just ended, each committed to the disk."""
    made = generated(requests=200)[:_BATCH]
    took = 0.0
    for number in range(_BATCHES):
        now = time.time_ns()
        batch = [replace(span, trace_id=f"{number + 1:032x}", start_time=now, end_time=now + 1) for span in made]
        before = time.perf_counter()
        assert store.add(batch) == _BATCH
        took += time.perf_counter() - before
    return _BATCH * _BATCHES / took


def table(spans: int) -> str:
    """Fill a store, ask, and return what it took."""
    with tempfile.TemporaryDirectory(prefix="otel-usage-recipes-") as folder:
        path = Path(folder) / "usage.duckdb"
        fill(path, spans)
        with UsageStore(path) as store:
            size = path.stat().st_size / 1e6
            lines = [f"{store.count():,} spans of four weeks in {size:,.0f} MB, on {os.cpu_count()} cores:", ""]
            lines += ["| recipe | seconds | seconds of CPU |", "|---|---:|---:|"]
            for asked in recipes().values():
                took, worked = seconds(store, asked)
                lines.append(f"| `{asked.name}` | {took:.2f} | {worked:.2f} |")
            lines += ["", f"Beside them it takes {rate(store):,.0f} spans a second, in batches of {_BATCH}."]
    return "\n".join(lines)


def main() -> None:
    """Measure, and print or keep it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--spans", type=int, default=1_000_000)
    parser.add_argument("--into-docs", action="store_true")
    arguments = parser.parse_args()
    measured = table(arguments.spans)
    print(measured)
    if arguments.into_docs:
        put_into(ROOT / "docs" / "performance.md", "recipes", f"{measured}\n")


if __name__ == "__main__":
    main()
