"""Wrappers that are put on a library's functions, lazily, and taken off again exactly.

A hook is put *next to the original function*, beneath whatever else wraps it. The official instrumentations remove the
outermost wrapper of a function, whoever put it there; next to the original, ours is never the one they take.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

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
        self._installed: dict[Hook, tuple[_Place, _Layer]] = {}
        self._wanted = False

    def install(self) -> None:
        """Put every hook on: now where its module is imported, else when it is."""
        self._wanted = True
        for hook in self._hooks:
            wrapt.register_post_import_hook(self._arrival(hook), hook.module)

    def remove(self) -> None:
        """Take every hook off, and nothing else. A module imported later is left alone.

        A wrapper that somebody has hidden in a closure is out of reach. It stays, and does nothing while usage is off.
        """
        self._wanted = False
        while self._installed:
            _, (place, layer) = self._installed.popitem()
            _take_off(place, layer)

    def _arrival(self, hook: Hook) -> Callable[[Any], None]:
        @guarded(None)
        def arrived(module: Any) -> None:
            if not self._wanted or hook in self._installed:
                return
            place = _place(module, hook.path)
            if place is not None:
                self._installed[hook] = place, _put_on(place, hook.wrapper)

        return arrived


class _Place(NamedTuple):
    """Where a function is kept."""

    holder: Any
    """The class or module."""
    name: str

    def outermost(self) -> Any:
        """The function, or the outermost wrapper around it. None: the holder has no such function of its own."""
        return vars(self.holder).get(self.name)


def _place(module: Any, path: str) -> _Place | None:
    """The place that ``path`` names. None where this version of the library has no such function."""
    *parents, name = path.split(".")
    holder = module
    for parent in parents:
        holder = getattr(holder, parent, None)
        if holder is None:
            return None
    place = _Place(holder, name)
    return place if place.outermost() is not None else None


def _put_on(place: _Place, wrapper: Wrapper) -> _Layer:
    above, original = None, place.outermost()
    while isinstance(original, _PROXY):
        layer = _owner(original)
        if isinstance(layer, _Layer) and layer._self_wrapper == wrapper:
            return layer  # an earlier one that was out of reach when it should have been taken off
        above, original = original, _beneath(original)
    layer = _Layer(original, wrapper)
    if above is None:
        setattr(place.holder, place.name, layer)
    else:
        _owner(above).__wrapped__ = layer
    return layer


def _take_off(place: _Place, layer: _Layer) -> None:
    above = place.outermost()
    if _owner(above) is layer:
        setattr(place.holder, place.name, layer.__wrapped__)
        return
    while isinstance(above, _PROXY):
        beneath = _beneath(above)
        if _owner(beneath) is layer:
            _owner(above).__wrapped__ = layer.__wrapped__
            return
        above = beneath


def _owner(wrapper: Any) -> Any:
    """The wrapper itself, also where taking off another one has left its bound form in its place."""
    return wrapper._self_parent if isinstance(wrapper, wrapt.BoundFunctionWrapper) else wrapper


def _beneath(wrapper: Any) -> Any:
    return _owner(wrapper).__wrapped__
