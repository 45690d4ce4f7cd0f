"""``otel-usage hash-key``: digests are made where the key is, and nothing else of it leaves."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import otel_usage as usage
from tests.conftest import PEPPER

KEY = "sk_live_4f2c8d1e9b7a"
OTHER = "sk_live_0a1b2c3d4e5f"
PROGRAM = str(Path(sys.executable).with_name("otel-usage"))
HASH = usage.KeyedHash(PEPPER)


def hash_key(given: str | bytes, *arguments: str, pepper: str | None = PEPPER) -> tuple[int, str, str]:
    """The exit code, and what was printed and complained of."""
    environment = {name: value for name, value in os.environ.items() if name != "USAGE_KEY_PEPPER"}
    ended = subprocess.run(
        [PROGRAM, "hash-key", *arguments],
        input=given.encode() if isinstance(given, str) else given,
        env={**environment, **({} if pepper is None else {"USAGE_KEY_PEPPER": pepper})},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return ended.returncode, ended.stdout.decode(), ended.stderr.decode()


def test_the_digest_of_each_key_on_standard_input_is_printed_and_nothing_else() -> None:
    assert hash_key(f"{KEY}\n") == (0, f"{HASH(KEY)}\n", "")
    assert hash_key(f"{KEY}\r\n{OTHER}") == (0, f"{HASH(KEY)}\n{HASH(OTHER)}\n", "")


def test_the_lines_of_a_customer_are_a_file_that_finds_its_keys(tmp_path: Path) -> None:
    file = tmp_path / "customers.txt"
    file.write_text(hash_key(f"{KEY}\n{OTHER}\n", "--customer", "acme")[1])
    assert file.read_text().splitlines()[0] == f"{HASH(KEY)} acme"
    resolver = usage.IdentityResolver(HASH, usage.read_customer_map(file))
    for key in (KEY, OTHER):
        assert resolver.resolve(usage.Credentials(enterprise_api_key=key)).customer_id == "acme"


@pytest.mark.parametrize(
    "given",
    [
        "", "\n", f"{KEY}\n\n", f" {KEY}\n", f"{KEY} \n", f"{KEY} {OTHER}\n", f"{KEY}\t\n", f"{KEY}é\n",
        f"{KEY}\xff\n".encode("latin-1"), f"{KEY}\0\n",
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused_whole_and_not_shown(given: str | bytes) -> None:
    code, printed, complained = hash_key(given)
    assert (code, printed) == (2, "")
    assert complained.startswith("otel-usage hash-key: ")
    assert "it takes one key a line: printable ASCII, not empty, without spaces" in complained
    assert len(complained.splitlines()) == 1
    assert KEY not in complained


@pytest.mark.parametrize("pepper", [None, "", "weak-pepper", "k1:weak-pepper"])
def test_a_pepper_that_is_missing_or_weak_is_named_and_not_shown(pepper: str | None) -> None:
    code, printed, complained = hash_key(KEY, pepper=pepper)
    assert (code, printed) == (2, "")
    assert complained.startswith("otel-usage hash-key: USAGE_KEY_PEPPER is ")
    assert len(complained.splitlines()) == 1
    assert "weak-pepper" not in complained
    assert KEY not in complained


@pytest.mark.parametrize("arguments", [(KEY,), (f"--key={KEY}",), ("--key", KEY), ("--customer", "acme", KEY)])
def test_a_key_is_never_taken_from_the_command_line_and_not_repeated_from_there(arguments: tuple[str, ...]) -> None:
    code, printed, complained = hash_key(OTHER, *arguments)
    assert (code, printed) == (2, "")
    assert "unrecognized arguments" in complained
    assert KEY not in complained


def test_the_help_says_why_a_key_is_no_argument() -> None:
    told = " ".join(hash_key("", "--help")[1].split())
    assert "never an argument: other users of the machine see those in the list of processes" in told


@pytest.mark.parametrize("customer", ["", "acme corp", "# acme", "x" * 257, "ac\nme"])
def test_a_customer_that_no_line_can_hold_is_refused(customer: str) -> None:
    code, printed, complained = hash_key(KEY, "--customer", customer)
    assert (code, printed) == (2, "")
    assert complained.startswith("otel-usage hash-key: --customer takes one printable word")


@pytest.mark.skipif(sys.platform == "win32", reason="there are no pseudo-terminals")
def test_on_a_terminal_the_key_is_asked_for_and_not_shown() -> None:
    terminal = "import pty, sys; sys.exit(pty.spawn(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", terminal, PROGRAM, "hash-key"],
        env={**os.environ, "USAGE_KEY_PEPPER": PEPPER},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        shown = b""
        while not shown.endswith(b"API key: "):  # what is typed before is thrown away
            byte = process.stdout.read(1)
            assert byte, shown
            shown += byte
        process.stdin.write(f"{KEY}\n".encode())
        process.stdin.flush()
        shown += process.stdout.read()
        assert process.wait(30) == 0
    assert HASH(KEY).encode() in shown
    assert KEY.encode() not in shown
