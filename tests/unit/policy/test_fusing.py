"""Stacked decorators are one policy; views share it; names are told apart and given back."""

from __future__ import annotations

import functools
import gc
import importlib
import sys
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    registry,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.colours import Colour
from tests.kit.policies import comes_to_idle, counts, policy_of


def names_of(label: str) -> list[str]:
    """The registered names that were made from a label."""
    return [name for name in registry.names() if name.partition("#")[0] == label]


@pytest.fixture
def before() -> list[str]:
    """The names that were registered before the test."""
    gc.collect()
    return registry.names()


def label_of(fn: Callable[..., Any]) -> str:
    """The name that a policy of fn has, as the registry writes it."""
    return f"{fn.__module__}.{fn.__qualname__}"


def fetched(colour: Colour) -> Callable[..., Any]:
    async def fetch(value: object = 1) -> object:
        if isinstance(value, Exception):
            raise value
        return value

    return colour.fn(fetch)


# -- stacking -------------------------------------------------------------------------------------


def test_stacked_decorators_are_one_policy(colour: Colour, before: list[str]) -> None:
    """Four decorators make one policy, one name and one wrapper round the function itself."""
    plain = fetched(colour)
    guarded = plain
    for guard in (timeout(9.0, sync="cooperative"), bulkhead(3), circuit_breaker,
                  fallback(value=0)):  # fmt: skip
        guarded = guard(guarded)
    policy = policy_of(guarded)
    assert guarded.__wrapped__ is plain
    kinds = ["fallback", "circuit_breaker", "bulkhead", "timeout"]
    assert [guard.kind for guard in policy.guards] == kinds
    assert [guard["guard"] for guard in policy.snapshot()["guards"]] == kinds
    assert set(registry.names()) - set(before) == {policy.name}
    shown = registry.snapshot()["policies"][policy.name]
    assert [guard["guard"] for guard in shown["guards"]] == kinds

    async def body() -> None:
        assert await colour.call(guarded, 5) == 5
        assert await colour.call(guarded, ValueError()) == 0

    colour.run(body)
    assert counts(policy) == {"success": 1, "failure": 1}
    comes_to_idle(policy)


def test_a_call_through_a_stack_is_counted_once(colour: Colour) -> None:
    """Each call of a stacked function enters and leaves the policy once."""
    seen: list[int] = []
    holder: list[Policy] = []

    async def fetch() -> None:
        seen.append(holder[0].snapshot()["in_flight"])

    guarded = circuit_breaker(bulkhead(3)(colour.fn(fetch)))
    holder.append(policy_of(guarded))
    colour.run(colour.call, guarded)
    assert seen == [1]
    assert counts(policy_of(guarded)) == {"success": 1}


def test_stacking_across_classmethod_fuses(colour: Colour) -> None:
    """A decorator above and one below @classmethod or @staticmethod are one policy."""
    for kind in (classmethod, staticmethod):
        before = set(registry.names())
        guarded = circuit_breaker(kind(bulkhead(3)(fetched(colour))))
        assert isinstance(guarded, kind)
        policy = policy_of(guarded.__func__)
        assert [guard.kind for guard in policy.guards] == ["circuit_breaker", "bulkhead"]
        assert set(registry.names()) - before == {policy.name}


def test_what_lies_under_a_stack_is_a_view_of_it(colour: Colour) -> None:
    """The function below a decorator goes on working, and counts in the same policy."""
    below = circuit_breaker(failure_threshold=1)(fetched(colour))
    above = timeout(9.0, sync="cooperative")(below)

    async def body() -> None:
        assert isinstance(await colour.error_of(below, ValueError()), ValueError)
        assert isinstance(await colour.error_of(above), CircuitOpenError)

    colour.run(body)
    assert policy_of(below)._core is policy_of(above)._core
    assert counts(policy_of(above)) == {"failure": 1, "refused": 1}


