"""The concurrency limit against a naive model: who is let in, what cuts, who gives slots away."""

from __future__ import annotations

import itertools
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient.guards.base import REFUSE
from resilient.guards.concurrency_limit.concurrency_limit import ConcurrencyLimit
from resilient.guards.concurrency_limit.rules import BACKOFF
from resilient.guards.concurrency_limit.shares import CALM, WELL
from resilient.outcomes import CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS
from resilient.priority_levels import LEVELS, priority

LOWEST = len(LEVELS) - 1


class Naive:
    """What the docs say, by lists."""

    def __init__(self, limit: float, least: int, most: int) -> None:
        self.limit, self.least, self.most = limit, least, most
        self.calls: list[tuple[int, int]] = []  # number and level of those that run
        self.held = 0
        self.number = 0
        self.last_cut = 0  # the number of calls let in before it
        self.caps: dict[int, int] = {}
        self.calm_at = 0.0
        self.back = 1
        self.well = 0

    def admit(self, level: int, now: float) -> bool:
        while now >= self.calm_at and self.caps:
            self.give(self.back)
            self.calm_at += CALM
            self.back *= 2
        own = sum(each == level for _, each in self.calls)
        if len(self.calls) + self.held >= int(self.limit):
            self.take_from_the_least(level, now)
            return False
        if own >= self.caps.get(level, 10**9):
            return False
        self.number += 1
        self.calls.append((self.number, level))
        self.well += level not in self.caps
        if level not in self.caps and self.well == WELL:
            self.well = 0
            self.give(1)
        return True

    def give(self, slots: int) -> None:
        for first in sorted(self.caps)[:1]:
            self.caps[first] += slots
            if self.caps[first] >= int(self.limit):
                del self.caps[first]

    def take_from_the_least(self, level: int, now: float) -> None:
        for other in range(LOWEST, level, -1):
            own = sum(each == other for _, each in self.calls)
            had = min(own, self.caps.get(other, own))
            if had:
                self.caps |= dict.fromkeys(range(other + 1, LOWEST + 1), 0)
                self.caps[other] = had - 1
                self.calm_at, self.back, self.well = now + CALM, 1, 0
                break

    def drop(self, number: int) -> None:
        if number > self.last_cut:
            self.last_cut = self.number
            self.limit = max(self.least, self.limit * BACKOFF)


class Limits(RuleBasedStateMachine):
    """Both do the same; the limit moves by drops alone, as no window ever fills."""

    @initialize(limit=st.integers(1, 12), least=st.integers(1, 3), most=st.integers(12, 20))
    def begin(self, limit: int, least: int, most: int) -> None:
        limit = max(limit, least)
        self.now = 1000.0
        self.guard = ConcurrencyLimit(limit, min_limit=least, max_limit=most, algorithm="aimd")
        self.naive = Naive(float(limit), least, most)
        self.tickets: list[tuple[int, int, int]] = []  # ticket, number, level
        self.held: list[int] = []

    @rule(level=st.integers(0, LOWEST))
    def comes(self, level: int) -> None:
        with priority(LEVELS[level]):  # type: ignore[arg-type]
            ticket = self.guard.admit(self.now)
        assert (ticket != REFUSE) == self.naive.admit(level, self.now)
        if ticket != REFUSE:
            self.tickets.append((ticket, self.naive.number, level))
        else:
            assert self.guard.why

    @precondition(lambda self: self.tickets)
    @rule(data=st.data(), end=st.sampled_from([FAILURE, FAILURE, IGNORED, CANCELLED, REFUSED]),
          held=st.booleans())  # fmt: skip
    def ends(self, data: Any, end: int, held: bool) -> None:
        place = data.draw(st.integers(0, len(self.tickets) - 1))
        ticket, number, level = self.tickets.pop(place)
        self.naive.calls.remove((number, level))
        held = held and end == FAILURE
        if held:
            self.naive.held += 1
            self.held.append(ticket)
        if end == FAILURE:
            self.naive.drop(number)
        self.guard.settle(ticket, self.now, end, 0.1, "", held)

    @precondition(lambda self: self.held)
    @rule()
    def worker_ends(self) -> None:
        self.guard.release(self.held.pop(), self.now)
        self.naive.held -= 1

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 3.0]))
    def passes(self, seconds: float) -> None:
        self.now += seconds

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "guard"):
            return
        guard, naive = self.guard, self.naive
        assert guard.limit == naive.limit
        assert guard.used == len(naive.calls) + naive.held
        assert guard.running == sum(guard.shares.running) == len(naive.calls)
        found = guard.snapshot(self.now)["left_to"]
        assert found == {LEVELS[level]: cap for level, cap in naive.caps.items()}


TestLimits = Limits.TestCase
TestLimits.settings = settings(max_examples=150, stateful_step_count=60, deadline=None)


@settings(deadline=None)
@given(st.integers(2, 30), st.lists(st.integers(1, LOWEST), min_size=1, max_size=60))
def test_each_refusal_of_the_most_important_frees_one_slot_for_it(
    limit: int, others: list[int]
) -> None:
    """So that as many refusals as there are slots shut all others out, the least important first."""
    guard = ConcurrencyLimit(limit, max_limit=30)
    running: list[int] = []
    for level in others:
        with priority(LEVELS[level]):  # type: ignore[arg-type]
            ticket = guard.admit(0.0)
        if ticket != REFUSE:
            running.append(ticket)
    with priority("critical"):
        for _ in range(limit):
            ticket = guard.admit(0.0)
            if ticket != REFUSE:
                running.append(ticket)
    if guard.used < limit:
        return  # there was room for all
    caps = [guard.shares.caps[level] for level in range(1, LOWEST + 1)]
    known = [cap for cap in caps if cap is not None]
    for more, less in itertools.pairwise(caps):
        assert more is None or less == 0, "a more important level gave slots before a lesser one"
    assert not known or min(known) >= 0


def test_all_success_settles_every_slot() -> None:
    guard = ConcurrencyLimit(3)
    tickets = [guard.admit(0.0) for _ in range(3)]
    assert guard.admit(0.0) == REFUSE
    for ticket in tickets:
        guard.settle_success(ticket, 1.0, 0.1)
    assert guard.used == 0
    assert guard.admit(1.0) != REFUSE
    assert guard.drops == 0
    guard.settle(tickets[0] + 4, 2.0, SUCCESS, float("inf"), "", False)  # a value that came late
    assert guard.drops == 1
