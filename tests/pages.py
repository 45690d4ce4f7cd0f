"""Sections of pages in docs/ that programs write."""

from __future__ import annotations

from pathlib import Path


def put_into(page: Path, section: str, text: str) -> None:
    """Put ``text`` in the place of what is between ``<!-- section -->`` and ``<!-- /section -->`` on a page.

    Raises:
        ValueError: there is no such section.
    """
    before, start, rest = page.read_text().partition(f"<!-- {section} -->\n")
    _, end, after = rest.partition(f"<!-- /{section} -->")
    if not start or not end:
        raise ValueError(f"{page} has no section {section}")
    page.write_text(f"{before}{start}\n{text}\n{end}{after}")
