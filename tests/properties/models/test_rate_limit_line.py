"""The line of a rate limit with callers who wake late, or never, on a virtual clock (L1, L2, L3)."""

from __future__ import annotations

import heapq
import itertools
from fractions import Fraction
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.guards.base import PARK, REFUSE, Waiter
from resilient.guards.rate_limit.rate_limit import RateLimit
from resilient.guards.rate_limit.turns import LATE
from resilient.outcomes import REFUSED, SUCCESS

LAGS = st.sampled_from([0.0, 0.0, 0.0, 0.0, 0.001, 0.03, None])  # None: it never wakes
CHOP = 1.0  # a driver asks at least so often
arrivals = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.01, 0.1, 0.5]), LAGS,
        st.sampled_from(["stays", "stays", "stays", "leaves", "refused inside", "update"]),
    ),
    min_size=1, max_size=30,
)  # fmt: skip


class Caller:
    """One who comes, and what became of it."""

    def __init__(self, number: int, at: float, lag: float | None, plan: str) -> None:
        self.number, self.at, self.lag, self.plan = number, at, lag, plan
        self.waiter: Waiter | None = None
        self.end: tuple[str, float] | None = None
        self.asked = 0


class World:
    """All of them, in the order of time."""

    def __init__(self, guard: RateLimit, spare: float) -> None:
        self.guard, self.spare, self.now = guard, spare, 1000.0
        self.events: list[tuple[float, int, str, Caller]] = []
        self.order = itertools.count()
        self.of: dict[Waiter, Caller] = {}
        self.began: list[tuple[float, Caller]] = []
        guard.emit = self.emit

    def emit(self, waiter: Any) -> None:
        self.wake(self.of[waiter], self.now)

    def wake(self, caller: Caller, at: float) -> None:
        if caller.lag is not None:
            self.at(at + caller.lag, "wake", caller)

    def at(self, when: float, what: str, caller: Caller) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, caller))

    def run(self) -> None:
        while self.events:
            self.look(self.events[0][0])
            self.now, _, what, caller = heapq.heappop(self.events)
            if what == "comes":
                self.comes(caller)
            elif caller.end is None and caller.waiter is not None:
                if what == "leaves":
                    self.guard.quit(caller.waiter, self.now)
                    caller.end = "left", self.now
                else:
                    caller.asked += 1
                    self.answer(caller, self.guard.unpark(caller.waiter, self.now))

    def look(self, upcoming: float) -> None:
        """Nobody's turn passes before something happens, and nobody stays who is too late."""
        guard = self.guard
        if not guard.line or any(caller.lag for caller in self.of.values()):
            return
        first = self.of[next(iter(guard.line))]
        if first.lag == 0.0 and upcoming > self.now:
            assert guard.pace.turn(0, self.now) >= upcoming - 1e-6, "its turn passed unused"
        if all(self.of[waiter].lag == 0.0 for waiter in guard.line):
            for place, limit in enumerate(guard.line.values()):
                assert guard.pace.turn(place, self.now) <= limit + 1e-6, "it waits in vain"

    def comes(self, caller: Caller) -> None:
        if caller.plan == "update":
            self.guard.take_over(RateLimit(4, 1.0, burst=2, max_wait=self.guard.max_wait), self.now)
        answer = self.guard.admit(self.now)
        if answer == PARK:
            caller.waiter = Waiter(self.guard, lambda: True)
            self.of[caller.waiter] = caller
            answer = self.guard.park(caller.waiter, self.now)
            if answer == PARK and caller.plan == "leaves":
                self.at(self.now + 0.2, "leaves", caller)
        self.answer(caller, answer)

    def answer(self, caller: Caller, answer: int) -> None:
        if answer == PARK:
            assert caller.waiter is not None
            self.wake(caller, max(self.now, min(caller.waiter.deadline, self.now + CHOP)))
        elif answer == REFUSE:
            caller.end = "refused", self.now
        elif caller.plan == "refused inside":
            caller.end = "refused inside", self.now
            self.guard.settle(answer, self.now, REFUSED, 0.0, "", False)
        else:
            caller.end = "began", self.now
            self.began.append((self.now, caller))
            self.guard.settle(answer, self.now, SUCCESS, 0.0, "", False)


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from([(10, 1), (10, 2), (4, 1), (3, 3)]), st.booleans(),
    st.sampled_from([0.0, 0.3, 1.0, 5.0]), arrivals,
)  # fmt: skip
def test_l2_l3_everyone_has_a_turn_in_order_or_hears_that_there_is_none(
    pace: tuple[int, int], quota: bool, max_wait: float, plan: list[tuple[float, Any, str]]
) -> None:
    calls, burst = pace
    if quota:
        plan = [(pause, lag, "stays" if what == "update" else what) for pause, lag, what in plan]
        guard = RateLimit(calls, 1.0, quota=True, max_wait=max_wait)
    else:
        guard = RateLimit(calls, 1.0, burst=burst, max_wait=max_wait)
    world, at, callers = World(guard, LATE), 1000.0, list[Caller]()
    for number, (pause, lag, what) in enumerate(plan):
        at += pause
        callers.append(Caller(number, at, lag, what))
        world.at(at, "comes", callers[-1])
    world.run()
    prompt = [caller for caller in callers if caller.lag == 0.0]
    for caller in prompt:
        assert caller.end is not None, "it waits for ever"
        assert caller.end[1] - caller.at <= max_wait * 1.01 + LATE + 1e-5
        assert caller.asked <= 10 + 10 * (caller.end[1] - caller.at) / LATE
    all_prompt = len(prompt) == len(callers)
    began = [caller.number for _, caller in world.began if caller.lag == 0.0]
    assert began == sorted(began), "first come first served"
    if all_prompt:
        assert not guard.line
        in_vain = [c for c in callers if c.end == ("refused", c.at + max_wait)]
        assert not in_vain or max_wait == 0
    if not any(what == "update" for _, _, what in plan):
        bound(world, calls, None if quota else burst)


def bound(world: World, calls: int, burst: int | None) -> None:
    """Hold L1 against all pairs of calls that began."""
    times = [Fraction(at) for at, _ in world.began]
    for first, start in enumerate(times):
        for last in range(first, len(times)):
            number, width = last - first + 1, times[last] - start
            if burst is None:
                assert width >= 1 or number <= calls
            else:
                assert number <= burst + calls * width


def test_who_comes_back_much_later_than_it_would_wait_is_refused() -> None:
    """Though a call may begin: its caller has been promised an answer by then."""
    guard = RateLimit(1, 1.0, max_wait=2.0)
    waiter = Waiter(guard, lambda: True)
    assert guard.admit(1000.0) >= 0
    assert guard.park(waiter, 1000.0) == PARK
    assert guard.unpark(waiter, 1010.0) == REFUSE
    assert guard.admit(1010.0) >= 0


def test_a_long_line_of_those_who_never_wake_is_forgotten() -> None:
    guard = RateLimit(5000, 60, quota=True, max_wait=60)
    for _ in range(5000):
        assert guard.admit(1000.0) >= 0
    for _ in range(3000):
        waiter = Waiter(guard, lambda: False)
        assert guard.admit(1001.0) == PARK
        assert guard.park(waiter, 1001.0) == PARK
    assert guard.admit(1070.0) >= 0
    assert len(guard.turns) == 0
