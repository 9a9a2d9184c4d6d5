"""Which policy guards what, found from the function, from its name, and dropped."""

from __future__ import annotations

import ast
import functools
import gc
import os
import subprocess
import sys
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import resilient
from resilient import (
    BulkheadFullError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    patch,
    policy_of,
    registry,
    timeout,
)

SHOP = Policy("lookup-shop", bulkhead(5))
OTHER = Policy("lookup-other", bulkhead(5))


@SHOP
def plain() -> int:
    return 1


@SHOP
async def awaited() -> int:
    return 1


@SHOP
def stream() -> Iterator[int]:
    yield 1


@SHOP
async def astream() -> AsyncIterator[int]:
    yield 1


@OTHER
@SHOP
def twice() -> int:
    return 1


class Things:
    """Methods of every kind."""

    @SHOP
    def method(self) -> int:
        return 1

    @classmethod
    @SHOP
    def of_class(cls) -> int:
        return 1

    @SHOP
    @staticmethod
    def static() -> int:
        return 1

    @property
    @SHOP
    def attribute(self) -> int:
        return 1

    @functools.cached_property
    @SHOP
    def once(self) -> int:
        return 1

    half = functools.partialmethod(method)

    @SHOP
    def __call__(self) -> int:
        return 1

    def patched(self) -> int:
        return 1


