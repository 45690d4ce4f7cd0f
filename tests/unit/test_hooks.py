"""Hooks wait for their library, go next to the original function, and are the only thing that is taken off again."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import wrapt
from opentelemetry.instrumentation.utils import unwrap

from otel_usage.guard import internal_errors
from otel_usage.instrumentation.hooks import Hook, HookSet

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


def hooks(library: Import, *paths: str) -> HookSet:
    return HookSet(tuple(Hook(library.__name__, path, says("ours")) for path in paths or ("Client.send",)))


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
    assert not isinstance(vars(library().Client)["send"], wrapt.ObjectProxy)
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
