"""Layers that are put on a library's functions, lazily, and taken off again exactly.

A layer is put *next to the original function*, beneath whatever else wraps it. The official instrumentations remove the
outermost wrapper of a function, whoever put it there; next to the original, ours is never the one they take.

It is a plain function and no wrapper of wrapt's, such as those that others put above it: the four layers of a FastAPI
request take 0.6 µs, and took 4.3 as wrapt's; the one of a call with httpx 0.06, and took 0.85. And `unwrap`, with which
the official instrumentations remove what they have put on, takes wrapt's wrappers only: not ours, even where it is the
outermost, or is found by way of an instance.
"""

from __future__ import annotations

import functools
import inspect
import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import FunctionType
from typing import Any, Final, NamedTuple

import wrapt

from ..guard import guarded, say

_PROXY: Final = getattr(wrapt, "BaseObjectProxy", wrapt.ObjectProxy)  # wrapt 2 split the base from ObjectProxy

Function = Callable[..., Any]

Layer = Callable[[Function], Function]
"""Makes of a function the one that takes its place and calls it: of the same parameters, the instance among them, and
``async`` where it is, which servers ask of an application's entry.
"""


@dataclass(frozen=True, slots=True)
class Hook:
    """A layer and the function it belongs on. No other hook is for the same function."""

    module: str
    """The module that is waited for. It is never imported for the hook's sake."""
    path: str
    """The function in the module, such as ``HTTPTransport.handle_request``."""
    layer: Layer


HooksOf = Callable[[], Iterable[Hook]]
"""Makes the hooks of one module, when that is imported. It may import what knows how."""


class HookSet:
    """Hooks that are put on and taken off together."""

    def __init__(self, waiting: Mapping[str, HooksOf]) -> None:
        """``waiting``: every module that is waited for."""
        self._waiting: Final = waiting
        self._installed: dict[Hook, tuple[_Place, Function]] = {}
        self._obstacles: dict[Hook, str] = {}
        self._wanted = False

    @property
    def obstacles(self) -> Mapping[Hook, str]:
        """What has kept hooks from being put on, of modules that are imported. None of these is on, all others are."""
        return self._obstacles

    def install(self) -> None:
        """Put every hook on: now where its module is imported, else when it is."""
        self._wanted = True
        for module, hooks_of in self._waiting.items():
            wrapt.register_post_import_hook(self._arrival(hooks_of), module)

    def remove(self) -> None:
        """Take every hook off, and nothing else. A module imported later is left alone.

        A layer that somebody has hidden in a closure is out of reach. It stays, and does nothing while usage is off.
        """
        self._wanted = False
        while self._installed:
            _, (place, ours) = self._installed.popitem()
            _take_off(place, ours)

    def _arrival(self, hooks_of: HooksOf) -> Callable[[Any], None]:
        @guarded(None)
        def arrived(module: Any) -> None:
            if self._wanted:
                for hook in hooks_of():
                    self._put_on(hook, module)

        return arrived

    @guarded(None)
    def _put_on(self, hook: Hook, module: Any) -> None:
        if hook in self._installed:
            return
        place = _place(module, hook.path)
        if place is None:
            self._obstacles[hook] = "is not there"
            return
        ours = _put_on(place, hook.layer)
        if ours is not None:
            self._installed[hook] = place, ours
            return
        self._obstacles[hook] = "takes other arguments than are known here"
        say(logging.WARNING, "usage: %s.%s %s: it is not observed", hook.module, hook.path, self._obstacles[hook])


class _Place(NamedTuple):
    """Where a function is kept."""

    holder: Any
    """The class or module."""
    name: str

    def outermost(self) -> Any:
        """The function, or the outermost wrapper around it. None: the holder has no such function of its own."""
        return vars(self.holder).get(self.name, self.inherited())

    def inherited(self) -> Any:
        """The function that a class has from a compiled one, which cannot be changed: it counts as its own. None: it
        has none from such a class.
        """
        for base in getattr(self.holder, "__mro__", ())[1:-1]:  # without itself, and without `object`
            if self.name in vars(base):
                return vars(base)[self.name] if base.__flags__ & _IMMUTABLE else None
        return None

    def put(self, function: Any, *, beneath: Any) -> None:
        """Keep ``function`` there, beneath this wrapper. None: beneath nothing."""
        if beneath is None:
            setattr(self.holder, self.name, function)
        else:
            _owner(beneath).__wrapped__ = function

    def put_back(self, original: Any, *, beneath: Any) -> None:
        """The same with what was there."""
        if beneath is None and original is self.inherited():
            delattr(self.holder, self.name)
        else:
            self.put(original, beneath=beneath)


