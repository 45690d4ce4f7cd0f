"""A program of its own, so that nothing is loaded before what is measured: each step, its time and its modules.

Prints a line of JSON. The steps go on from one another; ``exporter`` in the place of ours is what is official.
"""

import sys
import time


def sdk() -> None:
    import opentelemetry.sdk.trace.export  # noqa: F401


def exporter() -> None:
    import opentelemetry.exporter.otlp.proto.http.trace_exporter  # noqa: F401


def package() -> None:
    import otel_usage  # noqa: F401


def names() -> None:
    import otel_usage

    for name in otel_usage.__all__:
        getattr(otel_usage, name)


def instrument() -> None:
    import otel_usage as usage

    usage.instrument(usage.UsageConfig(otlp_endpoint="http://127.0.0.1:9", spool="memory"))


def main(*steps: str) -> None:
    found = {}
    for step in steps:
        before, began = set(sys.modules), time.perf_counter()
        globals()[step]()
        seconds = time.perf_counter() - began
        found[step] = {"ms": seconds * 1000, "modules": sorted(set(sys.modules) - before)}
    import json

    print(json.dumps(found))


if __name__ == "__main__":
    main(*sys.argv[1:])
