"""Policies, guards and guarded functions that are copied and pickled, by whatever does that."""

from __future__ import annotations

import copy
import dataclasses
import functools
import pickle
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import cloudpickle
import dill
import pytest

from resilient import Policy, bulkhead, circuit_breaker, fallback, registry, timeout

COPIES: list[Any] = [copy.copy, copy.deepcopy]
BY_VALUE: list[Any] = [cloudpickle.dumps, dill.dumps, functools.partial(dill.dumps, recurse=True)]
PICKLES: list[Any] = [pickle.dumps, *BY_VALUE]


@dataclasses.dataclass
class Config:
    """A configuration that holds policies."""

    policy: Policy
    others: dict[str, Any]


def test_a_policy_is_one_thing_in_copies_of_what_holds_it() -> None:
    """Copies of a configuration, and asdict, have the policy itself, its views and its guards."""
    policy = Policy("copied", circuit_breaker(), bulkhead(1))
    config = Config(policy, {"view": policy.with_(bulkhead(2)), "guards": policy.guards})
    again = copy.deepcopy(config)
    plain = dataclasses.asdict(config)
    assert again.policy is plain["policy"] is copy.copy(policy) is policy
    assert again.others["view"] is plain["others"]["view"] is config.others["view"]
    assert again.others["guards"][0] is plain["others"]["guards"][0] is policy.guards[0]
    assert policy.call(int, "1") == again.policy.call(int, "1") == 1
    assert policy.snapshot()["calls"]["success"] == 2


@pytest.mark.parametrize("way", COPIES)
def test_a_guard_alone_is_not_copied(way: Callable[[object], object]) -> None:
    """It will be one policy's: two would have to share it."""
    with pytest.raises(TypeError, match="a bulkhead guard can't be copied"):
        way(bulkhead(3))


def test_the_registry_is_one_thing_too() -> None:
    """In copies of what holds it, and where it is unpickled."""
    for again in (copy.copy(registry), copy.deepcopy([registry])[0]):
        assert again is registry
    assert pickle.loads(pickle.dumps(registry)) is registry


class Counting:
    """A decorator of somebody's, that is an object."""

    def __init__(self, fn: Callable[..., Any]) -> None:
        functools.update_wrapper(self, fn)
        self.fn = fn
        self.calls = 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.fn(*args)


@pytest.mark.parametrize("way", COPIES)
def test_what_was_made_to_look_like_a_guarded_function_is_copied(way: Any) -> None:
    """An object that has the attributes of a guarded function calls the same one once copied."""
    counting = Counting(bulkhead(1)(len))
    again = way(counting)
    assert (again("abc"), again.calls, counting.calls) == (3, 1, 0)
    assert again.fn is counting.fn


@pytest.mark.parametrize("way", PICKLES)
def test_a_policy_and_a_guard_say_that_they_stay_in_their_process(way: Any) -> None:
    """Whatever pickles them; also a method of the policy, and a block."""
    policy = Policy("stays", bulkhead(1))
    for thing in (policy, policy.with_(bulkhead(3)), policy.call, policy.block(), [policy]):
        with pytest.raises(TypeError, match=r"the policy stays can't be pickled: .* module"):
            way(thing)
    with pytest.raises(TypeError, match="a bulkhead guard can't be pickled"):
        way(policy.guards[0])


# -- guarded functions -------------------------------------------------------------------


@fallback(value=0)
@circuit_breaker
def known(number: int) -> int:
    """A function that another process can import."""
    return number + 1


def local_functions() -> Iterator[tuple[str, Any]]:
    """Yield one of each kind that can't be imported by its name."""

    @circuit_breaker
    def plain() -> int:
        return 1

    @timeout(1, sync="thread")
    def threaded() -> int:
        return 1

    @bulkhead(1)
    def stream() -> Iterator[int]:
        yield 1

    @timeout(1)
    async def awaited() -> int:
        return 1

    @bulkhead(1)
    async def astream() -> AsyncIterator[int]:
        yield 1

    @Policy("local-of-copies", bulkhead(1))
    def of_a_policy() -> int:
        return 1

    class Shop:
        @bulkhead(1)
        def method(self) -> int:
            return 1

        @classmethod
        @bulkhead(1)
        def of_class(cls) -> int:
            return 1

        @bulkhead(1)
        @staticmethod
        def static() -> int:
            return 1

    for fn in (plain, threaded, stream, awaited, astream, of_a_policy, Shop.static):
        yield fn.__name__, fn
    yield "method", Shop().method
    yield "of_class", Shop.of_class
    yield "plain", functools.partial(plain, 1)

    def calls_another() -> int:
        return plain()

    yield "plain", calls_another


@pytest.fixture(scope="module")
def local() -> list[tuple[str, Any]]:
    """One function of each kind."""
    return list(local_functions())


@pytest.mark.parametrize("way", BY_VALUE)
@pytest.mark.parametrize("number", range(11))
def test_pickled_by_value_a_function_says_what_to_do(
    local: list[tuple[str, Any]], number: int, way: Any
) -> None:
    """The message has the function, its policy, and both ways out; it is the same everywhere."""
    name, fn = local[number]
    with pytest.raises(TypeError) as caught:
        way(fn)
    said = str(caught.value)
    assert f"{name} can't be pickled by value: it is guarded by the policy" in said
    assert "in a module that the other process imports" in said
    assert f"{name}.__wrapped__, which is not guarded" in said


@pytest.mark.parametrize("way", PICKLES)
def test_pickled_by_its_name_a_function_is_itself(way: Any) -> None:
    """A function of a module is found there again; what it guards can go by value."""
    assert pickle.loads(way(known)) is known
    assert pickle.loads(way(functools.partial(known, 1)))() == 2


def test_the_unguarded_function_goes_by_value() -> None:
    """The way out that the message names."""

    @circuit_breaker
    def plain(number: int) -> int:
        return number + 1

    inner: Any = plain
    assert pickle.loads(cloudpickle.dumps(inner.__wrapped__))(1) == 2


SCRIPT = """
import sys
from joblib import Parallel, delayed
from resilient import circuit_breaker

@circuit_breaker
def price(number):
    return number

if __name__ == "__main__":
    try:
        Parallel(n_jobs=2)(delayed(price)(number) for number in range(4))
    except Exception as error:
        while error is not None:
            print(error)
            error = error.__cause__
"""


def test_joblib_tells_the_same(tmp_path: Path) -> None:
    """A function of a script is pickled by value; the message gets through to whoever began."""
    script = tmp_path / "prices.py"
    script.write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, check=False, timeout=120
    )
    assert "price can't be pickled by value: it is guarded by" in done.stdout + done.stderr
