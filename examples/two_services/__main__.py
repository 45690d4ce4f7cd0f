"""Run both services, call the first as two customers, and show the spans of both by trace."""

import os
import secrets
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from urllib.request import Request, urlopen

from otel_usage.testing import AxiomStub, ReceivedSpan

from .shop import CUSTOMERS

BIN = Path(sys.executable).parent
FOLDER = Path(__file__).parents[1]
START_SECONDS = 30.0


def free_port() -> int:
    """A port of loopback that nobody listens on now."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def service(name: str, port: int, settings: dict[str, str]) -> Iterator[str]:
    """Run one of the applications under ``opentelemetry-instrument`` until the block ends. Yields its URL."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith(("USAGE_", "AXIOM_", "OTEL_"))}
    exporters = {f"OTEL_{signal}_EXPORTER": "none" for signal in ("TRACES", "METRICS", "LOGS")}
    command = [
        str(BIN / "opentelemetry-instrument"), sys.executable, "-m", "uvicorn", f"two_services.{name}:app",
        "--port", str(port), "--log-level", "warning",
    ]  # fmt: skip
    environment = {**inherited, **exporters, **settings, "OTEL_SERVICE_NAME": name}
    with subprocess.Popen(command, cwd=FOLDER, env=environment) as process:
        try:
            wait_for(port)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()


def wait_for(port: int) -> None:
    """Return as soon as the port accepts connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        with suppress(OSError), closing(socket.create_connection(("127.0.0.1", port), 1)):
            return
        time.sleep(0.05)
    raise SystemExit(f"nothing listens on port {port} after {START_SECONDS:.0f} s")


def run(sink: AxiomStub) -> None:
    """Start the services, send two requests, stop the services."""
    ports = {name: free_port() for name in ("pricing", "courier", "shop")}
    common = {
        "USAGE_TELEMETRY": "1",
        "USAGE_SPOOL": "memory",
        "USAGE_OTLP_ENDPOINT": sink.url,
        "USAGE_BAGGAGE_KEY": f"k1:{secrets.token_hex(16)}",
    }
    pricing = {**common, "USAGE_BAGGAGE_AUDIENCE": f"127.0.0.1:{ports['pricing']}"}
    shop = {
        **common,
        "USAGE_BAGGAGE_HOSTS": f"127.0.0.1:{ports['pricing']}",
        "PRICING_URL": f"http://127.0.0.1:{ports['pricing']}",
        "COURIER_URL": f"http://127.0.0.1:{ports['courier']}",
    }
    with ExitStack() as stack:
        stack.enter_context(service("pricing", ports["pricing"], pricing))
        stack.enter_context(service("courier", ports["courier"], {}))
        url = stack.enter_context(service("shop", ports["shop"], shop))
        for key in CUSTOMERS:
            request = Request(f"{url}/offers/kettle", headers={"x-api-key": key})  # noqa: S310  # loopback, as above
            with urlopen(request, timeout=10) as answer:  # noqa: S310  # as above
                print(f"{CUSTOMERS[key][0]:8} {answer.read().decode()}")


def show(spans: list[ReceivedSpan]) -> None:
    """One block for each trace; a span below the one that it is part of."""
    for trace_id in dict.fromkeys(span.trace_id for span in sorted(spans, key=lambda span: span.start_time)):
        print(f"\ntrace {trace_id}")
        of_trace = [span for span in spans if span.trace_id == trace_id]
        branch(of_trace, None, "  ")


def branch(spans: list[ReceivedSpan], parent: str | None, indent: str) -> None:
    """The spans below one, with their customer."""
    for span in sorted((s for s in spans if s.parent_span_id == parent), key=lambda span: span.start_time):
        facts = span.attributes
        service_name = span.resource_attributes["service.name"]
        who = f"{facts.get('usage.customer.id')}, tier {facts.get('usage.tier')}"
        print(f"{indent}{service_name:8} {facts['usage.kind']:9} {span.name:24} {who}")
        branch(spans, span.span_id, indent + "  ")


if __name__ == "__main__":
    with AxiomStub(token=None) as stub:
        run(stub)
        show(stub.unique_spans)