def test_two_stacks_on_one_function_share_what_they_share(colour: Colour) -> None:
    """Two ways to decorate one guarded function are views: one name, one breaker."""
    below = circuit_breaker(failure_threshold=1)(fetched(colour))
    left = timeout(9.0, sync="cooperative")(below)
    right = fallback(value=0)(below)
    assert [guard.kind for guard in policy_of(left).guards] == ["timeout", "circuit_breaker"]
    assert [guard.kind for guard in policy_of(right).guards] == ["fallback", "circuit_breaker"]
    assert policy_of(left).name == policy_of(right).name

    async def body() -> None:
        assert isinstance(await colour.error_of(left, ValueError()), ValueError)
        assert await colour.call(right) == 0
        assert await colour.call(right) == 0

    colour.run(body)
    assert counts(policy_of(right)) == {"failure": 1, "refused": 2}


@pytest.mark.filterwarnings("ignore::resilient.DeclarationWarning")  # the layer is told of
def test_a_foreign_layer_does_not_vanish(colour: Colour) -> None:
    """A decorator in between that uses functools.wraps still runs, round the inner policy."""
    ran: list[str] = []
    inner = circuit_breaker(fetched(colour))

    @functools.wraps(inner)
    async def foreign(*args: Any, **kwargs: Any) -> Any:
        ran.append("foreign")
        return await colour.call(inner, *args, **kwargs)

    middle = colour.fn(foreign)
    outer = bulkhead(3)(middle)
    assert colour.run(colour.call, outer, 7) == 7
    assert ran == ["foreign"]
    assert policy_of(outer)._core is not policy_of(inner)._core
    assert [guard.kind for guard in policy_of(outer).guards] == ["bulkhead"]
    assert counts(policy_of(outer)) == counts(policy_of(inner)) == {"success": 1}


@pytest.mark.filterwarnings("ignore::resilient.DeclarationWarning")  # the layer is told of
def test_a_marker_that_was_copied_by_hand_does_not_fuse() -> None:
    """A function that carries another one's marker is not taken for it."""

    @circuit_breaker
    def first() -> str:
        return "first"

    def second() -> str:
        return "second"

    second.__dict__.update(first.__dict__)
    assert bulkhead(3)(second)() == "second"


def test_one_policy_cant_stand_twice_round_a_function(name: str) -> None:
    """Decorating with the policy that is there already is an error that says so."""
    policy = Policy(name, bulkhead(1))

    @policy
    def fetch() -> None: ...

    with pytest.raises(ValueError, match="already"):
        policy(fetch)
    with pytest.raises(ValueError, match="already"):
        policy.with_(bulkhead(2))(fetch)


# -- views ----------------------------------------------------------------------------------------


def test_views_share_state_lock_and_counts(colour: Colour, name: str, clock: ManualClock) -> None:
    """What happens in a view opens the policy's breaker, fills its slots and moves its counts."""
    policy = Policy(
        name, circuit_breaker(failure_threshold=1), bulkhead(1),
        timeout(9.0, sync="cooperative"), clock=clock,
    )  # fmt: skip
    view = policy.with_(timeout(0.5, sync="cooperative"))
    assert view is not policy
    assert view.name == policy.name
    assert view._core is policy._core
    assert view._core.lock is policy._core.lock
    assert view.guards[:2] == policy.guards[:2]
    assert [policy.guards[2].seconds, view.guards[2].seconds] == [9.0, 0.5]
    assert names_of(name) == [name]
    fetch = fetched(colour)

    async def nested() -> object:
        assert (view.snapshot()["in_flight"], policy.snapshot()["in_flight"]) == (1, 1)
        return (await colour.attempt(view, fetch)).error

    async def body() -> None:
        assert isinstance(await colour.through(policy, colour.fn(nested)), BulkheadFullError)
        failed = await colour.attempt(view, fetch, ValueError())
        assert isinstance(failed.error, ValueError)
        assert (policy.state, view.state) == ("open", "open")
        refused = await colour.attempt(policy, fetch)
        assert isinstance(refused.error, CircuitOpenError)

    colour.run(body)
    assert policy.snapshot()["calls"] == view.snapshot()["calls"]
    assert counts(policy) == {"success": 1, "failure": 1, "refused": 2}


