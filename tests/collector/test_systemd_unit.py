"""The systemd unit says nothing that systemd does not know, and leaves its process little to do harm with."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.needs import needed_program

UNIT = Path(__file__).parents[2] / "collector-config" / "otelcol-usage.service"


def analyzed(*words: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [needed_program("systemd-analyze"), *words], check=False, capture_output=True, text=True, timeout=60
    )


def runnable(directory: Path, text: str) -> Path:
    """The unit with a program that exists here in the place of the Collector: systemd looks whether there is one."""
    unit = directory / UNIT.name
    unit.write_text(re.sub(r"(?m)^ExecStart=\S+", "ExecStart=/bin/true", text))
    return unit


def test_systemd_has_nothing_to_say_against_it(tmp_path: Path) -> None:
    done = analyzed("verify", "--man=no", runnable(tmp_path, UNIT.read_text()))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_systemd_would_say_what_is_wrong(tmp_path: Path) -> None:
    wrong = UNIT.read_text().replace("ProtectSystem=strict", "ProtectSystem=perhaps")
    assert "perhaps" in analyzed("verify", "--man=no", runnable(tmp_path, wrong)).stderr


def test_it_is_as_exposed_as_a_process_that_needs_the_network_and_a_directory() -> None:
    # Of 10, in tenths. What is left is the network, and that others may be reached by it.
    done = analyzed("security", "--offline=true", "--threshold=15", "--no-pager", UNIT)
    assert done.returncode == 0, done.stdout


def test_its_directory_is_where_the_collector_keeps_its_queue() -> None:
    text = UNIT.read_text()
    (state,) = re.findall(r"(?m)^StateDirectory=(\S+)$", text)
    assert f"Environment=OTELCOL_STORAGE=/var/lib/{state}\n" in text
