"""The kill switch in front of every call shape, alone and in a policy."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import warnings
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trio

from resilient import (
    CircuitOpenError,
    Event,
    FlagOffError,
    OrderWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    registry,
    timeout,
)
from resilient.flags.runtime import here
from resilient.testing import flag_off
from resilient.testing.flag_plugin import Flags

SHOP = flag("switch-shop", impact="The shop is closed.")
Run = Callable[[Any], Any]
both = pytest.mark.parametrize("run", [asyncio.run, trio.run], ids=["asyncio", "trio"])


def at(run: Run, fn: Callable[..., Any], *args: Any) -> Any:
    """Run an async function on asyncio or trio."""
    return run(fn(*args)) if run is asyncio.run else run(fn, *args)


# -- sync ----------------------------------------------------------------------------


def test_refuses_while_off(flags: Flags) -> None:
    """Off, the function is not entered, and the error names flag, policy and guard."""
    entered: list[int] = []
    shop = kill_switch(SHOP)(entered.append)
    shop(1)
    flags.off(SHOP)
    with pytest.raises(FlagOffError, match="the flag switch-shop is off") as caught:
        shop(2)
    assert (caught.value.guard, caught.value.retry_after) == ("kill_switch", None)
    flags.on(SHOP)
    shop(3)
    assert entered == [1, 3]


def test_answers_while_off(flags: Flags) -> None:
    """With an answer there is no error, and the answer gets the arguments of the call."""

    @kill_switch(SHOP, answer=lambda sku, *, size=1: f"no {sku} of {size}")
    def order(sku: str, *, size: int = 1) -> str:
        return f"{sku} of {size}"

    assert order("shoe", size=4) == "shoe of 4"
    flags.off(SHOP)
    assert order("shoe", size=4) == "no shoe of 4"


class Shop:
    """One method of each kind."""

    @kill_switch(SHOP, answer=lambda self: "closed")
    def method(self) -> str:
        return "open"

    @classmethod
    @kill_switch(SHOP, answer=lambda cls: "closed")
    def of_class(cls) -> str:
        return "open"

    @kill_switch(SHOP, answer=lambda: "closed")
    @staticmethod
    def of_nobody() -> str:
        return "open"


@pytest.mark.parametrize("name", ["method", "of_class", "of_nobody"])
def test_methods_of_every_kind(name: str, flags: Flags) -> None:
    """Methods, classmethods and staticmethods are switched as functions are."""
    assert getattr(Shop(), name)() == "open"
    flags.off(SHOP)
    assert getattr(Shop(), name)() == "closed"


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("limit", [None, "thread", "cooperative"])
def test_a_fallback_answers_on_either_side(
    outside: bool, limit: Any, flags: Flags, policies: Any
) -> None:
    """The policy's fallback answers a refusal, wherever the switch stands; the breaker is at rest."""
    switch, answer = kill_switch(SHOP), fallback(value="cached")
    first = (switch, answer) if outside else (answer, switch)
    rest = () if limit is None else (timeout(1, sync=limit),)
    with warnings.catch_warnings():
        warnings.simplefilter("error", OrderWarning)
        policy = Policy("switch-fallback", *first, circuit_breaker(), bulkhead(1), *rest)
    get = policy(lambda: "fresh")
    assert get() == "fresh"
    flags.off(SHOP)
    assert [get() for _ in range(30)] == ["cached"] * 30
    assert policy.try_call(str).served == "degraded"
    assert policy.state == "closed"
    assert policies.outcomes(policy)["refused"] == 31
    assert policy.snapshot()["refusals"]["kill_switch"] == 31
    assert policy.snapshot()["guards"][2]["window"]["failures"] == 0
    flags.on(SHOP)
    assert get() == "fresh"


def test_the_switch_comes_before_a_forced_state(flags: Flags) -> None:
    """A policy that is forced open as well refuses as forced; released, as off."""
    policy = Policy("switch-forced", kill_switch(SHOP), circuit_breaker())
    get = policy(lambda: "fresh")
    policy.force_open("a try")
    with pytest.raises(CircuitOpenError):
        get()
    flags.off(SHOP)
    policy.release()
    with pytest.raises(FlagOffError):
        get()


def test_an_open_circuit_takes_the_short_cut_with_a_switch(flags: Flags) -> None:
    """A switch that is on changes nothing: the fast path is that of the policy without it."""
    policy = Policy("switch-quick", kill_switch(SHOP), fallback(value=0), circuit_breaker())
    watcher = here.state.watcher
    here.state.watch(None)  # as outside of tests: reads are not listened to
    try:
        policy(lambda: 1)()
        plan = policy._pipeline("cooperative")
        assert plan.answers is policy.guards[1]
        assert plan.enter(policy._core.now()) is not None
    finally:
        here.state.watch(watcher)


def test_a_switch_inside_the_breaker_is_warned_of() -> None:
    """An order in which a call that is off takes slots is suspicious."""
    with pytest.warns(OrderWarning, match="kill_switch stands inside circuit_breaker"):
        Policy("switch-order", circuit_breaker(), kill_switch(SHOP))


def test_a_view_with_a_switch(flags: Flags) -> None:
    """A view adds a switch of its own; the policy itself stays on."""
    policy = Policy("switch-view", circuit_breaker())
    view = policy.with_(kill_switch(SHOP))
    flags.off(SHOP)
    assert policy.call(int, "1") == 1
    with pytest.raises(FlagOffError):
        view.call(int, "1")
    flags.on(SHOP)
    assert view.call(int, "1") == 1


def test_two_switches(flags: Flags) -> None:
    """Either flag switches; each error names its own."""
    other = flag("switch-other")
    get = kill_switch(SHOP)(kill_switch(other)(lambda: "fresh"))
    flags.off(other)
    with pytest.raises(FlagOffError, match="switch-other"):
        get()
    flags.off(SHOP)
    with pytest.raises(FlagOffError, match="switch-shop"):
        get()


