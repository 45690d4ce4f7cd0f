"""A callable of the application's that a setting names."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any, Final

from .errors import ConfigError

_FORM: Final = "module:callable, such as shop.auth:usage_identity"


class NamedCallable:
    """A callable by its name, loaded when it is first needed and not before.

    Settings are read before the application is: importing its module then would import its frameworks too, ahead of
    the instrumentations that have to come first, and from a search path that its server has not completed yet.
    """

    def __init__(self, setting: str, name: str) -> None:
        self._setting = setting
        self._name = name
        self._module, _, self._attribute = name.partition(":")
        whole = self._module and self._attribute and not self._module.startswith(".")
        if not whole:
            raise ConfigError(setting, name, _FORM)
        self._loaded: Callable[..., Any] | ConfigError | None = None

    def load(self) -> Callable[..., Any]:
        """The callable itself.

        Raises:
            ConfigError: there is no such module or attribute, or it cannot be called.
        """
        if self._loaded is None:
            self._loaded = self._import()
        if isinstance(self._loaded, ConfigError):
            raise self._loaded
        return self._loaded

    def __call__(self, *args: Any) -> Any:
        return self.load()(*args)

    def _import(self) -> Callable[..., Any] | ConfigError:
        try:
            module = import_module(self._module)
        except Exception as error:  # the application's, and its words, which may hold anything
            return self._error(_failure(error))
        try:
            found = getattr(module, self._attribute)
        except AttributeError:  # of the interpreter, or of a `__getattr__` of the module's
            return self._error(f"the module has no attribute '{_plain(self._attribute)}'")
        except Exception as error:
            return self._error(_failure(error))
        return found if callable(found) else self._error("it cannot be called")

    def _error(self, why: str) -> ConfigError:
        return ConfigError(self._setting, self._name, f"{_FORM} ({why})")


def _failure(error: Exception) -> str:
    """Why a module could not be imported, in no words of the application's but the names of modules and classes."""
    module = f"'{_plain(error.name)}'" if isinstance(error, ImportError) and error.name else "it"
    if type(error) is ModuleNotFoundError and error.name:
        return f"No module named {module}"
    return f"{_plain(type(error).__name__)} while importing {module}"


def _plain(name: str) -> str:
    """``name`` if it can be one in somebody's code: an application may pass anything where a name belongs."""
    from .shown import shown  # where it is needed: this module is loaded where usage is off, too

    dotted = all(part.isidentifier() for part in str(name).split("."))
    return (shown(name) if dotted else None) or "…"
