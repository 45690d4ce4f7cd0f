"""Hooks wait for their library, go next to the original function, and are the only thing that is taken off again."""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from importlib.metadata import version
from itertools import product
from pathlib import Path
from types import FunctionType, ModuleType
from typing import Any
from unittest import mock

import pytest
import wrapt
from opentelemetry.instrumentation.utils import unwrap
from packaging.version import Version

from otel_usage.guard import internal_errors
from otel_usage.instrumentation.hooks import Hook, HookSet
from otel_usage.instrumentation.integrations import INTEGRATIONS, Integration, waiting
from tests.needs import needed_package

SOURCE = """
class Client:
    def send(self, what):
        return [what]

    @staticmethod
    def static(what):
        return [what]

class Child(Client):
    pass

def function(what):
    return [what]
"""

Import = Callable[[], ModuleType]


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Iterator[Import]:
    """Imports a library that no other test has imported."""
    name = f"library_{abs(hash(request.node.nodeid))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def imported() -> ModuleType:
        return __import__(name)

    imported.__name__ = name
    yield imported
    sys.modules.pop(name, None)


def says(word: str) -> Callable[..., Any]:
    """A wrapper that adds ``word`` to what the function returns."""

    def wrapper(wrapped: Any, instance: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return [word, *wrapped(*args, **kwargs)]

    return wrapper


def adds(word: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """A layer that does the same."""

    def layer(original: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: [word, *original(*args)]

    return layer


def hooks(library: Import, *paths: str) -> HookSet:
    return hook_set(*(Hook(library.__name__, path, adds("ours")) for path in paths or ("Client.send",)))


def hook_set(*hooks: Hook) -> HookSet:
    return HookSet({hooks[0].module: lambda: hooks})


def test_a_hook_waits_for_its_library_and_does_not_import_it(library: Import) -> None:
    ours = hooks(library)
    ours.install()
    assert library.__name__ not in sys.modules
    assert library().Client().send("x") == ["ours", "x"]
    ours.remove()


def test_a_library_that_is_imported_after_the_removal_is_left_alone(library: Import) -> None:
    ours = hooks(library)
    ours.install()
    ours.remove()
    assert not hasattr(vars(library().Client)["send"], "__wrapped__")
    assert library().Client().send("x") == ["x"]


def test_a_set_that_is_installed_again_before_the_import_puts_its_hook_on_once(library: Import) -> None:
    ours = hooks(library)
    ours.install()
    ours.remove()
    ours.install()
    ours.install()
    assert library().Client().send("x") == ["ours", "x"]
    ours.remove()
    assert library().Client().send("x") == ["x"]


def test_a_second_install_puts_nothing_on(library: Import) -> None:
    module, ours = library(), hooks(library)
    ours.install()
    layer = vars(module.Client)["send"]
    ours.install()
    assert vars(module.Client)["send"] is layer
    ours.remove()


@pytest.mark.parametrize("path", ["Client.send", "Client.static", "function"])
def test_after_the_removal_the_very_same_object_is_back(library: Import, path: str) -> None:
    module = library()
    holder = module.Client if path.startswith("Client") else module
    name = path.rpartition(".")[2]
    original, ours = vars(holder)[name], hooks(library, path)
    for _ in range(3):
        ours.install()
        assert getattr(holder() if path == "Client.send" else holder, name)("x") == ["ours", "x"]
        ours.remove()
        assert vars(holder)[name] is original


@pytest.mark.parametrize("path", ["Client.none", "Nobody.send", "Nobody.deep.send", "none", "Child.send"])
def test_a_function_that_this_version_of_the_library_does_not_have_of_its_own_is_ignored(
    library: Import, path: str
) -> None:
    module, before = library(), internal_errors()
    ours = hooks(library, path, "Client.send")
    ours.install()
    assert module.Child().send("x") == ["ours", "x"], "the other hook of the set is on, and the missing one nowhere"
    ours.remove()
    assert module.Child().send("x") == ["x"]
    assert internal_errors() == before, "which is nobody's error"


ELSEWHERE = {"niquests", "urllib3_future", "urllib3._async", "urllib3.backend"}
"""Not installed here: niquests changes what others are built on. The conformance suite runs with them elsewhere."""


def is_elsewhere(module: str) -> bool:
    return any(module == each or module.startswith(f"{each}.") for each in ELSEWHERE)


HERE = [each for each in INTEGRATIONS if not any(map(is_elsewhere, each.modules))]
HOMES = {each.home: import_module(f"otel_usage.instrumentation.{each.home}") for each in INTEGRATIONS}
EVERY_HOOK = [hook for home in HOMES.values() for hook in home.HOOKS]


def test_every_module_that_has_a_hook_is_waited_for() -> None:
    assert set(waiting()) == {hook.module for hook in EVERY_HOOK}


def test_no_module_is_waited_for_twice() -> None:
    modules = [module for each in INTEGRATIONS for module in each.modules]
    assert len(set(modules)) == len(modules)


@pytest.mark.parametrize("each", [each for each in HERE if each.distribution], ids=lambda each: each.library)
def test_every_integration_says_which_versions_it_is_tested_with(each: Integration) -> None:
    said = HOMES[each.home].TESTED[each.distribution]
    assert Version(version(each.distribution)) >= Version(said), "the tests have run with another"


AWAITED = frozenset({"Route.handle", "WebSocketRoute.handle", "APIRoute.handle"})
"""What a router awaits and nobody asks anything: its layer hands on the coroutine, and is none."""


@pytest.mark.filterwarnings("ignore:starlette.middleware.wsgi is deprecated")
@pytest.mark.parametrize(
    "hook",
    [hook for hook in EVERY_HOOK if not is_elsewhere(hook.module)],
    ids=lambda hook: f"{hook.module}:{hook.path}",
)
def test_what_takes_a_functions_place_looks_like_it_and_takes_what_it_takes(hook: Hook) -> None:
    if hook.module == "dramatiq.brokers.rabbitmq":
        needed_package("pika")
    holder: Any = import_module(hook.module)
    *parents, name = hook.path.split(".")
    for parent in parents:
        holder = getattr(holder, parent)
    original, ours, own = inspect.getattr_static(holder, name), hook_set(hook), name in vars(holder)
    ours.install()
    try:
        found = vars(holder)[name]
        assert found is not original
        kept = isinstance(original, staticmethod | classmethod)
        assert type(found) is (type(original) if kept else FunctionType), "also of what is compiled, or caches"
        found, function = (getattr(each, "__func__", each) for each in (found, original))
        assert found.__wrapped__ is function
        assert (found.__module__, found.__qualname__) == (function.__module__, function.__qualname__)
        asynchronous = inspect.iscoroutinefunction(found) or hook.path in AWAITED
        assert asynchronous == inspect.iscoroutinefunction(function), "servers ask"
        assert inspect.signature(found) == inspect.signature(function)
        assert not isinstance(found, wrapt.ObjectProxy), "it would take longer, and be `unwrap`'s to take"
        parameters = inspect.signature(function).parameters.values()
        by_name = inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY
        named = {each.name: None for each in parameters if each.kind in by_name}
        unnamed = [None for each in parameters if each.kind is each.POSITIONAL_ONLY]
        inspect.signature(found, follow_wrapped=False).bind(*unnamed, **named)
    finally:
        ours.remove()
    assert inspect.getattr_static(holder, name) is original
    assert (name in vars(holder)) is own


def test_what_is_inherited_from_a_compiled_class_is_its_heirs_own(library: Import) -> None:
    module, ours = library(), hooks(library, "Child.keys")
    module.Child = type("Child", (dict,), {})  # type: ignore[attr-defined]
    child = module.Child(x=1)
    for _ in range(2):
        ours.install()
        assert child.keys() == ["ours", "x"]
        assert list({"y": 1}.keys()) == ["y"]
        ours.remove()
        assert list(child.keys()) == ["x"]
        assert "keys" not in vars(module.Child)


def test_a_wrapper_above_such_a_one_stays(library: Import) -> None:
    module, ours = library(), hooks(library, "Child.keys")
    module.Child = type("Child", (dict,), {})  # type: ignore[attr-defined]
    ours.install()
    wrapt.wrap_function_wrapper(module, "Child.keys", says("theirs"))
    assert module.Child(x=1).keys() == ["theirs", "ours", "x"]
    ours.remove()
    assert module.Child(x=1).keys() == ["theirs", "x"]


@pytest.mark.parametrize("kind", ["mock", "bound method", "partial method", "class method"])
def test_a_method_that_is_no_function_is_called_as_it_would_be_without_us(library: Import, kind: str) -> None:
    module, ours = library(), hooks(library)
    original = module.Client.send = {
        "mock": mock.MagicMock(side_effect=lambda what: [what]),
        "bound method": module.Child().send,
        "partial method": functools.partialmethod(lambda self, word, what: [word, what], "partial"),
        "class method": classmethod(lambda cls, what: [cls.__name__, what]),
    }[kind]
    without = module.Client().send("x")
    ours.install()
    assert module.Client().send("x") == ["ours", *without]
    ours.remove()
    assert vars(module.Client)["send"] is original


class TestForeignWrappers:
    """Ours beside those of others, put on and taken off in any order."""

    def test_ours_goes_beneath_one_that_was_there_before(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        original = vars(module.Client)["send"]
        wrapt.wrap_function_wrapper(module, "Client.send", says("theirs"))
        theirs = vars(module.Client)["send"]
        ours.install()
        assert vars(module.Client)["send"] is theirs
        assert module.Client().send("x") == ["theirs", "ours", "x"]
        ours.remove()
        assert module.Client().send("x") == ["theirs", "x"]
        assert theirs.__wrapped__ is original

    def test_theirs_may_be_stripped_and_ours_stays(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        original = vars(module.Client)["send"]
        ours.install()
        wrapt.wrap_function_wrapper(module, "Client.send", says("theirs"))
        unwrap(module.Client, "send")
        assert module.Client().send("x") == ["ours", "x"]
        ours.remove()
        assert vars(module.Client)["send"] is original

    def test_ours_is_taken_from_between_two_of_theirs(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        wrapt.wrap_function_wrapper(module, "Client.send", says("first"))
        ours.install()
        wrapt.wrap_function_wrapper(module, "Client.send", says("second"))
        assert module.Client().send("x") == ["second", "first", "ours", "x"]
        ours.remove()
        assert module.Client().send("x") == ["second", "first", "x"]

    def test_theirs_that_came_after_one_was_stripped_is_not_taken_with_ours(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        ours.install()
        wrapt.wrap_function_wrapper(module, "Client.send", says("theirs"))
        unwrap(module.Client, "send")  # which leaves ours in its bound form
        module.Client.send = proxy = wrapt.CallableObjectProxy(vars(module.Client)["send"])
        ours.remove()
        assert vars(module.Client)["send"] is proxy
        assert proxy(module.Client(), "x") == ["x"]

    def test_a_closure_above_ours_is_not_taken_off(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        ours.install()
        beneath = module.Client.send
        module.Client.send = closure = lambda self, what: ["closure", *beneath(self, what)]
        ours.remove()
        assert vars(module.Client)["send"] is closure

    def test_a_closure_beneath_ours_is_what_comes_back(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        beneath = module.Client.send
        module.Client.send = closure = lambda self, what: ["closure", *beneath(self, what)]
        ours.install()
        assert module.Client().send("x") == ["ours", "closure", "x"]
        ours.remove()
        assert vars(module.Client)["send"] is closure

    def test_ours_that_was_out_of_reach_when_it_should_have_gone_is_used_again(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        original = vars(module.Client)["send"]
        ours.install()
        layer = vars(module.Client)["send"]
        module.Client.send = lambda self, what: ["stub"]  # as a mocking library does for the length of a test
        ours.remove()
        module.Client.send = layer  # and it puts back what it found
        ours.install()
        assert module.Client().send("x") == ["ours", "x"], "once, and not twice"
        ours.remove()
        assert vars(module.Client)["send"] is original

    @pytest.mark.parametrize("path", ["Client.static", "function"])
    def test_a_function_that_is_no_method_keeps_ours_where_theirs_is_stripped(self, library: Import, path: str) -> None:
        module, ours = library(), hooks(library, path)
        holder, name = (module.Client, "static") if path == "Client.static" else (module, "function")
        original = vars(holder)[name]
        ours.install()
        wrapt.wrap_function_wrapper(module, path, says("theirs"))
        assert getattr(holder, name)("x") == ["theirs", "ours", "x"]
        unwrap(holder, name)
        assert getattr(holder, name)("x") == ["ours", "x"]
        ours.remove()
        assert vars(holder)[name] is original

    def test_in_every_order_of_what_happens_each_takes_off_its_own(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        original = vars(module.Client)["send"]

        def wrap() -> None:
            wrapt.wrap_function_wrapper(module, "Client.send", says("theirs"))

        def strip() -> None:
            unwrap(module.Client, "send")

        for order in product((ours.install, ours.remove, wrap, strip), repeat=5):
            on, theirs = False, 0
            for step in order:
                step()
                on = step == ours.install or (on and step != ours.remove)
                theirs = theirs + 1 if step is wrap else max(theirs - 1, 0) if step is strip else theirs
                assert module.Client().send("x") == ["theirs"] * theirs + ["ours"] * on + ["x"], order
            ours.remove()
            for _ in range(theirs):
                strip()
            assert vars(module.Client)["send"] is original

    def test_ours_is_not_taken_for_theirs_by_way_of_an_instance(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        ours.install()
        client = module.Client()
        unwrap(client, "send")  # as the official instrumentation does for a client that it has not instrumented
        assert client.send("x") == ["ours", "x"]
        wrapt.wrap_function_wrapper(client, "send", says("theirs"))
        assert client.send("x") == ["theirs", "ours", "x"]
        for _ in range(2):
            unwrap(client, "send")
            assert client.send("x") == ["ours", "x"]
        ours.remove()
        assert module.Client().send("x") == ["x"]

    def test_a_closure_that_has_copied_the_attributes_of_ours_is_somebody_elses(self, library: Import) -> None:
        module, ours = library(), hooks(library)
        ours.install()
        beneath = module.Client.send
        module.Client.send = closure = functools.wraps(beneath)(lambda self, what: ["closure", *beneath(self, what)])
        ours.remove()
        assert vars(module.Client)["send"] is closure
        ours.install()
        assert module.Client().send("x") == ["ours", "closure", "ours", "x"], "what is hidden does nothing while off"
        ours.remove()
        assert vars(module.Client)["send"] is closure


def test_a_function_that_takes_others_in_their_places_is_left_alone(library: Import) -> None:
    def layer(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Any, body: Any = None, *args: Any, **kwargs: Any) -> Any:  # as if `what` had taken its place
            return ["ours", *original(self, body, *args, **kwargs)]

        return send

    hooks = hook_set(Hook(library.__name__, "Client.send", layer))
    hooks.install()
    assert library().Client().send(what="x") == ["x"]
    assert list(hooks.obstacles.values()) == ["takes other arguments than are known here"]
    hooks.remove()


def test_a_function_that_takes_more_than_is_known_here_is_left_alone_and_that_is_said(
    library: Import, caplog: pytest.LogCaptureFixture
) -> None:
    def layer(original: Callable[..., Any]) -> Callable[..., Any]:
        def send(self: Any) -> Any:  # as if `what` had come with a later version
            return ["ours", *original(self)]

        return send

    hooks = hook_set(Hook(library.__name__, "Client.send", layer))
    hooks.install()
    client = library().Client()
    assert client.send("x") == ["x"]
    assert [record.getMessage() for record in caplog.records] == [
        f"usage: {library.__name__}.Client.send takes other arguments than are known here: it is not observed"
    ]
    hooks.remove()
    assert client.send("x") == ["x"]