def test_a_dropped_policy_is_freed() -> None:
    """A flag does not hold the policies that it switches."""
    policy = Policy("switch-dropped", kill_switch(SHOP))
    core = weakref.ref(policy._core)
    registry.remove("switch-dropped")
    del policy
    gc.collect()
    assert core() is None


def test_what_is_shown(flags: Flags) -> None:
    """The plan, the snapshot and the event say that it is off, and why."""
    events: list[Event] = []
    unsubscribe = registry.subscribe(events.append)
    policy = Policy("switch-shown", kill_switch(SHOP))
    assert "refuses while the flag switch-shop is off [it is on]" in str(policy)
    flags.off(SHOP)
    assert "[the flag switch-shop is off]" in str(policy)
    assert policy.snapshot()["guards"][0]["on"] is False
    policy.try_call(int)
    unsubscribe()
    assert [event.kind for event in events] == ["refused"]


# -- async, streams, blocks ----------------------------------------------------------


@both
@pytest.mark.parametrize("answer", ["sync", "async"])
def test_async_functions(run: Run, answer: str, flags: Flags) -> None:
    """A plain and an async answer serve an async function, which stays one."""

    async def closed_later() -> str:
        return "closed"

    @kill_switch(SHOP, answer=closed_later if answer == "async" else lambda: "closed")
    async def shop() -> str:
        return "open"

    assert at(run, shop) == "open"
    flags.off(SHOP)
    assert at(run, shop) == "closed"


@both
def test_async_refusals_and_fallbacks(run: Run, flags: Flags) -> None:
    """An async call is refused, or answered by a fallback inside the switch."""
    policy = Policy("switch-async", kill_switch(SHOP), fallback(value="cached"), timeout(1))

    async def get() -> str:
        return "fresh"

    flags.off(SHOP)
    assert at(run, policy(get)) == "cached"
    with pytest.raises(FlagOffError):
        at(run, kill_switch(SHOP)(get))


def test_generators(flags: Flags) -> None:
    """A generator is let in, refused or answered at its first step."""

    def items() -> Iterator[int]:
        yield 1
        yield 2

    def none() -> Iterator[int]:
        yield 0

    refused, answered = kill_switch(SHOP)(items), kill_switch(SHOP, answer=none)(items)
    going = refused()
    assert next(going) == 1
    flags.off(SHOP)
    assert next(going) == 2, "what has begun goes on"
    assert list(answered()) == [0]
    with pytest.raises(FlagOffError):
        next(refused())


@both
def test_async_generators(run: Run, flags: Flags) -> None:
    """So is an async generator."""

    async def items() -> AsyncIterator[int]:
        yield 1

    async def none() -> AsyncIterator[int]:
        yield 0

    async def collected(stream: Any) -> list[int]:
        return [item async for item in stream()]

    answered = kill_switch(SHOP, answer=none)(items)
    assert at(run, collected, answered) == [1]
    flags.off(SHOP)
    assert at(run, collected, answered) == [0]
    with pytest.raises(FlagOffError):
        at(run, collected, kill_switch(SHOP)(items))


@both
def test_blocks(run: Run, flags: Flags) -> None:
    """A block is refused, also where there is an answer: it has nothing to answer with."""
    policy = Policy("switch-block", kill_switch(SHOP, answer=lambda: "closed"))
    with policy.block():
        pass
    flags.off(SHOP)
    with pytest.raises(FlagOffError), policy.block():
        raise AssertionError("let in")

    async def block() -> None:
        async with policy.block():
            raise AssertionError("let in")

    with pytest.raises(FlagOffError):
        at(run, block)


# -- bad input -----------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["switch-shop", None, True, print])
def test_a_switch_needs_a_flag(wrong: Any) -> None:
    """A name, a bool and a function are no flag; bare use is told."""
    with pytest.raises(TypeError, match="flag must be a flag"):
        kill_switch(wrong)


def test_answers_that_can_not_serve() -> None:
    """An answer that is no function, async for sync, or of other arguments, is told at once."""
    with pytest.raises(TypeError, match="answer must be a function"):
        kill_switch(SHOP, answer="closed")  # type: ignore[arg-type]

    async def later() -> str:
        return "closed"

    with pytest.raises(TypeError, match="is sync, but its kill_switch is async"):
        kill_switch(SHOP, answer=later)(lambda: "open")
    with pytest.raises(TypeError, match="the answer of kill_switch"):
        kill_switch(SHOP, answer=lambda: "closed")(lambda sku: "open")


def test_an_answer_that_fails_is_answered_by_the_fallback_outside(flags: Flags) -> None:
    """What the answer raises goes on out, with the refusal as its cause."""

    def broken() -> str:
        raise ValueError("broken")

    flags.off(SHOP)
    get = kill_switch(SHOP, answer=broken)(lambda: "fresh")
    with pytest.raises(ValueError, match="broken") as caught:
        get()
    assert isinstance(caught.value.__cause__, FlagOffError)
    assert fallback(value="cached")(kill_switch(SHOP, answer=broken)(lambda: "fresh"))() == "cached"


def test_a_flag_called_as_a_decorator_is_told() -> None:
    """The common slip has an error of its own."""
    with pytest.raises(TypeError, match="can't be called"), contextlib.ExitStack():
        SHOP(lambda: None)


def test_off_in_every_thread_and_back() -> None:
    """The context manager reaches the gate of policies made before it."""
    get = kill_switch(SHOP, answer=lambda: "closed")(lambda: "open")
    assert get() == "open"
    with flag_off(SHOP):
        assert get() == "closed"
    assert get() == "open"
