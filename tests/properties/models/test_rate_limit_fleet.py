"""A rate limit of several processes and a store that answers late, or not, on a virtual clock."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.events import Event
from resilient.guards.base import PARK, REFUSE, Waiter
from resilient.guards.rate_limit.asking import Request
from resilient.guards.rate_limit.fleet import ANSWER_WITHIN, KEPT, Answer, FleetPace
from resilient.guards.rate_limit.rate_limit import RateLimit
from resilient.guards.rate_limit.turns import LATE
from resilient.outcomes import REFUSED, SUCCESS
from tests.kit.fleet_turns import NaiveTurns

MOST = 20_000  # events
CHOP = 1.0  # a driver asks at least so often
LATENCIES = st.sampled_from([0.0, 0.0, 0.001, 0.004, 0.02, 0.049, 0.06, 0.3, None])  # None: none
arrivals = st.lists(
    st.tuples(
        st.integers(0, 2),  # the process
        st.sampled_from([0.0, 0.0, 0.001, 0.02, 0.1, 0.4]),
        st.sampled_from(["stays", "stays", "stays", "leaves", "refused inside"]),
    ),
    min_size=1, max_size=40,
)  # fmt: skip


class Caller:
    """One who comes, and what became of it."""

    def __init__(self, process: Process, at: float, plan: str) -> None:
        self.process, self.at, self.plan = process, at, plan
        self.waiter: Waiter | None = None
        self.end: tuple[str, float] | None = None
        self.alone = False  # it began by its process's own pace
        self.turn = Fraction(0)  # the next one that the store could give, as it was when it came


class Process:
    """One process: its guard, and the home that the guard knows."""

    name = "maps"

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        self.guard = RateLimit(scope="fleet", **options)
        self.guards = (self.guard,)
        self.guard.emit = self.emit
        self.guard.attach(self)  # type: ignore[arg-type]
        self.of: dict[Waiter, Caller] = {}
        self.asking = self.asked = 0
        self.kinds: list[str] = []

    def emit(self, item: Any) -> None:
        if isinstance(item, Event):
            self.kinds.append(item.kind)
        elif isinstance(item, Waiter):
            self.world.at(self.world.now, "wakes", self.of[item])
        else:
            self.world.at(self.world.now, "runs", item)

    def ask_fleet(self, guard: RateLimit) -> None:
        self.asking += 1
        self.asked += 1
        assert self.asking == 1, "it asks while it asks"
        request = guard.request(self.world.now)
        latency = next(self.world.latencies)
        takes = 0.5 if latency is None else latency
        there, back = self.world.now + takes / 2, self.world.now + takes
        if latency is None:
            self.world.at(back, "fails", self)
        else:
            self.world.at(there, "is asked", (self, request, back))


class World:
    """All of it, in the order of time."""

    def __init__(self, latencies: list[float | None], store: NaiveTurns) -> None:
        self.now, self.store = 1000.0, store
        self.latencies = itertools.cycle(latencies)
        self.events: list[tuple[float, int, str, Any]] = []
        self.order = itertools.count()
        self.began: list[tuple[float, Caller]] = []

    def at(self, when: float, what: str, about: Any) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, about))

    def run(self) -> None:
        for _ in range(MOST):
            if not self.events:
                return
            self.now, _, what, about = heapq.heappop(self.events)
            getattr(self, what.replace(" ", "_"))(about)
        raise AssertionError("it never comes to rest")

    def runs(self, step: Callable[[], object]) -> None:
        step()

    def is_asked(self, about: tuple[Process, Request, float]) -> None:
        process, request, back = about
        answer = self.store.take(request, Fraction(self.now), process)
        self.at(back, "hears", (process, request, answer))

    def hears(self, about: tuple[Process, Request, Answer]) -> None:
        process, request, answer = about
        process.asking -= 1
        process.guard.told(answer, request, self.now)

    def fails(self, process: Process) -> None:
        process.asking -= 1
        process.guard.failed("it is down", self.now)

    def comes(self, caller: Caller) -> None:
        guard, caller.turn = caller.process.guard, self.store.turn(Fraction(0))
        answer = guard.admit(self.now)
        if answer == PARK:
            waiter = caller.waiter = Waiter(guard, lambda: True)
            caller.process.of[waiter] = caller
            answer = guard.park(waiter, self.now)
            if answer == PARK and caller.plan == "leaves":
                self.at(self.now + 0.03, "leaves", caller)
        self.answer(caller, answer)

    def leaves(self, caller: Caller) -> None:
        if caller.end is None and caller.waiter is not None:
            caller.process.guard.quit(caller.waiter, self.now)
            caller.end = "left", self.now

    def wakes(self, caller: Caller) -> None:
        if caller.end is None and caller.waiter is not None:
            self.answer(caller, caller.process.guard.unpark(caller.waiter, self.now))

    def answer(self, caller: Caller, answer: int) -> None:
        guard = caller.process.guard
        if answer == PARK:
            assert caller.waiter is not None
            soonest = max(self.now + 1e-9, caller.waiter.deadline)
            self.at(min(soonest, self.now + CHOP), "wakes", caller)
        elif answer == REFUSE:
            caller.end = "refused", self.now
        elif caller.plan == "refused inside":
            caller.end = "refused inside", self.now
            guard.settle(answer, self.now, REFUSED, 0.0, "", False)
        else:
            caller.end, caller.alone = ("began", self.now), bool(caller.process.guard.pace.away)  # type: ignore[attr-defined]
            self.began.append((self.now, caller))
            guard.settle(answer, self.now, SUCCESS, 0.0, "", False)


def story(
    options: dict[str, Any], latencies: list[float | None], plan: list[tuple[int, float, str]]
) -> tuple[World, list[Caller]]:
    """Run a plan; return what came of it."""
    made = RateLimit(scope="fleet", **options)
    period = made.period + (ANSWER_WITHIN + KEPT if made.quota else 0.0)
    store = NaiveTurns(made.max_calls, period, made.burst, quota=made.quota)
    world, at = World(latencies, store), 1000.0
    processes = [Process(world, **options) for _ in range(3)]
    callers: list[Caller] = []
    for number, pause, what in plan:
        at += pause
        callers.append(Caller(processes[number], at, what))
        world.at(at, "comes", callers[-1])
    world.run()
    return world, callers


@settings(max_examples=300, deadline=None)
@given(
    st.sampled_from([(10, 1), (10, 5), (3, 1), (50, 10)]), st.booleans(),
    st.sampled_from([0.0, 0.03, 0.3, 1.0]), st.sampled_from(["local", "open", "refuse"]),
    st.lists(LATENCIES, min_size=1, max_size=6), arrivals,
)  # fmt: skip
def test_l1_l2_a_fleet_keeps_one_limit_and_nobody_waits_for_its_store(
    pace: tuple[int, int], quota: bool, max_wait: float, when_away: str,
    latencies: list[float | None], plan: list[tuple[int, float, str]],
) -> None:  # fmt: skip
    calls, burst = pace
    options: dict[str, Any] = {
        "max_calls": calls, "period": 1.0, "max_wait": max_wait, "when_away": when_away,
    }  # fmt: skip
    options |= {"quota": True} if quota else {"burst": burst}
    world, callers = story(options, latencies, plan)
    longest = max(max_wait, ANSWER_WITHIN) * 1.01 + LATE + 1e-5
    for caller in callers:
        assert caller.end is not None, "it waits for ever"
        assert caller.end[1] - caller.at <= longest
    for process in {caller.process for caller in callers}:
        assert process.asked <= 6 * sum(caller.process is process for caller in callers)
    together = [Fraction(at) for at, caller in world.began if not caller.alone]
    bound(together, calls, None if quota else burst)
    if when_away == "refuse":
        assert not [caller for _, caller in world.began if caller.alone]
    if when_away == "local":
        for process in {caller.process for caller in callers}:
            own = [
                Fraction(at) for at, each in world.began if each.alone and each.process is process
            ]
            bound(own, calls, None if quota else burst)
    world.store.check()


def bound(times: list[Fraction], calls: int, burst: int | None) -> None:
    """Hold the limit for all pairs of calls: each hears of its turn, and begins, a little late."""
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            number, width = last - first + 1, times[last] - start
            if burst is None:  # exactly
                assert width >= 1 or number <= calls
            else:
                assert number <= burst + calls * (width + Fraction(KEPT + ANSWER_WITHIN))


@settings(max_examples=200, deadline=None)
@given(st.sampled_from([0.0, 0.001, 0.02]), st.booleans(), st.sampled_from([0.0, 0.5]), arrivals)
def test_l3_while_the_store_answers_nobody_is_refused_a_turn_that_there_is(
    latency: float, quota: bool, max_wait: float, plan: list[tuple[int, float, str]]
) -> None:
    """They come one after the other; the bound says that nobody has one that there is not."""
    options: dict[str, Any] = {"max_calls": 10, "period": 1.0, "max_wait": max_wait}
    options |= {"quota": True} if quota else {"burst": 3}
    apart = [(process, pause + 0.06, "stays") for process, pause, _ in plan]
    _, callers = story(options, [latency], apart)
    for caller in callers:
        assert caller.end is not None
        assert not caller.process.kinds, "it went alone"
        wait = caller.turn - Fraction(caller.at)
        if wait <= max_wait - latency:  # what a process knows is as late as the answer
            assert caller.end[0] == "began"


def test_it_goes_alone_at_its_share_and_comes_back() -> None:
    store = NaiveTurns(8, 1.0, 8, quota=False)
    world = World([0.001], store)
    made = [Process(world, max_calls=8, period=1.0, burst=8) for _ in range(4)]
    for process in made:
        world.at(world.now, "comes", Caller(process, world.now, "stays"))
    world.run()
    world.now += 10.0
    for process in made:  # each hears how many there are by now
        world.at(world.now, "comes", Caller(process, world.now, "stays"))
    world.run()
    assert {process.guard.pace.processes for process in made} == {4}  # type: ignore[attr-defined]
    world.latencies = itertools.cycle([None])
    began = len(world.began)
    for step in range(100):
        for process in made:
            world.at(world.now + step / 10, "comes", Caller(process, world.now, "stays"))
    world.run()
    assert 80 <= len(world.began) - began <= 4 * 2 + 80
    assert all(process.kinds == ["away"] for process in made)
    world.latencies = itertools.cycle([0.001])
    world.now += 1.0
    for process in made:
        world.at(world.now, "comes", Caller(process, world.now, "stays"))
    world.run()
    assert all(process.kinds == ["away", "back"] for process in made)


def test_a_store_that_is_slow_for_long_is_told_nothing_twice() -> None:
    """Else it would book the same calls again and again, and refuse all of them when it is fast."""
    store = NaiveTurns(10, 1.0, 20, quota=False)
    world = World([0.15], store)
    made = [Process(world, max_calls=10, period=1.0, burst=20) for _ in range(4)]
    told: list[int] = []
    take = store.take

    def counted(asked: Request, *more: Any) -> Answer:
        told.append(asked.spent)
        return take(asked, *more)

    store.take = counted  # type: ignore[method-assign]
    callers = [
        Caller(process, world.now + step / 20, "stays")
        for step in range(200)
        for process in made
    ]  # fmt: skip
    for caller in callers:
        world.at(caller.at, "comes", caller)
    world.run()
    assert sum(told) <= len(world.began)
    assert sum(told) >= len(world.began) - 4 * 20


def test_calls_that_begin_alone_while_the_store_is_asked_are_told_the_next_time() -> None:
    pace = FleetPace(100, 60.0, 20, quota=True, when_away="local")
    pace.go_alone("it is down", 0.0)
    for _ in range(5):
        assert pace.take(0.0) > 0
    assert pace.debt(0.0) == 5
    for _ in range(3):
        assert pace.take(0.0) > 0
    pace.told(Answer((), 0.0, 1), 0.05, asked_at=0.0, spent=5)
    assert (pace.away, pace.debt(0.05)) == ("", 3)


def test_an_answer_to_a_question_that_was_given_up_is_late() -> None:
    pace = FleetPace(100, 1.0, 20, quota=False, when_away="local")
    pace.asked_at = 1.1
    pace.told(Answer((0.0,) * 20, 0.0, 1), 1.12, asked_at=0.0)
    assert pace.away
    assert pace.at_hand(1.12) == 0
