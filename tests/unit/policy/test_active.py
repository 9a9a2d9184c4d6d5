"""A process that protects no call: what passes, what holds, what is counted, and who is told."""

from __future__ import annotations

import itertools
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

import resilient
from resilient import (
    CircuitOpenError,
    FlagOffError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    remaining,
    set_active,
    timeout,
)
from resilient.engine.policy_state import PolicyState
from resilient.guards.base import ANSWER, REFUSE
from resilient.guards.facets import Admission, Answers
from resilient.pages.process_entries import own_entries
from resilient.telemetry.rows import add
from resilient.testing import ManualClock, flag_off
from tests.kit.followers import Hand
from tests.kit.policies import fails, idle, part, policy, trip
from tests.kit.worlds import BACKENDS, run
from tests.unit.admin.kit import breaker_state

_numbers = itertools.count(1)
COLOURS = ("plain", "cooperative", "thread", *BACKENDS)


@pytest.fixture(autouse=True)
def _again() -> Iterator[None]:
    """Each test leaves all as it was."""
    yield
    set_active(True)


def whole(clock: ManualClock | None = None, sync: Any = "cooperative", *more: Any) -> Policy:
    """A policy with every guard that can stop a call, for which one call at once is one too many."""
    guards = [circuit_breaker(failure_threshold=1), bulkhead(1)]
    if sync is not None:
        guards.append(timeout(5, sync=sync))
    return policy(*more, *guards, clock=clock)


def through(of: Policy, colour: str, fn: Callable[[], Any]) -> Any:
    """Call fn through a policy, in a colour."""
    if colour not in BACKENDS:
        return of.call(fn)

    async def awaits() -> Any:
        return fn()

    return run(colour, of.acall, awaits)


def made(colour: str, clock: ManualClock | None = None, *more: Any) -> Policy:
    """Return a policy for a colour."""
    return whole(clock, {"plain": None, "thread": "thread"}.get(colour, "cooperative"), *more)


# -- what passes --------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_an_open_circuit_and_a_full_bulkhead_let_every_call_pass(colour: str) -> None:
    """And act as before once it is active again; what passed is counted, and moved nothing."""
    shop = made(colour)
    trip(shop)
    with pytest.raises(CircuitOpenError):
        through(shop, colour, int)
    before = breaker_state(shop)
    set_active(False)
    assert [through(shop, colour, lambda: 7) for _ in range(3)] == [7, 7, 7]
    with pytest.raises(OSError, match="down"):
        through(shop, colour, fails)
    assert shop.snapshot()["calls"]["success"] == 3
    assert shop.snapshot()["calls"]["failure"] == 2
    set_active(True)
    after = breaker_state(shop)
    assert {**after, "retry_after": before["retry_after"]} == before
    with pytest.raises(CircuitOpenError):
        through(shop, colour, int)
    idle(shop)


@pytest.mark.parametrize("colour", COLOURS)
def test_no_time_limit_is_set(colour: str) -> None:
    """A body that takes for ever, in a debugger, goes on; it has all the time there is."""
    clock = ManualClock()
    shop = made(colour, clock)
    set_active(False)

    def body() -> float | None:
        clock.advance(1000)
        return remaining()

    assert through(shop, colour, body) is None
    assert shop.snapshot()["timeouts"] == shop.snapshot()["late_values"] == 0


def test_a_body_for_a_worker_runs_in_place() -> None:
    """Where a debugger's breakpoint in it can be seen."""
    shop = whole(None, "thread")
    guarded = shop(threading.get_ident)
    assert guarded() != threading.get_ident()
    set_active(False)
    assert guarded() == shop.call(threading.get_ident) == threading.get_ident()
    set_active(True)
    assert guarded() != threading.get_ident()


@pytest.mark.parametrize("colour", COLOURS)
def test_calls_inside_one_another_pass(colour: str) -> None:
    """More than there are slots."""
    shop = made(colour)
    set_active(False)
    assert through(shop, colour, lambda: shop.with_(bulkhead(1)).call(lambda: 3)) == 3
    with shop.with_(timeout(5, sync="cooperative")).block() if colour != "plain" else shop.block():
        assert through(shop, colour, lambda: 4) == 4
    idle(shop)


def test_blocks_and_streams_pass() -> None:
    """Of both colours, in all loops."""
    shop = whole()
    trip(shop)
    set_active(False)

    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)

    async def anumbers() -> AsyncIterator[int]:
        for number in (1, 2, 3):
            yield number

    stream, astream = shop(numbers), shop(anumbers)

    async def body() -> list[int]:
        async with shop.block(), shop.block():
            return [number async for number in astream()]

    with shop.block(), shop.block():
        assert list(stream()) == [1, 2, 3]
    for backend in BACKENDS:
        assert run(backend, body) == [1, 2, 3]
    assert shop.snapshot()["in_flight"] == 0
    idle(shop)


