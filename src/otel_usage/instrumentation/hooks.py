"""Wrappers that are put on a library's functions, lazily, and taken off again exactly.

A hook is put *next to the original function*, beneath whatever else wraps it. The official instrumentations remove the
outermost wrapper of a function, whoever put it there; next to the original, ours is never the one they take.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import wrapt

from ..guard import guarded

_PROXY: Final = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)  # wrapt 2 split the base from ObjectProxy

Wrapper = Callable[[Callable[..., Any], Any, tuple[Any, ...], dict[str, Any]], Any]
"""wrapt's signature: wrapped, instance, args, kwargs."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A wrapper and the function it belongs on."""

    module: str
    """The module that is waited for. It is never imported for the hook's sake."""
    path: str
    """The function in the module, such as ``HTTPTransport.handle_request``."""
    wrapper: Wrapper


class _Layer(wrapt.FunctionWrapper):  # type: ignore[type-arg]  # generic in its stubs, not when it runs
    """One of our wrappers: the class is how they are told from everybody else's."""


class HookSet:
    """Hooks that are put on and taken off together."""

    def __init__(self, hooks: tuple[Hook, ...]) -> None:
        self._hooks: Final = hooks
        self._installed: list[tuple[Hook, _Layer]] = []
        self._wanted = False

    def install(self) -> None:
        """Put every hook on: now where its module is imported, else when it is."""
        self._wanted = True
        for hook in self._hooks:
            wrapt.register_post_import_hook(self._arrival(hook), hook.module)

    def remove(self) -> None:
        """Take every hook off, and nothing else. A module imported later is left alone."""
        self._wanted = False
        while self._installed:
            hook, layer = self._installed.pop()
            _take_off(hook, layer)

    def _arrival(self, hook: Hook) -> Callable[[Any], None]:
        @guarded(None)
        def arrived(_module: Any) -> None:
            if not self._wanted or any(installed is hook for installed, _ in self._installed):
                return
            layer = _put_on(hook)
            if layer is not None:
                self._installed.append((hook, layer))

        return arrived


def _place(hook: Hook) -> tuple[Any, str, Any]:
    """The object that holds the function, the function's name there, and what is there now.

    None is there where this version of the library has no such function of its own.
    """
    *parents, name = hook.path.split(".")
    holder = importlib.import_module(hook.module)
    for parent in parents:
        holder = getattr(holder, parent)
    return holder, name, vars(holder).get(name)


def _put_on(hook: Hook) -> _Layer | None:
    holder, name, outermost = _place(hook)
    if outermost is None:
        return None
    above, original = None, outermost
    while isinstance(original, _PROXY):
        above, original = original, _beneath(original)
    layer = _Layer(original, hook.wrapper)
    if above is None:
        setattr(holder, name, layer)
    else:
        _owner(above).__wrapped__ = layer
    return layer


def _take_off(hook: Hook, layer: _Layer) -> None:
    holder, name, outermost = _place(hook)
    if _owner(outermost) is layer:
        setattr(holder, name, layer.__wrapped__)
        return
    above = outermost
    while isinstance(above, _PROXY):
        beneath = _beneath(above)
        if _owner(beneath) is layer:
            _owner(above).__wrapped__ = layer.__wrapped__
            return
        above = beneath


def _owner(wrapper: Any) -> Any:
    """The wrapper itself, also where taking off another one has left its bound form in its place."""
    return getattr(wrapper, "_self_parent", None) or wrapper


def _beneath(wrapper: Any) -> Any:
    return _owner(wrapper).__wrapped__