def test_a_lever_moves_a_policy_and_its_views(name: str) -> None:
    """Forcing or resizing one is forcing or resizing all."""
    policy = Policy(name, circuit_breaker(), bulkhead(1))
    view = policy.with_(fallback(value="lesser"))
    view.force_open("maintenance")
    assert policy.try_call(int).served == "error"
    assert view.try_call(int).served == "degraded"
    policy.release()
    assert view.state == "half_open"
    view.update(bulkhead={"max_concurrent": 7})
    assert policy.snapshot()["guards"][1]["options"]["max_concurrent"] == 7


def test_with_puts_a_new_guard_at_its_recommended_place(name: str) -> None:
    """A guard of a kind that is not there yet goes where it should stand."""
    policy = Policy(name, circuit_breaker(), timeout(1.0))
    view = policy.with_(fallback(value=0), bulkhead(2))
    kinds = [guard.kind for guard in view.guards]
    assert kinds == ["fallback", "circuit_breaker", "bulkhead", "timeout"]
    assert [guard.kind for guard in policy.guards] == ["circuit_breaker", "timeout"]


def test_a_guard_belongs_to_one_policy(name: str) -> None:
    """A second use of a guard object is an error that names with_, wherever it is used."""
    guard = bulkhead(1)
    policy = Policy(name, guard)
    uses: list[Callable[[], object]] = [
        lambda: Policy(name + "-b", guard),
        lambda: guard(lambda: 1),
        lambda: policy.with_(guard),
        lambda: Policy(name + "-c").with_(guard),
    ]
    for use in uses:
        with pytest.raises(ValueError, match="with_"):
            use()
    with pytest.raises(ValueError, match="twice"):
        Policy(name + "-d", *[bulkhead(1)] * 2)
    assert names_of(name + "-b") == []


def test_one_decorator_object_for_two_functions_is_an_error() -> None:
    """A guard kept in a variable can't decorate a second function."""
    guard = circuit_breaker(failure_rate=0.1)
    first = guard(lambda: 1)
    assert first() == 1
    with pytest.raises(ValueError, match="with_"):
        guard(lambda: 2)


# -- names ----------------------------------------------------------------------------------------


def _factory() -> Any:
    def fetch() -> int:
        return 1

    return circuit_breaker(fetch)


def test_anonymous_policies_are_named_after_the_function() -> None:
    """The name is module.qualname, `#2` for the second, and the lowest free number again."""
    first, second, third = _factory(), _factory(), _factory()
    label = label_of(first)
    base = policy_of(first).name
    assert [policy_of(fn).name for fn in (first, second, third)] == [base, f"{base}#2", f"{base}#3"]
    assert base == "".join(c if c.isascii() and (c.isalnum() or c in "._-<>:") else "_"
                           for c in label)  # fmt: skip
    del second
    gc.collect()
    assert names_of(base) == [base, f"{base}#3"]
    fourth = _factory()
    assert policy_of(fourth).name == f"{base}#2"


@pytest.mark.parametrize("used", [False, True])
def test_anonymous_policies_are_freed_without_the_collector(used: bool, colour: Colour) -> None:
    """Dropping the last guarded function frees its policy at once, used, failed or not."""
    gc.collect()
    gc.disable()
    try:

        async def fetch(fail: bool) -> int:
            if fail:
                raise ValueError
            return 1

        guarded = fallback(value=0)(circuit_breaker(bulkhead(2)(colour.fn(fetch))))
        policy = policy_of(guarded)
        name, watch = policy.name, weakref.ref(policy._core)
        if used:
            assert colour.run(colour.call, guarded, False) == 1
            assert colour.run(colour.call, guarded, True) == 0
        del guarded, policy
        if used and colour.is_async:
            gc.collect()  # the loop's own cycles
        assert watch() is None
        assert name not in registry.names()
    finally:
        gc.enable()