def test_a_limit_that_was_set_before_refuses_nothing_inside() -> None:
    """Neither a call inside one whose time is up meanwhile, nor the next step of a stream."""
    clock = ManualClock()
    shop, inner = (policy(timeout(5, sync="cooperative"), clock=clock) for _ in range(2))

    @shop
    def numbers() -> Iterator[int]:
        yield from (1, 2, 3)

    def body() -> int:
        stream = numbers()
        assert next(stream) == 1
        set_active(False)
        clock.advance(10)
        assert list(stream) == [2, 3]
        return inner.call(lambda: 7)

    assert shop.call(body) == 7


class Client:
    """A client of somebody's."""

    def find(self) -> int:
        return 7

    async def afind(self) -> int:
        return 8

    def close(self) -> float | None:
        return remaining()


def test_a_wrapped_client_and_a_patched_one_pass() -> None:
    """Its methods, sync and async, and what gives something back."""
    shop = whole()
    trip(shop)
    client = shop.wrap(Client())
    set_active(False)
    assert (client.find(), client.close()) == (7, None)
    assert [run(backend, client.afind) for backend in BACKENDS] == [8, 8]
    with resilient.patch(f"{__name__}:Client.find", whole()):
        assert Client().find() == 7
    set_active(True)
    assert client.close() is not None
    with pytest.raises(CircuitOpenError):
        client.find()


def test_what_was_taken_before_is_given_back() -> None:
    """A call that was let in before, and one that was not, end on the other side."""
    shop = whole()
    before = shop.block()
    before.__enter__()
    set_active(False)
    meanwhile = shop.block()
    meanwhile.__enter__()
    assert part(shop, "bulkhead")["running"] == 1
    before.__exit__(None, None, None)
    assert part(shop, "bulkhead")["running"] == 0
    set_active(True)
    with shop.block():
        assert part(shop, "bulkhead")["running"] == 1
        meanwhile.__exit__(None, None, None)
        assert part(shop, "bulkhead")["running"] == 1
    idle(shop)


