"""The map of enterprise customers, read from a file."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import otel_usage as usage
from otel_usage.customer_map import customer_line
from otel_usage.schema import BY_KEY

HASH = usage.KeyedHash("k1:0123456789abcdef")
ONE, OTHER = HASH("sk_one"), HASH("sk_other")
RAW = "sk_live_0123456789abcdef0123456789abcdef"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "customers.txt"


def test_a_file_has_a_digest_and_a_customer_a_line_with_comments(file: Path) -> None:
    file.write_text(f"# enterprise customers\n\n{ONE} acme\n  {OTHER}\tglobex#2  # since May\r\n \t \n#end")
    assert usage.read_customer_map(file) == {ONE: "acme", OTHER: "globex#2"}
    assert usage.read_customer_map(str(file)) == usage.read_customer_map(file)


def test_an_empty_file_is_an_empty_map_and_a_mark_before_the_text_is_none_of_it(file: Path) -> None:
    file.write_bytes(b"")
    assert usage.read_customer_map(file) == {}
    file.write_bytes(f"\ufeff{ONE} acme".encode())
    assert usage.read_customer_map(file) == {ONE: "acme"}


def test_what_is_read_finds_the_customer_of_a_key(file: Path) -> None:
    file.write_text(f"{ONE} acme\n")
    resolver = usage.IdentityResolver(HASH, usage.read_customer_map(file))
    assert resolver.resolve(usage.Credentials(enterprise_api_key="sk_one")).customer_id == "acme"


@pytest.mark.parametrize(
    "line",
    [
        RAW, f"{RAW} acme", f"acme {ONE}", f"{ONE[:-1]} acme", f"{ONE}0 acme", f"{ONE.upper()} acme",
        f"too-long-a-name{ONE} acme",
        ONE.partition(":")[2] + " acme", f"{ONE},acme", f"{ONE}= acme", f"{ONE}:{RAW} acme",
    ],
)  # fmt: skip
def test_a_line_that_may_be_a_key_is_refused_and_not_shown(file: Path, line: str) -> None:
    file.write_text(f"# customers\n{OTHER} globex\n{line}\n")
    with pytest.raises(usage.CustomerMapError) as refused:
        usage.read_customer_map(file)
    told = str(refused.value)
    assert told.startswith(f"{file}, line 3: ")
    assert "key-id:32 hex digits" in told
    assert not [word for word in (*line.split(), RAW) if word != "acme" and word in told]
    assert refused.value.line == 3
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)
    assert isinstance(refused.value, ValueError)
    assert isinstance(refused.value, usage.UsageError)


@pytest.mark.parametrize(
    "rest", ["", "  # whose?", RAW + " acme", "acme corp", "ac\0me", "x" * (BY_KEY["usage.customer.id"].cap + 1)]
)
def test_a_digest_without_one_customer_whom_the_schema_can_hold_is_refused(file: Path, rest: str) -> None:
    file.write_text(f"{ONE} {rest}")
    with pytest.raises(usage.CustomerMapError, match=r"line 1: .*the customer is one printable word") as refused:
        usage.read_customer_map(file)
    assert RAW not in str(refused.value)


def test_one_digest_has_one_customer(file: Path) -> None:
    file.write_text(f"{ONE} acme\n{OTHER} acme\n{ONE} acme\n")
    assert usage.read_customer_map(file) == {ONE: "acme", OTHER: "acme"}
    file.write_text(f"{ONE} acme\n\n{ONE} globex\n")
    with pytest.raises(usage.CustomerMapError, match=r"line 3: .*the digest of line 1 with the same customer"):
        usage.read_customer_map(file)


def test_a_file_that_is_no_text_or_is_not_there_is_one_clear_error(file: Path) -> None:
    with pytest.raises(usage.CustomerMapError, match=r"customers\.txt: .*a text file.*\(No such file or directory\)"):
        usage.read_customer_map(file)
    file.write_bytes(RAW.encode("utf-16"))
    with pytest.raises(usage.CustomerMapError, match="a text file in UTF-8") as refused:
        usage.read_customer_map(file)
    assert (refused.value.__cause__, refused.value.__context__) == (None, None)


@given(st.text(max_size=300))
def test_every_line_that_can_be_written_is_read_again(tmp_path_factory: pytest.TempPathFactory, customer: str) -> None:
    line = customer_line(ONE, customer)
    if line is not None:
        file = tmp_path_factory.getbasetemp() / "written.txt"
        file.write_text(f"{line}\n", "utf-8")
        assert usage.read_customer_map(file) == {ONE: customer}
    else:
        assert not customer.isalnum() or len(customer) > BY_KEY["usage.customer.id"].cap
