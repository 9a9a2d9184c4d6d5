"""The bulkhead against a model that keeps every caller and counts them from scratch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import bulkhead
from resilient.guards.base import PARK, REFUSE, Waiter
from resilient.guards.bulkhead import Bulkhead
from resilient.outcomes import CANCELLED, FAILURE, SUCCESS

GRANT_LIFE = 1.0  # a granted slot that nobody takes for so long is handed on
IN, WAITING, REFUSED = "in", "waiting", "refused"


# -- the model -------------------------------------------------------------------------------------


@dataclass(eq=False)
class Caller:
    """One caller and where it stands: asked, waiting, granted, running, abandoned or gone."""

    place: str = "asked"
    deadline: float = 0.0
    granted_at: float = 0.0
    waiter: Any = None


@dataclass
class Naive:
    """What the design says, with callers in the order in which they got in line."""

    limit: int
    max_waiting: int
    max_wait: float
    order: str
    callers: list[Caller] = field(default_factory=list)
    grants: list[Caller] = field(default_factory=list)

    def at(self, *places: str) -> list[Caller]:
        return [caller for caller in self.callers if caller.place in places]

    @property
    def used(self) -> int:
        return len(self.at("running", "abandoned", "granted"))

    def hand_on(self, now: float) -> None:
        while self.at("waiting") and self.used < self.limit:
            line = self.at("waiting")
            lucky = line[0] if self.order == "fifo" else line[-1]
            lucky.place, lucky.granted_at = "granted", now
            self.grants.append(lucky)

    def take_back_old_grants(self, now: float) -> None:
        for caller in self.at("granted"):
            if now - caller.granted_at >= GRANT_LIFE:
                caller.place = "passed over"
        self.hand_on(now)

    def asks(self, caller: Caller, now: float) -> str:
        self.take_back_old_grants(now)
        if self.used < self.limit:
            caller.place = "running"
            return IN
        return WAITING if len(self.at("waiting")) < self.max_waiting else REFUSED

    def lines_up(self, caller: Caller, now: float) -> str:
        answer = self.asks(caller, now)
        if answer == WAITING:
            self.callers.remove(caller)
            self.callers.append(caller)  # the line is in the order of getting in line
            caller.place, caller.deadline = "waiting", now + self.max_wait
        return answer

    def wakes(self, caller: Caller, now: float) -> str:
        if caller.place != "granted":
            self.take_back_old_grants(now)
        if caller.place == "granted":
            caller.place = "running"
            return IN
        if caller.place == "waiting" and now < caller.deadline:
            return WAITING
        caller.place = "gone"
        return REFUSED

    def goes(self, caller: Caller, now: float) -> None:
        caller.place = "gone"
        self.hand_on(now)


# -- the machine -----------------------------------------------------------------------------------

STEPS = st.sampled_from([0.0, 0.0, 0.25, 0.5, 0.75, 1.0, 3.0])
CHOICE = st.integers(0, 1000)


class Machine(RuleBasedStateMachine):
    """Drives a bulkhead and the model side by side."""

    order = "fifo"

    @initialize(
        limit=st.integers(1, 3),
        max_waiting=st.integers(0, 4),
        max_wait=st.sampled_from([0.5, 1.0, 2.5]),
        start=st.sampled_from([0.0, 1000.5]),
    )
    def build(self, limit: int, max_waiting: int, max_wait: float, start: float) -> None:
        waits = {"max_waiting": max_waiting, "max_wait": max_wait} if max_waiting else {}
        self.guard: Any = bulkhead(limit, order=self.order, **waits)
        self.emitted: list[Any] = []
        self.guard.emit = self.emitted.append
        self.model = Naive(limit, max_waiting, max_wait, self.order)
        self.now = start
        self.used_before = 0

    def check(self, answer: int, expected: str) -> None:
        told = IN if answer >= 0 else {PARK: WAITING, REFUSE: REFUSED}[answer]
        assert told == expected
        assert expected != REFUSED or self.guard.why

    def pick(self, choice: int, *places: str) -> Caller | None:
        callers = self.model.at(*places)
        return callers[choice % len(callers)] if callers else None

    # -- rules

    @rule(step=STEPS)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(number=st.integers(1, 4), step=STEPS)
    def callers_ask_and_line_up(self, number: int, step: float) -> None:
        self.now += step
        for _ in range(number):
            self.a_caller_asks()
            if self.model.callers[-1].place == "asked":
                self.a_caller_lines_up(-1)

    @rule()
    def a_caller_asks(self) -> None:
        caller = Caller()
        answer = self.guard.admit(self.now)
        expected = self.model.asks(caller, self.now)
        self.model.callers.append(caller)
        if expected == REFUSED:
            caller.place = "gone"
        self.check(answer, expected)

    @rule(choice=CHOICE)
    def a_caller_lines_up(self, choice: int) -> None:
        caller = self.pick(choice, "asked")
        if caller is None:
            return
        caller.waiter = Waiter(self.guard, lambda: True)
        answer = self.guard.park(caller.waiter, self.now)
        expected = self.model.lines_up(caller, self.now)
        if expected == REFUSED:
            caller.place = "gone"
        self.check(answer, expected)
        if expected == WAITING:
            assert caller.waiter.deadline == caller.deadline

    @rule(choice=CHOICE, step=STEPS)
    def a_granted_caller_wakes(self, choice: int, step: float) -> None:
        caller = self.pick(choice, "granted")
        if caller is not None:
            self.now += step
            answer = self.guard.unpark(caller.waiter, self.now)
            self.check(answer, self.model.wakes(caller, self.now))
            assert answer >= 0, "a grant is good until it is handed on"

    @rule(choice=CHOICE, step=STEPS)
    def a_caller_looks_up(self, choice: int, step: float) -> None:
        caller = self.pick(choice, "waiting", "passed over")
        if caller is not None:
            self.now += step
            answer = self.guard.unpark(caller.waiter, self.now)
            self.check(answer, self.model.wakes(caller, self.now))

    @rule(choice=CHOICE)
    def a_caller_goes_away(self, choice: int) -> None:
        caller = self.pick(choice, "waiting", "granted", "passed over")
        if caller is not None:
            self.guard.quit(caller.waiter, self.now)
            self.model.goes(caller, self.now)

    @rule(choice=CHOICE, outcome=st.sampled_from([SUCCESS, FAILURE, CANCELLED]), step=STEPS)
    def a_call_ends(self, choice: int, outcome: int, step: float) -> None:
        caller = self.pick(choice, "running")
        if caller is not None:
            self.now += step
            self.guard.settle(0, self.now, outcome, 0.5, "", False)
            self.model.goes(caller, self.now)

    @rule(choice=CHOICE)
    def a_worker_is_abandoned(self, choice: int) -> None:
        caller = self.pick(choice, "running")
        if caller is not None:
            self.guard.settle(0, self.now, FAILURE, 0.5, "CallTimeoutError", True)
            caller.place = "abandoned"

    @rule(choice=CHOICE)
    def an_abandoned_worker_ends(self, choice: int) -> None:
        caller = self.pick(choice, "abandoned")
        if caller is not None:
            self.guard.release(0, self.now)
            self.model.goes(caller, self.now)

    @rule(limit=st.integers(1, 5))
    def an_operator_resizes(self, limit: int) -> None:
        self.guard.take_over(
            Bulkhead(**{**self.guard.options(), "max_concurrent": limit}), self.now
        )
        self.model.limit = limit
        self.model.hand_on(self.now)

    # -- invariants

    @invariant()
    def the_counts_are_those_of_the_model(self) -> None:
        seen = self.guard.snapshot(self.now)
        assert seen["used"] == self.model.used
        assert seen["running"] == len(self.model.at("running"))
        assert seen["abandoned"] == len(self.model.at("abandoned"))
        assert seen["waiting"] == len(self.model.at("waiting"))
        assert self.guard.slots() == self.model.limit

    @invariant()
    def grants_wake_the_right_callers_once_and_in_order(self) -> None:
        woken = [item for item in self.emitted if isinstance(item, Waiter)]
        assert woken == [caller.waiter for caller in self.model.grants]
        assert not [item for item in self.emitted if not isinstance(item, Waiter)]

    @invariant()
    def u1_no_more_than_the_limit(self) -> None:
        seen = self.guard.snapshot(self.now)
        assert 0 <= seen["used"] <= max(self.guard.slots(), self.used_before)
        assert 0 <= seen["waiting"] <= self.model.max_waiting
        self.used_before = seen["used"]

    @invariant()
    def u1_a_free_slot_means_nobody_waits(self) -> None:
        seen = self.guard.snapshot(self.now)
        assert seen["used"] >= self.guard.slots() or seen["waiting"] == 0

    def teardown(self) -> None:
        """When everybody has gone, nothing is taken and a newcomer gets in."""
        for caller in self.model.at("waiting", "granted"):
            self.guard.quit(caller.waiter, self.now)
        for _ in self.model.at("running"):
            self.guard.settle(0, self.now, SUCCESS, 0.5, "", False)
        for _ in self.model.at("abandoned"):
            self.guard.release(0, self.now)
        granted = [item for item in self.emitted if isinstance(item, Waiter)]
        for waiter in granted[len(self.model.grants) :]:
            self.guard.quit(waiter, self.now)
        assert self.guard.snapshot(self.now)["used"] == 0
        assert self.guard.admit(self.now) >= 0


class LastFirst(Machine):
    """The same with a line that serves the newest first."""

    order = "lifo"


class TestFirstInFirstOut(Machine.TestCase):
    """U1, U2 and U4 hold where the first come are first served."""

    settings = settings(max_examples=200)


class TestLastInFirstOut(LastFirst.TestCase):
    """U1, U2 and U4 hold where the last come are first served."""

    settings = settings(max_examples=200)


# -- promises, one by one -------------------------------------------------------------------------


def line_of(number: int, guard: Any, now: float = 0.0) -> list[Waiter]:
    """Put callers in line."""
    waiters = [Waiter(guard, lambda: True) for _ in range(number)]
    for waiter in waiters:
        assert guard.park(waiter, now) == PARK
    return waiters


def full(limit: int = 1, **options: Any) -> tuple[Any, list[Waiter]]:
    """Return a bulkhead whose slots are all running, and the list of those it will wake."""
    guard: Any = bulkhead(limit, **{"max_waiting": 5, "max_wait": 2.0, **options})
    woken: list[Waiter] = []
    guard.emit = woken.append
    for _ in range(limit):
        assert guard.admit(0.0) >= 0
    return guard, woken


def test_U1_a_full_line_refuses_at_once() -> None:
    """With all slots and all places taken the next caller is refused."""
    guard, _ = full(max_waiting=2)
    line_of(2, guard)
    assert guard.admit(0.0) == REFUSE
    assert guard.park(Waiter(guard, lambda: True), 0.0) == REFUSE


@pytest.mark.parametrize(("order", "places"), [("fifo", [0, 1, 2]), ("lifo", [2, 1, 0])])
def test_U2_slots_are_handed_on_in_the_order_of_the_line(order: str, places: list[int]) -> None:
    """Slots that become free go to the first of the line, or to the last with lifo."""
    guard, woken = full(limit=3, order=order)
    waiters = line_of(3, guard)
    for _ in range(3):
        guard.settle(0, 0.5, SUCCESS, 0.5, "", False)
    assert woken == [waiters[place] for place in places]


def test_U2_who_quits_hands_on_what_it_was_granted() -> None:
    """A caller that goes away with a grant wakes the next in line."""
    guard, woken = full()
    first, second = line_of(2, guard)
    guard.settle(0, 0.5, SUCCESS, 0.5, "", False)
    guard.quit(first, 0.5)
    assert woken == [first, second]
    assert guard.unpark(second, 0.5) >= 0


def test_U2_a_wait_ends_exactly_at_max_wait() -> None:
    """A waiter waits on until max_wait, and is refused from then on."""
    guard, _ = full(max_wait=2.0)
    (waiter,) = line_of(1, guard)
    assert guard.unpark(waiter, 1.875) == PARK
    assert guard.unpark(waiter, 2.0) == REFUSE
    assert guard.waiting == 0


def test_U2_a_grant_that_nobody_takes_goes_to_the_next_after_a_second() -> None:
    """A grant is its waiter's for one second; then the next in line may have it."""
    guard, woken = full(max_wait=9.0)
    first, second = line_of(2, guard)
    guard.settle(0, 1.0, SUCCESS, 1.0, "", False)
    assert guard.unpark(second, 1.875) == PARK
    assert guard.unpark(second, 2.0) >= 0
    assert woken == [first, second]
    assert guard.unpark(first, 2.0) == REFUSE