_IMMUTABLE: Final = 1 << 8
"""``Py_TPFLAGS_IMMUTABLETYPE`` of CPython."""


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


def _put_on(place: _Place, layer: Layer) -> Function | None:
    """Put a layer on. None: the function takes calls that the layer would not."""
    above, original = None, place.outermost()
    while isinstance(original, _PROXY):
        above, original = original, _beneath(original)
    earlier = _mark(original)
    if earlier is not None and earlier.layer == layer:
        return earlier.ours  # it was out of reach when it should have been taken off
    function = _function(original)
    beneath = _unbound(original, place.holder) if function is original else function
    ours = layer(beneath)
    if not _takes_what(function, ours):
        return None
    functools.update_wrapper(ours, function)
    setattr(ours, _MARK, _Mark(ours, layer, original))
    place.put(ours if function is original else type(original)(ours), beneath=above)
    return ours


def _take_off(place: _Place, ours: Function) -> None:
    above, found = None, place.outermost()
    while isinstance(found, _PROXY):
        above, found = found, _beneath(found)
    mark = _mark(found)
    if mark is not None and mark.ours is ours:
        place.put_back(mark.original, beneath=above)


def _function(found: Any) -> Any:
    """The function within a static method or a class method; what is neither, itself."""
    return found.__func__ if isinstance(found, (staticmethod, classmethod)) else found


def _unbound(original: Any, holder: Any) -> Function:
    """``original`` as a function that takes the instance: a mock or a bound method on a class does not."""
    if isinstance(original, FunctionType) or not isinstance(holder, type):
        return original  # type: ignore[no-any-return]  # a function of any kind
    bind = getattr(type(original), "__get__", None)

    def call(self: Any, *args: Any, **kwargs: Any) -> Any:
        bound = original if bind is None else bind(original, self, type(self))
        return bound(*args, **kwargs)

    return call


def _takes_what(function: Function, ours: Function) -> bool:
    """Whether ``ours`` takes every argument that ``function`` has a name for, and each in its place: another version
    may have more, or others before them.
    """
    try:
        known, offered = inspect.signature(function).parameters.values(), inspect.signature(ours)
    except (TypeError, ValueError):  # one of C's that does not say, or no function at all
        return True
    in_order = [each for each in known if each.kind in (each.POSITIONAL_ONLY, each.POSITIONAL_OR_KEYWORD)]
    by_name = {each.name: None for each in known if each.kind is each.KEYWORD_ONLY}
    try:
        offered.bind(*in_order, **by_name)
    except TypeError:
        return False
    own = [each for each in offered.parameters.values() if each.kind is each.POSITIONAL_OR_KEYWORD]
    return all(
        theirs.name == each.name
        for theirs, each in zip(in_order[1:], own[1:], strict=False)  # the first may be any name for the instance
        if theirs.kind is theirs.POSITIONAL_OR_KEYWORD
    )


class _Mark(NamedTuple):
    """How a function of ours is told from everybody else's."""

    ours: Function
    """The function that is marked: `functools.wraps` copies a mark to other functions, and a proxy shows it, too."""
    layer: Layer
    original: Any
    """What was in its place."""


_MARK: Final = "_otel_usage_mark"


def _mark(found: Any) -> _Mark | None:
    """The mark of a function of ours. None: it is somebody else's."""
    function = _function(found)
    mark = getattr(function, _MARK, None)
    return mark if isinstance(mark, _Mark) and mark.ours is function else None


def _owner(wrapper: Any) -> Any:
    """The wrapper itself, also where taking off another one has left its bound form in its place."""
    return wrapper._self_parent if isinstance(wrapper, wrapt.BoundFunctionWrapper) else wrapper


def _beneath(wrapper: Any) -> Any:
    return _owner(wrapper).__wrapped__
