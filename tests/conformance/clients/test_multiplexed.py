"""Where one connection serves several calls at once, each is one attempt with its own bytes."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
import trustme

from otel_usage.testing import AxiomStub
from tests.needs import needed_environment
from tests.servers import free_port, server_process

from .declared import BESIDE, HERE, IN_ITS_PLACE
from .runs import LONGEST, environment_of

CALLS = 4
"""Of each kind, which the program makes."""


@pytest.mark.parametrize("python", [IN_ITS_PLACE, BESIDE], ids=["in urllib3's place", "beside urllib3"])
def test_each_call_of_a_connection_is_counted_by_itself(stub: AxiomStub, tmp_path: Path, python: Path) -> None:
    needed_environment(python)
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "trusted.pem")
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    port = free_port()
    served = [
        "--bind",
        f"localhost:{port}",
        *(f"--{each}={tmp_path / 'server.pem'}" for each in ("certfile", "keyfile")),
    ]
    with server_process(["hypercorn", *served, "sized:app"], port, tmp_path):
        done = subprocess.run(
            [python, HERE / "multiplexed_program.py", f"https://localhost:{port}", tmp_path / "trusted.pem"],
            env=environment_of(str(python), stub, tmp_path),
            capture_output=True,
            text=True,
            timeout=LONGEST,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    counted = {
        (
            span.attributes["usage.provider"],
            span.attributes["usage.operation"],
            span.attributes["http.response.body.size"],
        )
        for span in stub.unique_spans
    }
    assert counted == {(kind, f"call-{n}", 1000 + n) for kind in ("sync", "async") for n in range(CALLS)}
    assert len(stub.unique_spans) == 2 * CALLS
    assert not [span for span in stub.unique_spans if "usage.aborted" in span.attributes]
