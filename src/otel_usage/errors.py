"""The errors that reach a caller, all of them before the first request: nothing in a request path raises.

UsageError
 ├─ ConfigError        a setting has a value that it does not take (also a ValueError)
 └─ CustomerMapError   a file of enterprise customers cannot be read as one (also a ValueError)
"""

from __future__ import annotations

import os


class UsageError(Exception):
    """Base of every error of this package."""


class ConfigError(UsageError, ValueError):
    """A setting has a value that it does not take. The message names the setting, the value (unless it may be a secret)
    and what is accepted.
    """

    def __init__(self, setting: str, got: str | None, accepts: str) -> None:
        """``got`` is shown where it can be an ordinary mistake (``shown.py``). None: it is a secret in any case."""
        from .shown import shown  # where it is needed: this module is loaded where usage is off, too

        safe = None if got is None else shown(got)
        value = "a value that is not shown, because it may be a secret" if safe is None else repr(safe)
        super().__init__(f"{setting} is {value}; it takes {accepts}")
        self.setting = setting


class CustomerMapError(UsageError, ValueError):
    """A file of enterprise customers cannot be read, or has a line that is none of its kinds. The message names the
    file, the line's number and what is accepted, and never what stands there: it may be a key.
    """

    def __init__(self, path: str | os.PathLike[str], line: int | None, accepts: str) -> None:
        """``line`` counts from 1. None: it is about the whole file."""
        place = os.fspath(path) if line is None else f"{os.fspath(path)}, line {line}"
        super().__init__(f"{place}: what stands there is not shown, because it may be a key; it takes {accepts}")
        self.line = line