def test_switching_while_calls_go_on_loses_nothing() -> None:
    """From many threads, back and forth: all is counted, and every slot comes back."""
    shop = policy(circuit_breaker(), bulkhead(64), timeout(60, sync="cooperative"))
    guarded, done = shop(lambda: 1), []

    def load() -> None:
        done.append(sum(guarded() for _ in range(2000)))

    threads = [threading.Thread(target=load) for _ in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        set_active(not PolicyState.active)
    for thread in threads:
        thread.join()
    set_active(True)
    assert sum(done) == shop.snapshot()["calls"]["success"] == 8000
    idle(shop)


def test_a_policy_made_meanwhile_passes_and_protects_afterwards() -> None:
    """Whenever it was made."""
    set_active(False)
    shop = whole()
    with shop.block():
        assert shop.call(int) == 0
    set_active(True)
    with shop.block(), pytest.raises(resilient.BulkheadFullError):
        shop.call(int)


# -- what holds ---------------------------------------------------------------------------


@pytest.mark.parametrize("colour", COLOURS)
def test_switches_forced_states_and_answers_hold(colour: str) -> None:
    """A fallback answers what these refuse, and what the function raises."""
    switch = flag(f"active-{next(_numbers)}", impact="x")
    shop = made(colour, None, kill_switch(switch))
    answered = made(colour, None, fallback(value="lesser"), kill_switch(switch))
    set_active(False)
    with flag_off(switch):
        with pytest.raises(FlagOffError):
            through(shop, colour, int)
        assert through(answered, colour, int) == "lesser"
    for of in (shop, answered):
        of.force_open("INC-1")
    with pytest.raises(CircuitOpenError, match="forced open: INC-1"):
        through(shop, colour, int)
    assert through(answered, colour, int) == "lesser"
    answered.release()
    assert through(answered, colour, fails) == "lesser"
    assert answered.snapshot()["served"]["degraded"] == 3


def test_a_switch_with_an_answer_of_its_own_gives_it() -> None:
    """As ever."""
    switch = flag(f"active-{next(_numbers)}", impact="x")

    @kill_switch(switch, answer=lambda: "by the switch")
    @bulkhead(1)
    def shop() -> str:
        return "open"

    set_active(False)
    with flag_off(switch):
        assert shop() == "by the switch"
    assert shop() == "open"


class Known(Admission, Answers):
    """A guard of somebody's, that has the answer already."""

    kind = "known"

    def admit(self, now: float) -> int:
        return ANSWER

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return "known"


class Strict(Admission):
    """A guard of somebody's, that refuses everything."""

    kind = "strict"

    def admit(self, now: float) -> int:
        return REFUSE


@pytest.mark.parametrize("colour", COLOURS)
def test_guards_of_others_go_by_what_they_do(colour: str) -> None:
    """What answers still does; what only refuses is passed."""
    set_active(False)
    assert through(made(colour, None, Known()), colour, int) == "known"
    assert through(made(colour, None, Strict()), colour, int) == 0


# -- who is told --------------------------------------------------------------------------


def test_the_log_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    """Not at each call, and again where it is switched again."""
    caplog.set_level(logging.INFO, "resilient")
    shop = whole()
    for _ in range(2):
        set_active(False)
        set_active(False)
        shop.call(int)
        whole().call(int)
        set_active(True)
    said = [(r.levelname, r.getMessage().partition(":")[0]) for r in caplog.records]
    off = ("WARNING", "resilient is not active in this process")
    assert said == [off, ("INFO", "resilient is active again")] * 2


def test_the_metric_the_plan_and_what_is_published_say_so() -> None:
    """resilient_active is that of the least active process of a host."""
    shop, hand = whole(), Hand(lambda: None, None)

    def shown() -> tuple[float, bool, bool]:
        (row,) = (entry for entry in own_entries() if entry.kind == "process")
        said = {m.name: value for (m, _), value in zip(row.layout.tail, row.row, strict=True)}
        return said["active"], hand.follower.about()["active"], "not active:" in str(shop)

    (active,) = (entry for entry in own_entries() if entry.kind == "process")
    assert shown() == (1, True, False)
    set_active(False)
    assert shown() == (0, False, True)
    (passive,) = (entry for entry in own_entries() if entry.kind == "process")
    layout, row = add([(active.layout, active.row), (passive.layout, passive.row)])
    assert {m.name: v for (m, _), v in zip(layout.tail, row, strict=True)}["active"] == 0


def test_ordered_options_are_not_obeyed_and_forced_states_are() -> None:
    """What is said of a fault tells why."""
    from resilient.flags.flip import Flip

    shop, hand = whole(), Hand(lambda: None, None)
    option, forced = f"option/{shop.name}/bulkhead.max_concurrent", f"forced/{shop.name}"
    flips = [Flip(option, 3, by="ann", version=1), Flip(forced, "forced_open", version=2)]
    hand.state.adopt(flips, time.time())
    hand.orders.follow([option, forced])
    assert hand.orders.faults() == {}
    set_active(False)
    faults = hand.orders.faults()
    assert list(faults) == [option]
    assert "not active in this process" in faults[option]
    with pytest.raises(CircuitOpenError):
        shop.call(int)
    set_active(True)
    assert hand.orders.faults() == {}


# -- how it is said -----------------------------------------------------------------------


@pytest.mark.parametrize("bad", [None, 0, 1, "no", "False", []])
def test_only_a_bool_will_do(bad: Any) -> None:
    """Nothing is switched by what may be a mistake."""
    with pytest.raises(TypeError, match="active must be True or False"):
        set_active(bad)
    assert PolicyState.active


SCRIPT = """
import resilient
shop = resilient.Policy("shop", resilient.bulkhead(1))
with shop.block():
    for _ in range(2):
        try:
            print(shop.call(int, "7"))
        except resilient.BulkheadFullError:
            print("full")
"""


def started(value: str | None, *options: str) -> subprocess.CompletedProcess[str]:
    """Run the script with the variable set."""
    around = {k: v for k, v in os.environ.items() if k != "RESILIENT_DISABLED"}
    if value is not None:
        around["RESILIENT_DISABLED"] = value
    return subprocess.run(
        [sys.executable, *options, "-c", SCRIPT],
        capture_output=True, text=True, env=around, check=False, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize("value", ["1", "true", " YES ", "on"])
def test_the_environment_switches_it_off_and_the_log_says_so(value: str) -> None:
    """At the first call, when logging has been set up; once."""
    done = started(value)
    assert done.stdout.split() == ["7", "7"]
    assert done.stderr.count("resilient is not active in this process") == 1


@pytest.mark.parametrize("value", [None, "", "0", "no", "False", "off"])
def test_the_environment_leaves_it_on(value: str | None) -> None:
    """Without a word."""
    done = started(value, "-W", "error")
    assert done.stdout.split() == ["full", "full"]
    assert "active" not in done.stderr


@pytest.mark.parametrize("value", ["ture", "2", "disabled", "\u0661"])
def test_a_misspelt_value_switches_nothing_off_and_is_warned_of(value: str) -> None:
    """The variable, what it says, and what it may say."""
    done = started(value)
    assert done.stdout.split() == ["full", "full"]
    assert "RESILIENT_DISABLED must be one of 1, true, yes, on, 0, false" in done.stderr