def test_explicit_policies_are_held(name: str) -> None:
    """A policy with a name of its own stays in the registry when nobody holds it."""
    Policy(name, bulkhead(1))
    gc.collect()
    assert name in registry.names()
    assert registry.find(name).guards[0].kind == "bulkhead"


def test_explicit_names_collide_and_show_both_places(name: str) -> None:
    """The error about a name that is taken has the file and line of both makers."""
    here = sys._getframe().f_lineno
    Policy(name, bulkhead(1))
    with pytest.raises(ValueError, match="exists already") as caught:
        Policy(name, bulkhead(2))
    assert f"{__file__}:{here + 1} " in str(caught.value)
    assert f"{__file__}:{here + 3} " in str(caught.value)
    assert registry.find(name).guards[0].slots() == 1


def test_a_loop_that_makes_one_name_twice_collides(name: str) -> None:
    """The same line of a module run twice is no reload."""
    loop = f"for _ in range(2): Policy({name!r}, bulkhead(1))"
    with pytest.raises(ValueError, match="exists already"):
        exec(loop, {"Policy": Policy, "bulkhead": bulkhead})


# -- reload ---------------------------------------------------------------------------------------


@pytest.fixture
def module(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[str], ModuleType]]:
    """Writes a module and imports it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    made: list[str] = []

    def write(text: str) -> ModuleType:
        word = f"reloaded_{tmp_path.name.replace('-', '_')}"
        (tmp_path / f"{word}.py").write_text("from resilient import *\n" + text)
        importlib.invalidate_caches()
        made.append(word)
        return importlib.import_module(word)

    yield write
    for word in made:
        sys.modules.pop(word, None)
        for name in registry.names():
            if name.startswith(word):
                registry.remove(name)


def test_a_reload_replaces_an_explicit_policy(
    module: Callable[[str], ModuleType], name: str
) -> None:
    """A module that is imported anew takes its policy's name over."""
    loaded = module(f'recs = Policy("{name}", bulkhead(3))\n')
    before = loaded.recs
    importlib.reload(loaded)
    assert loaded.recs is not before
    assert registry.find(name) is loaded.recs._core
    assert names_of(name) == [name]


def test_a_reload_does_not_excuse_another_place(
    module: Callable[[str], ModuleType], name: str
) -> None:
    """A module that makes a name twice collides at its reload as it did at first."""
    Policy(name, bulkhead(1))
    with pytest.raises(ValueError, match="exists already"):
        module(f'recs = Policy("{name}", bulkhead(3))\n')


def test_a_reload_replaces_an_anonymous_policy(module: Callable[[str], ModuleType]) -> None:
    """A decorated function keeps its policy's name over a reload."""
    loaded = module("@circuit_breaker\ndef fetch(): ...\n")
    name, before = policy_of(loaded.fetch).name, loaded.fetch
    importlib.reload(loaded)
    assert policy_of(loaded.fetch).name == name == f"{loaded.__name__}.fetch"
    assert registry.find(name) is policy_of(loaded.fetch)._core
    del before
    gc.collect()
    assert registry.find(name) is policy_of(loaded.fetch)._core


def test_a_reload_replaces_numbered_policies(module: Callable[[str], ModuleType]) -> None:
    """Two functions of one name keep their two names, base and `#2`, over reloads."""
    loaded = module("first = circuit_breaker(lambda: 1)\nsecond = circuit_breaker(lambda: 2)\n")
    names = [policy_of(fn).name for fn in (loaded.first, loaded.second)]
    assert names == [f"{loaded.__name__}.<lambda>", f"{loaded.__name__}.<lambda>#2"]
    for _ in range(3):
        importlib.reload(loaded)
        assert [policy_of(fn).name for fn in (loaded.first, loaded.second)] == names
