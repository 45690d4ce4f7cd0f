"""What of Django no server has a part in."""

from __future__ import annotations

import os
import subprocess
import sys

from otel_usage.testing import AxiomStub
from tests.conftest import TOKEN
from tests.servers import APPS


def test_its_test_clients_are_served_and_nothing_is_recorded(stub: AxiomStub) -> None:
    switched_on = {"USAGE_TELEMETRY": "1", "USAGE_OTLP_ENDPOINT": stub.url, "AXIOM_API_TOKEN": TOKEN}
    done = subprocess.run(
        [sys.executable, "django_client.py"],
        env={**os.environ, **switched_on}, cwd=APPS, timeout=60, check=True, capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout.strip() == "[200, 404, 500, 404] [200, 404, 500, 404] {}"
    assert stub.spans == [], "no server has served a request"