def foreign(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Decorate as others do."""

    @functools.wraps(fn)
    def around(*args: Any) -> Any:
        return fn(*args)

    return around


@functools.singledispatch
@SHOP
def dispatched(_: object) -> int:
    return 1


GUARDED: dict[str, Any] = {
    "function": plain,
    "async function": awaited,
    "generator function": stream,
    "async generator function": astream,
    "bound method": Things().method,
    "unbound method": Things.method,
    "method of a class": Things.of_class,
    "classmethod object": vars(Things)["of_class"],
    "static method": Things.static,
    "staticmethod object": vars(Things)["static"],
    "property": Things.attribute,
    "cached property": vars(Things)["once"],
    "partialmethod": vars(Things)["half"],
    "bound partialmethod": Things().half,
    "object that can be called": Things(),
    "partial": functools.partial(functools.partial(plain), 1),
    "foreign decorator": foreign(foreign(plain)),
    "cache": functools.lru_cache(plain),
    "single dispatch": dispatched,
    "the policy": SHOP,
    "its method": SHOP.call,
}


@pytest.mark.parametrize("what", GUARDED)
def test_the_policy_of_what_is_guarded(what: str) -> None:
    """However it is held."""
    assert policy_of(GUARDED[what]) is SHOP


def test_the_outermost_of_two() -> None:
    """And of a function with stacked guards the view, which has the policy's name and state."""
    assert policy_of(twice) is OTHER
    inner: Any = twice
    assert policy_of(inner.__wrapped__) is SHOP

    @fallback(value=2)
    @SHOP
    def more() -> int:
        return 1

    found = policy_of(more)
    assert found is not None
    assert [guard.kind for guard in found.guards] == ["fallback", "bulkhead"]
    assert (found.name, found._core) == (SHOP.name, SHOP._core)


def test_the_policy_of_a_patched_method() -> None:
    """As long as the patch is there."""
    with patch(f"{__name__}:Things.patched", SHOP):
        assert policy_of(Things().patched) is policy_of(Things.patched) is SHOP
    assert policy_of(Things.patched) is None


class Client:
    """A client of somebody's, with a part, and a method of one instance alone."""

    def __init__(self) -> None:
        self.own = lambda: 7

    def find(self) -> int:
        return 7

    look = find

    async def afind(self) -> int:
        return 7

    def pages(self) -> Iterator[int]:
        yield 1

    def quick(self) -> int:
        return 7

    def version(self) -> int:
        return 7

    @staticmethod
    def static() -> int:
        return 7

    @classmethod
    def of_class(cls) -> int:
        return 7


def test_the_policy_of_a_wrapped_client_and_its_methods() -> None:
    """Each by what guards it; what was left as it is has none."""
    client = SHOP.wrap(Client(), unless=["version"], per_call={"quick": OTHER})
    names = ("find", "look", "afind", "pages", "own", "static", "of_class")
    assert {name: policy_of(getattr(client, name)) for name in names} == dict.fromkeys(names, SHOP)
    assert policy_of(client) is SHOP
    assert policy_of(client.quick) is OTHER
    assert policy_of(client.version) is None
    assert policy_of(Client().find) is None
    assert client.find() == client.own() == client.quick() == 7


class Answers:
    """What answers to everything, without an end."""

    def __getattr__(self, name: str) -> Any:
        return Answers()

    def __call__(self) -> int:
        return 1


class Raises:
    """What raises whatever it is asked."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __call__(self) -> int:
        return 1


def circle() -> None:
    pass


circle.__wrapped__ = circle  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "fn",
    [len, int, Things, lambda: 1, Client().find, functools.partial(len, "x"), mock.Mock(),
     mock.MagicMock(), mock.create_autospec(len), Answers(), mock.call, circle, property()],
)  # fmt: skip
def test_what_no_policy_guards_has_none(fn: object) -> None:
    """Whatever it is, and whatever it answers to."""
    assert policy_of(fn) is None


@pytest.mark.parametrize("fn", [None, 5, "shop", [], object(), bulkhead])
def test_what_could_not_be_guarded_is_refused(fn: object) -> None:
    """A name is for registry.get."""
    if fn is bulkhead:
        assert policy_of(fn) is None
        return
    with pytest.raises(TypeError, match="fn must be a function, method or wrapped client; got"):
        policy_of(fn)


def test_what_raises_at_every_question_has_none() -> None:
    """It can be called, and that is all."""
    with pytest.raises(RuntimeError):
        Raises().anything  # noqa: B018
    assert policy_of(Raises()) is None


# -- by name ------------------------------------------------------------------------------


def test_a_policy_is_found_by_its_name() -> None:
    """The same object, as long as there is one."""
    shop = Policy("lookup-named", bulkhead(1))
    assert registry.get("lookup-named") is shop
    assert registry.get("lookup-named").with_(bulkhead(2)) is not shop
    assert registry.get("lookup-named") is shop


def test_one_that_nobody_holds_is_found_with_its_state() -> None:
    """The registry keeps a named policy's state, not the object."""
    Policy("lookup-kept", circuit_breaker(), bulkhead(7)).force_open("INC-1")
    gc.collect()
    found = registry.get("lookup-kept")
    assert (found.state, found.guards[1].slots()) == ("forced_open", 7)
    assert registry.get("lookup-kept") is found
    Policy("lookup-bare")
    gc.collect()
    bare = registry.get("lookup-bare")
    assert registry.get("lookup-bare") is bare


def test_an_anonymous_one_is_found_as_long_as_it_lives() -> None:
    """It is the one of its function, whatever is stacked on it; and it is freed with it."""

    @fallback(value=1)
    @timeout(1, sync="cooperative")
    @bulkhead(2)
    def tickets() -> int:
        return 7

    found = policy_of(tickets)
    assert found is not None
    name = found.name
    assert registry.get(name) is found
    assert len(found.guards) == 3
    gone = weakref.ref(found)
    del found, tickets
    gc.collect()
    assert gone() is None
    with pytest.raises(LookupError, match="no policy is named"):
        registry.get(name)


def test_an_unknown_name_is_told_with_the_nearest() -> None:
    """As an operator's command does."""
    with pytest.raises(LookupError, match="'lookup-shopp'; did you mean 'lookup-shop'"):
        registry.get("lookup-shopp")


@pytest.mark.parametrize("name", [None, 5, b"lookup-shop", [], SHOP])
def test_a_name_is_a_str(name: Any) -> None:
    """Also one that can't be hashed."""
    with pytest.raises((TypeError, LookupError)):
        registry.get(name)


# -- dropped ------------------------------------------------------------------------------


def counts_of(name: str) -> bool:
    """Tell whether metrics show a policy."""
    from resilient import metrics

    return f'policy="{name}"' in metrics.exposition()[0].decode()


def test_a_dropped_policy_is_gone_and_goes_on() -> None:
    """Its name is free, its metrics end, and what calls it is protected as before."""
    shop = Policy("lookup-dropped", circuit_breaker(failure_threshold=1), bulkhead(1))
    guarded = shop(lambda: 7)
    assert guarded() == 7
    assert counts_of("lookup-dropped")
    shop.drop()
    assert "lookup-dropped" not in registry.names()
    assert "lookup-dropped" not in resilient.registry.snapshot()["policies"]
    assert not counts_of("lookup-dropped")
    with pytest.raises(LookupError):
        registry.get("lookup-dropped")
    with shop.block(), pytest.raises(BulkheadFullError):
        guarded()
    shop.force_open("INC-1")
    with pytest.raises(CircuitOpenError):
        guarded()
    assert shop.snapshot()["calls"]["success"] == 2
    again = Policy("lookup-dropped", bulkhead(3))
    assert again.state == "closed"
    assert counts_of("lookup-dropped")


SCRIPT = """
import sys, time
from resilient import Policy, bulkhead, metrics

def shown(policy):
    found = {}
    for line in metrics.exposition()[0].decode().splitlines():
        for name in ("calls_total", "in_flight", "limit"):
            if line.startswith("resilient_" + name + "{") and "shared-drop" in line:
                found[name] = found.get(name, 0.0) + float(line.rpartition(" ")[2])
    return found

first = Policy("shared-drop", bulkhead(3))
guarded = first(lambda: 7)
for _ in range(5):
    guarded()
deadline = time.monotonic() + 30
while first._core.shared_row is None and time.monotonic() < deadline:
    time.sleep(0.01)
assert first._core.shared_row is not None
print(shown(first))
first.drop()
while first._core.shared_row is not None and time.monotonic() < deadline:
    time.sleep(0.01)
assert guarded() == 7
print(shown(first))
second = Policy("shared-drop", bulkhead(9))
second.call(int)
while second._core.shared_row is None and time.monotonic() < deadline:
    time.sleep(0.01)
print(shown(second))
"""


@pytest.mark.skipif(os.name != "posix", reason="counts are not shared there")
def test_where_counts_are_shared_what_it_has_counted_stands(tmp_path: Path) -> None:
    """Or a sum would fall; what it goes on to count is nobody's, and the next one's adds up."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, timeout=120,
        env=dict(os.environ, RESILIENT_RUNTIME_DIR=str(tmp_path)),
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    before, dropped, after = (ast.literal_eval(line) for line in done.stdout.splitlines())
    assert before == {"calls_total": 5.0, "in_flight": 0.0, "limit": 3.0}
    assert dropped["calls_total"] == 5.0
    assert dropped.get("limit", 0.0) == 0.0
    assert after == {"calls_total": 6.0, "in_flight": 0.0, "limit": 9.0}


def test_dropping_twice_takes_nothing_of_another() -> None:
    """The next policy of that name stays; a view drops the policy that it is a view of."""
    first = Policy("lookup-next", bulkhead(1))
    first.with_(bulkhead(2)).drop()
    second = Policy("lookup-next", bulkhead(1))
    first.drop()
    assert registry.get("lookup-next") is second
    second.drop()
    second.drop()
    assert "lookup-next" not in registry.names()


def test_a_dropped_policy_that_nobody_holds_is_freed() -> None:
    """What made it for one tenant, say, leaves nothing behind."""
    shop = Policy("lookup-freed", circuit_breaker(), bulkhead(1))
    core = weakref.ref(shop._core)
    shop.drop()
    del shop
    gc.collect()
    assert core() is None


def test_an_anonymous_one_is_dropped_too() -> None:
    """Its function goes on, and its name is free."""

    def tickets() -> int:
        return 7

    guarded = bulkhead(1)(tickets)
    found = policy_of(guarded)
    assert found is not None
    found.drop()
    assert found.name not in registry.names()
    other = policy_of(bulkhead(1)(tickets))
    assert other is not None
    assert other.name == found.name
    assert guarded() == 7
    del found, guarded
    gc.collect()
    assert registry.get(other.name) is other


class Configured:
    """A user's own callable that knows a policy, and is not guarded by it."""

    def __init__(self, policy: Policy) -> None:
        self.policy: Policy = policy

    def __call__(self) -> str:
        return "full"


def test_what_merely_knows_a_policy_is_not_guarded_by_it() -> None:
    assert policy_of(Configured(SHOP)) is None


def test_the_keys_of_a_policy_are_guarded_by_it() -> None:
    shards = Policy("lookup-shards", bulkhead(5))
    keyed = shards.keyed(lambda host: host)
    assert policy_of(keyed) is shards
    assert policy_of(keyed(lambda host: host)) is shards
