"""An exception's class as ``error.type`` holds it, read without running anything of the application's. Pure."""

from __future__ import annotations

from typing import Final

from .forms import OTHER
from .schema import BY_KEY

# A metaclass may answer for an attribute with code of its own, also with code that raises; `type` alone has none.
_MODULE: Final = type.__dict__["__module__"]
_QUALNAME: Final = type.__dict__["__qualname__"]
_ERROR_TYPE: Final = BY_KEY["error.type"]


def type_name(error: BaseException) -> str:
    """The class with its module, unless it is a builtin; ``_OTHER`` where that is no name that could leave.

    (Semantic conventions, ``error.type``: ``_OTHER`` where no better value is known.)
    """
    cls = type(error)
    try:
        module, name = _MODULE.__get__(cls), _QUALNAME.__get__(cls)
    except AttributeError:  # a class may have lost its module
        return OTHER
    if type(module) is not str or type(name) is not str:
        return OTHER
    full = name if module == "builtins" else f"{module}.{name}"
    return full if _ERROR_TYPE.accept(full) is not None else OTHER
