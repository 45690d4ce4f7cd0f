"""The setting of every app: usage is switched on by hand where nobody does so from outside, and spans do not wait a
second for company, which every test would have to wait for, too.
"""

import os
import threading
import time

import otel_usage as usage

SECRET = "what-a-customer-wrote"
CHUNK = b"x" * 1000
PAUSE = 0.02
UPSTREAM = os.environ.get("UPSTREAM", "")

if os.environ.get("MODE") == "by-hand":
    usage.instrument()

if os.environ.get("TRACING"):
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider

    trace.set_tracer_provider(TracerProvider())


def flush_at_once() -> None:
    while True:
        time.sleep(0.03)
        usage.flush()


threading.Thread(target=flush_at_once, daemon=True).start()