def test_U2_the_oldest_grant_is_the_first_to_be_handed_on() -> None:
    """Looking at the grants changes nothing in their order of age."""
    guard, woken = full(limit=2, max_wait=9.0)
    first, second, third = line_of(3, guard)
    for ended in (1.0, 1.5):
        guard.settle(0, ended, SUCCESS, 1.0, "", False)
    assert guard.unpark(third, 1.75) == PARK
    assert guard.unpark(third, 2.0) >= 0
    assert guard.unpark(second, 2.0) >= 0
    assert woken == [first, second, third]


def test_U2_an_old_grant_that_nobody_else_wants_is_still_good() -> None:
    """A waiter that wakes late gets its slot, if nobody asked meanwhile."""
    guard, _ = full()
    (waiter,) = line_of(1, guard)
    guard.settle(0, 0.5, SUCCESS, 0.5, "", False)
    assert guard.unpark(waiter, 60.0) >= 0


def test_U4_more_slots_wake_the_line_and_fewer_stop_nobody() -> None:
    """A larger limit is handed out at once; a smaller one holds as calls end."""
    guard, woken = full()
    waiters = line_of(3, guard)
    guard.take_over(Bulkhead(**{**guard.options(), "max_concurrent": 3}), 0.5)
    assert [item for item in woken if isinstance(item, Waiter)] == waiters[:2]
    for waiter in waiters[:2]:
        assert guard.unpark(waiter, 0.5) >= 0
    guard.take_over(Bulkhead(**{**guard.options(), "max_concurrent": 1}), 0.5)
    assert guard.used == 3
    for used in (2, 1):
        guard.settle(0, 0.75, SUCCESS, 0.5, "", False)
        assert (guard.used, guard.waiting) == (used, 1)
    guard.settle(0, 0.75, SUCCESS, 0.5, "", False)
    assert (guard.used, guard.waiting) == (1, 0)


def test_T3_an_abandoned_worker_keeps_its_slot_until_it_ends() -> None:
    """A body that still runs after its caller left holds its slot, and hands it on at its end."""
    guard, woken = full()
    (waiter,) = line_of(1, guard)
    guard.settle(0, 0.5, FAILURE, 0.5, "CallTimeoutError", True)
    assert (guard.used, guard.running, guard.abandoned, woken) == (1, 0, 1, [])
    guard.release(0, 1.0)
    assert woken == [waiter]
