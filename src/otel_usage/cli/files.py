"""Values on the command line that may stand in a file."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from .command import CommandError

_MAX_FILE_BYTES: Final = 1024 * 1024


def text_of(value: str) -> str:
    """The value itself, or of ``@FILE`` what is in the file.

    Raises:
        CommandError: the file cannot be read, or is no text of a megabyte at most.
    """
    if not value.startswith("@"):
        return value
    path = value[1:]
    try:
        with Path(path).open("rb") as file:
            content = file.read(_MAX_FILE_BYTES + 1)
        if len(content) <= _MAX_FILE_BYTES:
            return content.decode()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError:
        pass
    raise CommandError(f"{path} is no text of {_MAX_FILE_BYTES:,} bytes at most")
