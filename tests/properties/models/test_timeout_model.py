"""The worker count of the timeout, against a model that keeps the set of workers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import bulkhead, circuit_breaker, timeout
from resilient.guards.base import REFUSE
from resilient.guards.bulkhead import Bulkhead
from resilient.outcomes import CANCELLED, FAILURE, REFUSED, SUCCESS

CHOICE = st.integers(0, 1000)


class Workers(RuleBasedStateMachine):
    """Drives a timeout beside a list of the workers that run or were abandoned."""

    @initialize(slots=st.none() | st.integers(1, 4))
    def build(self, slots: int | None) -> None:
        self.guard: Any = timeout(0.5, sync="thread")
        self.peer: Any = None if slots is None else bulkhead(slots)
        peers = () if self.peer is None else (self.peer,)
        self.guard.meet((circuit_breaker(), *peers, self.guard))
        self.running: list[int] = []
        self.abandoned: list[int] = []
        self.cap = 64 if slots is None else slots

    @rule(number=st.integers(1, 40))
    def calls_start(self, number: int) -> None:
        for _ in range(number):
            ticket = self.guard.admit(0.0)
            if len(self.running) + len(self.abandoned) < self.cap:
                assert ticket >= 0
                self.running.append(ticket)
            else:
                assert ticket == REFUSE
                assert str(self.cap) in self.guard.why

    @rule(outcome=st.sampled_from([SUCCESS, FAILURE, CANCELLED, REFUSED]), choice=CHOICE)
    def a_call_ends(self, outcome: int, choice: int) -> None:
        if self.running:
            ticket = self.running.pop(choice % len(self.running))
            self.guard.settle(ticket, 1.0, outcome, 0.1, "", False)

    @rule(choice=CHOICE)
    def a_worker_is_abandoned(self, choice: int) -> None:
        if self.running:
            ticket = self.running.pop(choice % len(self.running))
            self.abandoned.append(ticket)
            self.guard.settle(ticket, 1.0, FAILURE, 0.5, "CallTimeoutError", True)

    @rule(choice=CHOICE)
    def an_abandoned_worker_ends(self, choice: int) -> None:
        if self.abandoned:
            self.guard.release(self.abandoned.pop(choice % len(self.abandoned)), 2.0)

    @rule(slots=st.integers(1, 5))
    def the_bulkhead_is_resized(self, slots: int) -> None:
        if self.peer is not None:
            self.peer.take_over(Bulkhead(slots), 1.0)
            self.cap = slots

    @invariant()
    def every_worker_is_counted(self) -> None:
        assert self.guard.snapshot(0.0)["workers"] == len(self.running) + len(self.abandoned)
        assert self.guard.max_workers == self.cap


class TestWorkers(Workers.TestCase):
    """T3: workers, abandoned ones too, are counted exactly and never more than the cap."""


@pytest.mark.parametrize("sync", [None, "thread", "cooperative"])
@pytest.mark.parametrize("mode", ["async", "cooperative", "thread"])
def test_T3_only_calls_on_worker_threads_are_counted(sync: str | None, mode: Any) -> None:
    """A timeout takes part in the admission of threaded calls alone."""
    guard = timeout(0.5) if sync is None else timeout(0.5, sync=sync)
    assert guard.admits(mode) == (sync == mode == "thread")


def test_T3_without_a_bulkhead_sixty_four_workers() -> None:
    """A policy without a bulkhead runs at most 64 workers."""
    guard = timeout(0.5, sync="thread")
    guard.meet((guard,))
    assert all(guard.admit(0.0) >= 0 for _ in range(64))
    assert guard.admit(0.0) == REFUSE
