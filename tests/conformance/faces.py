"""The faces of gRPC's library: one is not built on another."""

from __future__ import annotations

from typing import Final

_SAID: Final = {"migrated": "async with sync handlers"}


class Face(str):
    """A face, by its name."""

    __slots__ = ()

    @property
    def subject(self) -> tuple[str, str, str]:
        """As the table has it: its name, the distribution, and what it is tried with."""
        return f"gRPC, {_SAID.get(self, self)}", "grpcio", ""
