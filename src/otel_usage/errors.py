"""The errors that reach a caller, all of them before the first request: nothing in a request path raises.

UsageError
 └─ ConfigError      a setting has a value that it does not take (also a ValueError)
"""


class UsageError(Exception):
    """Base of every error of this package."""


class ConfigError(UsageError, ValueError):
    """A setting has a value that it does not take. The message names the setting, the value (unless it is secret) and
    what is accepted.
    """

    def __init__(self, setting: str, got: str | None, accepts: str) -> None:
        """``got`` is None where the value is a secret: then it is not shown."""
        shown = "a value that is not shown, because it is a secret" if got is None else repr(got)
        super().__init__(f"{setting} is {shown}; it takes {accepts}")
        self.setting = setting
