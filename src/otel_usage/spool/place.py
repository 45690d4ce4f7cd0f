"""Where spool files are, whose they are, and that nobody else can read them."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .contract import SpoolError

FORMAT: Final = 1
"""The version of the file format. It is a part of the name: another version of this package has files of its own."""

SUFFIX: Final = f".v{FORMAT}.sqlite3"


@dataclass(frozen=True, slots=True)
class Origin:
    """What spans of one spool file have in common: nothing that was recorded for one sink may go to another."""

    endpoint: str
    """The URL that they are for."""
    dataset: str
    service: str
    """``service.name``: another service of the same user may have another token, of another organization."""

    def __str__(self) -> str:
        return f"{self.service} to {self.endpoint} ({self.dataset})"

    def file_in(self, directory: Path) -> Path:
        """The file of this origin in a directory."""
        name = hashlib.sha256("\0".join((self.endpoint, self.dataset, self.service)).encode()).hexdigest()[:16]
        return directory / f"{name}{SUFFIX}"


def default_directory(environ: Mapping[str, str]) -> Path:
    """The user's directory for state that outlives a process (XDG Base Directory Specification, ``XDG_STATE_HOME``).

    Raises:
        SpoolError: the user has no home.
    """
    try:
        named = Path(environ.get("XDG_STATE_HOME", ""))
        return (named if named.is_absolute() else Path.home() / ".local" / "state") / "otel_usage"
    except RuntimeError:
        raise SpoolError("the user has no home directory") from None


def make_private_file(path: Path) -> None:
    """See to it that ``path`` is a file of this user's alone (0600), and make it and its directory (0700) if need be.

    Raises:
        SpoolError: it cannot be made, or is something else, or somebody else's.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600))
        found = path.lstat()
        if os.geteuid() != found.st_uid or not stat.S_ISREG(found.st_mode):
            raise SpoolError("it belongs to another user, or is no file")
        if stat.S_IMODE(found.st_mode) & 0o077:
            path.chmod(0o600)
    except OSError as error:
        raise SpoolError(os.strerror(error.errno) if error.errno else type(error).__name__) from None


def of_other_versions(path: Path) -> list[Path]:
    """The spool files of the same origin that other versions of this package have left beside ``path``."""
    try:
        stem = path.name.removesuffix(SUFFIX)
        return sorted(other for other in path.parent.glob(f"{stem}.v*.sqlite3") if other != path)
    except OSError:
        return []
