"""The retry and its budget against naive models, and the promises R1, R2 and R4."""

from __future__ import annotations

from fractions import Fraction
from math import inf, isfinite
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import retry
from resilient.guards.budget import FLOOR, MOST, Budget
from resilient.guards.tried import Tried
from resilient.outcomes import CANCELLED, FAILURE, REFUSED, SUCCESS

SHARES = st.sampled_from([0.01, 0.1, 0.25, 1.0])
STEPS = st.sampled_from([0.0, 0.001, 0.3, 1.0, 7.0, 10.0, 1e9])
TINY = Fraction(1, 100_000)  # what whole numbers of millionths may lose


class Purse:
    """What the design says of a budget, in exact fractions, from the list of all that happened."""

    def __init__(self, share: float) -> None:
        self.share = Fraction(str(share))
        self.tokens = Fraction(MOST)
        self.spent_at: list[tuple[Fraction, int]] = []  # when, and after how many calls
        self.calls = 0
        self.now = Fraction(0)

    def wait(self, seconds: float) -> None:
        self.now += Fraction(str(seconds))
        self.tokens = min(Fraction(MOST), self.tokens + Fraction(seconds) * Fraction(str(FLOOR)))

    def call(self) -> None:
        self.calls += 1
        self.tokens = min(Fraction(MOST), self.tokens + self.share)


class BudgetMachine(RuleBasedStateMachine):
    """Drives a budget and the model side by side."""

    @initialize(share=SHARES, start=st.sampled_from([0.0, 1000.5, 1e9]))
    def build(self, share: float, start: float) -> None:
        self.budget, self.purse, self.start = Budget(share), Purse(share), start
        self.taken: list[tuple[Fraction, int]] = []

    @property
    def now(self) -> float:
        return self.start + float(self.purse.now)

    @rule(seconds=STEPS)
    def wait(self, seconds: float) -> None:
        self.purse.wait(seconds)

    @rule(number=st.integers(1, 30))
    def calls(self, number: int) -> None:
        for _ in range(number):
            self.budget.calls += 1
            self.purse.call()

    @rule()
    def take(self) -> None:
        left = self.purse.tokens
        took = self.budget.take(self.now)
        if abs(left - 1) > TINY:
            assert took is (left >= 1)
        if took:
            self.purse.tokens = left - 1
            self.taken.append((self.purse.now, self.purse.calls))

    @rule()
    def give_back(self) -> None:
        if self.taken:
            self.taken.pop()
            self.budget.give_back()
            self.purse.tokens = min(Fraction(MOST), self.purse.tokens + 1)

    @invariant()
    def no_window_has_more_than_its_share(self) -> None:
        """R2: between any two takes there are no more than saved, floor and share allow."""
        if not hasattr(self, "purse"):
            return
        for first, (began, calls) in enumerate(self.taken):
            for last in range(first, len(self.taken)):
                ended, after = self.taken[last]
                most = (
                    MOST
                    + (ended - began) * Fraction(str(FLOOR))
                    + (after - calls) * self.purse.share
                )
                assert last - first <= most + TINY

    @invariant()
    def it_shows_what_is_left(self) -> None:
        if hasattr(self, "purse"):
            shown = Fraction(self.budget.left(self.now))
            # A clock at 1e9 has no more digits than that.
            assert abs(shown - self.purse.tokens) <= TINY + Fraction(1, 10_000)
            assert 0 <= shown <= MOST


TestBudget = BudgetMachine.TestCase


def made(**options: Any) -> Any:
    return retry(**{"on": OSError, **options})


def asked(guard: Any, now: float, attempts: int, **about: Any) -> float | None:
    tried = Tried(attempts)
    for name, value in about.items():
        setattr(tried, name, value)
    said: float | None = guard.again(0, now, tried)
    return said


@given(
    attempts=st.integers(1, 100),
    initial=st.one_of(st.just(0.0), st.floats(1e-6, 3e8)),
    longest=st.one_of(st.just(0.0), st.floats(1e-6, 3e8)),
    chance=st.floats(0, 1),
    number=st.integers(1, 99),
    hint=st.one_of(st.none(), st.floats(), st.just(1e308), st.just(-1.0)),
)
@example(100, 3e8, 3e8, 1.0, 99, 1e308)
def test_a_wait_is_never_longer_than_its_cap(
    attempts: int, initial: float, longest: float, chance: float, number: int, hint: Any
) -> None:
    """R1, R4: whatever the number of the attempt, the draw, and what a server says."""
    initial = min(initial, longest)
    guard = made(attempts=attempts, wait_initial=initial, wait_max=longest, budget=None)
    guard.random = lambda: chance

    class Error(OSError):
        retry_after = hint

    delay = asked(guard, 5.0, number, hint=guard.hint(Error(), None))
    if number >= attempts:
        assert delay is None
    else:
        assert delay is not None
        assert isfinite(delay)
        assert 0 <= delay <= longest
        held = guard.counts.held_until - 5.0
        if held > 0:
            assert delay >= (held if held < longest - 1e-6 else 0.8 * longest) - 1e-6


@pytest.mark.parametrize("jitter", [True, False])
def test_the_cap_comes_before_the_jitter(jitter: bool) -> None:
    """Waits at the cap are spread over all of it, and do not bunch up there."""
    guard = made(attempts=100, wait_initial=0.1, wait_max=1, budget=None)
    guard.jitter(jitter)
    draws = sorted(asked(guard, 0.0, 50) or 0.0 for _ in range(400))
    if jitter:
        assert draws[0] < 0.1
        assert 0.35 < draws[200] < 0.65
        assert draws[-1] <= 1.0
    else:
        assert [asked(guard, 0.0, n) for n in range(1, 7)] == [0.1, 0.2, 0.4, 0.8, 1, 1]


@given(
    elapsed=st.floats(0, 100), left=st.one_of(st.just(inf), st.floats(-1, 100)),
    timeout=st.one_of(st.none(), st.floats(0.001, 100)), typical=st.floats(0, 10),
    number=st.integers(1, 9), refuses=st.floats(0, 10),
)  # fmt: skip
def test_no_wait_goes_beyond_a_deadline(
    elapsed: float, left: float, timeout: float | None, typical: float, number: int, refuses: float
) -> None:
    """R1: neither its own nor one round it; nor does it end while a guard inside refuses (R3)."""
    guard = made(attempts=9, timeout=timeout, budget=None)
    guard.jitter(False)
    guard.typical = typical
    delay = asked(guard, 0.0, number, elapsed=elapsed, left=left, refuses_for=refuses, refuser="x")
    wait = min(5.0, 0.1 * 2 ** (number - 1))
    allowed = (
        number < 9
        and refuses <= wait
        and (timeout is None or elapsed + wait < timeout)
        and wait + typical < left
    )
    assert delay == (wait if allowed else None)


def test_only_what_reached_the_dependency_puts_in_a_share() -> None:
    """A call that a guard inside refused, or whose caller left, puts nothing in."""
    guard = made()
    for outcome in (SUCCESS, FAILURE, CANCELLED, REFUSED):
        guard.settle(guard.admit(0.0), 0.0, outcome, 0.1, "", False)
    guard.settle_success(guard.admit(0.0), 0.0, 0.1)
    assert guard.budget.calls == 3
