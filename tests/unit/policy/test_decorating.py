"""Decorating: what was given is kept, what can't be kept is refused or warned of."""

from __future__ import annotations

import asyncio
import functools
import gc
import warnings
from collections.abc import Callable
from typing import Any
from unittest import mock

import click
import pytest
from django.utils.decorators import method_decorator

from resilient import (
    CircuitOpenError,
    DeclarationWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.admin.registry import registry


def down() -> None:
    raise ConnectionError


def ends(fn: Callable[[], object], times: int) -> dict[str, int]:
    found: dict[str, int] = {}
    for _ in range(times):
        try:
            fn()
        except Exception as error:
            found[type(error).__name__] = found.get(type(error).__name__, 0) + 1
    return found


# -- options beside the function ---------------------------------------------


def test_options_that_are_given_with_the_function_hold() -> None:
    guarded = circuit_breaker(down, failure_threshold=1)
    assert ends(guarded, 3) == {"ConnectionError": 1, "CircuitOpenError": 2}
    assert circuit_breaker(down, ignore=ConnectionError).__name__ == "down"
    assert ends(circuit_breaker(down, ignore=ConnectionError), 9) == {"ConnectionError": 9}
    with pytest.raises(ValueError, match="failure_threshold"):
        circuit_breaker(down, failure_threshold=0)
    assert ends(bulkhead(down, max_waiting=1, max_wait=1), 1) == {"ConnectionError": 1}
    assert ends(timeout(down, sync="cooperative"), 1) == {"ConnectionError": 1}


# -- a policy called with its own function ---------------------------------------------


class Client:
    policy = Policy("own-methods", bulkhead(1))

    @policy
    def get(self) -> str:
        return "got"

    @classmethod
    @policy
    def make(cls) -> str:
        return cls.__name__

    @staticmethod
    @policy
    def parse() -> str:
        return "parsed"


def test_a_policy_called_with_its_own_function_runs_it_once() -> None:
    policy = Policy("own", circuit_breaker(failure_threshold=4, failure_rate=None), bulkhead(1))
    guarded = policy(down)
    assert ends(lambda: policy.call(guarded), 3) == {"ConnectionError": 3}
    assert policy.state == "closed"
    policy.try_call(functools.partial(guarded))
    assert (policy.state, policy.snapshot()["calls"]["failure"]) == ("open", 4)
    with pytest.raises(ValueError, match="already"):
        policy(guarded)


def test_methods_and_views_and_async_functions() -> None:
    client = Client()
    assert Client.policy.call(client.get) == "got"
    assert Client.policy.call(Client.make) == "Client"
    assert Client.policy.call(Client.parse) == "parsed"
    assert Client.policy.with_(timeout(1, sync="cooperative")).call(client.get) == "got"
    assert Client.policy.snapshot()["calls"]["success"] == 4
    with pytest.raises(ValueError, match="already"):
        Client.policy(client.get)
    policy = Policy("own-async", bulkhead(1))

    @policy
    async def fetch() -> int:
        return 1

    @policy
    def rows() -> Any:
        yield 1

    assert asyncio.run(policy.acall(fetch)) == asyncio.run(policy.atry_call(fetch)).value == 1
    assert list(policy.call(rows)) == [1]
    assert policy.snapshot()["calls"]["success"] == 3


def test_another_policys_function_is_guarded_by_both() -> None:
    inner, outer = Policy("both-inner", bulkhead(1)), Policy("both-outer", bulkhead(1))
    assert outer.call(inner(lambda: 1)) == 1
    assert inner.snapshot()["calls"]["success"] == outer.snapshot()["calls"]["success"] == 1


# -- objects with methods ---------------------------------------------


def test_an_object_with_methods_is_refused() -> None:
    class Task:
        def __call__(self) -> int:
            return 1

        def delay(self) -> int:
            return 2

    for made in (Task(), click.command(down), functools.lru_cache(down), functools.partial(Task())):
        if isinstance(made, functools.partial):
            continue
        with pytest.raises(TypeError, match=r"[Pp]ut the guard under"):
            circuit_breaker(made)
    assert Policy("calls-a-task", bulkhead(1)).call(Task()) == 1


def test_other_callables_are_taken() -> None:
    class Plain:
        def __call__(self) -> int:
            return 1

    for made in (Plain(), mock.Mock(return_value=1), functools.partial(int, "1"), abs):
        given = (-1,) if made is abs else ()
        assert bulkhead(made)(*given) == 1


# -- a decorator that is not ours in between ---------------------------------------------


def loud(fn: Any) -> Any:
    @functools.wraps(fn)
    def inner(*args: Any) -> Any:
        return fn(*args)

    return inner


def test_a_foreign_decorator_between_two_guards_is_warned_of() -> None:
    with pytest.warns(DeclarationWarning, match="two policies"):

        @circuit_breaker
        @loud
        @bulkhead(1)
        def split() -> int:
            return 1

    assert split() == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        bulkhead(2)(loud(lambda: 1))
        loud(circuit_breaker(bulkhead(2)(lambda: 1)))
        Policy("meant")(loud(Policy("meant-too")(lambda: 1)))


# -- state that lives shorter than what it counts ---------------------------------------------


def test_a_guard_that_is_made_anew_on_each_call_is_warned_of_once() -> None:
    def handler() -> None:
        @circuit_breaker(failure_threshold=2)
        def inner() -> None:
            raise ConnectionError

        inner()

    with pytest.warns(DeclarationWarning, match=r"handler.<locals>.inner.* never acts") as told:
        assert ends(handler, 30) == {"ConnectionError": 30}
    assert len(told) == 1


def test_functions_that_live_are_no_such_thing() -> None:
    def make() -> Any:
        @circuit_breaker
        def client() -> None:
            return

        return client

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept = [make() for _ in range(50)]
        gc.collect()
    assert len(kept) == 50


class View:
    def get(self, request: list[int]) -> None:
        request.append(1)
        raise ConnectionError

    def post(self, request: int) -> None:
        raise ConnectionError


def test_a_guard_decorates_the_same_method_on_each_request() -> None:
    """As Django's method_decorator does: the state is kept, and counted in one policy."""
    get = method_decorator(circuit_breaker(failure_threshold=3))(View.get)
    post = method_decorator([fallback(value="later"), bulkhead(1)])(View.post)
    reached: list[int] = []
    assert ends(lambda: get(View(), reached), 30) == {"ConnectionError": 3, "CircuitOpenError": 27}
    assert len(reached) == 3
    name = next(n for n in registry.names() if n.endswith("View.get"))
    assert registry.snapshot()["policies"][name]["calls"]["refused"] == 27
    assert [post(View(), 1) for _ in range(5)] == ["later"] * 5
    posts = [n for n in registry.names() if n.endswith("View.post")]
    assert len(posts) == 1


def test_a_bare_guard_in_method_decorator_is_warned_of() -> None:
    class View:
        @method_decorator(circuit_breaker)
        def get(self, request: int) -> None:
            raise ConnectionError

    with pytest.warns(DeclarationWarning, match="View.get"):
        ends(lambda: View().get(1), 30)


def test_a_guard_still_belongs_to_one_function() -> None:
    guard = bulkhead(3)
    kept = guard(down)
    with pytest.raises(ValueError, match="belongs to"):
        guard(lambda: 1)
    assert ends(kept, 1) == {"ConnectionError": 1}
    assert CircuitOpenError
