"""The arithmetic of a rate limit against a naive model in fractions (L1, L2, L4, L5)."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from math import nextafter, ulp
from random import Random

from hypothesis import example, given
from hypothesis import strategies as st

from resilient import fallback, rate_limit
from resilient.guards.rate_limit.pace import Pace, Smooth
from resilient.guards.rate_limit.quota import Quota
from resilient.testing import ManualClock
from tests.kit.policies import policy

periods = st.one_of(st.sampled_from([1.0, 0.1, 60.0, 3600.0]), st.floats(1e-3, 1e4))
starts = st.sampled_from([1.0, 1000.0, 2.0**31]) | st.floats(2**-12, 1e9)
# The pauses between calls, as shares of the time from one call to the next, and of a period.
pauses = st.lists(
    st.tuples(st.booleans(), st.sampled_from([0, 0, 0.5, 1, 1, 2, 10]) | st.floats(0, 3)),
    min_size=1, max_size=40,
)  # fmt: skip


def times(
    start: float, period: float, max_calls: int, pauses: list[tuple[bool, float]]
) -> list[float]:
    found = [start]
    for whole, share in pauses:
        found.append(found[-1] + share * (period if whole else period / max_calls))
    return found


class Naive:
    """The same by its definition, over the times of all calls that were let in."""

    def __init__(self, max_calls: int, period: float, burst: int | None) -> None:
        self.max_calls, self.period, self.burst = max_calls, Fraction(period), burst
        self.began: list[Fraction] = []

    def holds(self) -> bool:
        """Return whether the bound holds for each pair of calls."""
        began = self.began
        for first, at in enumerate(began):
            for last in range(first, len(began)):
                number, width = last - first + 1, began[last] - at
                if self.burst is None:
                    if width < self.period and number > self.max_calls:
                        return False
                elif number > self.burst + self.max_calls * width / self.period:
                    return False
        return True

    def may(self, now: float) -> bool:
        """Return whether one more call would break no bound."""
        self.began.append(Fraction(now))
        held = self.holds()
        self.began.pop()
        return held


@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, pauses)
def test_l1_the_bound_holds_for_every_pair_and_lets_in_all_that_it_may(
    max_calls: int, period: float, burst: int | None, start: float, pauses: list[tuple[bool, float]]
) -> None:
    naive = Naive(max_calls, period, burst)
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    for now in times(start, period, max_calls, pauses):
        ready, turn = pace.ready(now), pace.turn(0, now)
        may = naive.may(now)
        assert (turn <= now) == may == (ready > 0)
        if not may:
            assert not naive.may(nextafter(turn, 0.0))
            assert naive.may(turn)
        assert (pace.take(now) >= 0) == may
        if may:
            naive.began.append(Fraction(now))


@example(
    1, 1.0, 1, 0.891809859376601, [(False, 0), (False, 0)]
)  # where `retry_after` is rounded down
@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, pauses)
def test_l1_holds_through_a_policy(
    max_calls: int, period: float, burst: int | None, start: float, pauses: list[tuple[bool, float]]
) -> None:
    """Also by the compiled path, which has arithmetic of its own."""
    clock = ManualClock(start)
    naive = Naive(max_calls, period, burst)
    limit = rate_limit(max_calls, period, burst=burst or 1, quota=burst is None)
    of = policy(fallback(value="refused"), limit, clock=clock)
    guarded = of(lambda: "began")
    at = times(start, period, max_calls, pauses)
    for before, after in pairwise(at):
        if after - before >= 1e-6:
            clock.advance(after - before)
        may = naive.may(clock.now())
        assert guarded() == ("began" if may else "refused")
        if not may:
            wait = of.guards[1].retry_after(clock.now())  # type: ignore[attr-defined]
            assert naive.may(clock.now() + wait)
        if may:
            naive.began.append(Fraction(clock.now()))


@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, pauses, st.data())
def test_a_call_that_did_not_run_is_as_if_it_had_never_come(
    max_calls: int, period: float, burst: int | None, start: float,
    pauses: list[tuple[bool, float]], data: st.DataObject,
) -> None:  # fmt: skip
    """If it is the last; another one stays counted."""
    naive = Naive(max_calls, period, burst)
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    numbers: list[int] = []
    for now in times(start, period, max_calls, pauses):
        number = pace.take(now)
        assert (number >= 0) == naive.may(now)
        if number < 0:
            continue
        naive.began.append(Fraction(now))
        numbers.append(number)
        if data.draw(st.booleans()):
            assert pace.undo(number)
            assert not any(map(pace.undo, numbers))
            naive.began.pop()


@given(
    st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, st.integers(0, 20), pauses
)
def test_l2_the_turn_of_each_place_is_when_it_may_begin(
    max_calls: int, period: float, burst: int | None, start: float, place: int,
    pauses: list[tuple[bool, float]],
) -> None:  # fmt: skip
    """Where those before it begin at their turns, in order."""
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    at = times(start, period, max_calls, pauses)
    for now in at:
        pace.take(now)
    turns = [max(at[-1], pace.turn(each, at[-1])) for each in range(place + 1)]
    assert all(before <= after for before, after in pairwise(turns))
    for turn in turns:
        then = max(turn, pace.turn(0, turn))
        assert then - turn <= place * ulp(then)  # those before it were rounded up to floats
        assert pace.take(then) >= 0


@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, pauses)
def test_l5_a_clock_that_goes_back_adds_nothing(
    max_calls: int, period: float, burst: int | None, start: float, pauses: list[tuple[bool, float]]
) -> None:
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    at = times(start, period, max_calls, pauses)
    for now in at:
        pace.take(now)
    ready = pace.ready(at[-1])
    for earlier in reversed(at):
        assert pace.ready(earlier) <= ready
        if pace.ready(earlier) == 0:
            assert pace.take(earlier) < 0


@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts, pauses, st.randoms())
def test_l1_holds_where_the_time_of_a_call_is_older_than_that_of_the_one_before(
    max_calls: int, period: float, burst: int | None, start: float,
    pauses: list[tuple[bool, float]], chance: Random,
) -> None:  # fmt: skip
    """Threads read the clock before they come to the policy; and somebody looks between."""
    naive = Naive(max_calls, period, burst)
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    at = times(start, period, max_calls, pauses)
    for number in range(0, len(at) - 1, 2):
        if chance.random() < 0.3:
            at[number], at[number + 1] = at[number + 1], at[number]
    for now in at:
        pace.ready(max(at))
        if pace.take(now) >= 0:
            naive.began.append(Fraction(now))
    naive.began.sort()
    assert naive.holds()


@given(st.integers(1, 7), periods, st.integers(1, 4) | st.none(), starts)
def test_l4_after_thirty_years_there_is_one_burst(
    max_calls: int, period: float, burst: int | None, start: float
) -> None:
    pace: Pace = Quota(max_calls, period) if burst is None else Smooth(max_calls, period, burst)
    pace.take(start)
    later = start + 30 * 365.25 * 86400
    at_once = burst or max_calls
    assert pace.ready(later) == at_once
    assert [pace.take(later) >= 0 for _ in range(at_once + 1)] == [True] * at_once + [False]


def test_l4_nothing_drifts() -> None:
    """After a million calls at odd times the next one is due when arithmetic says so."""
    pace, now = Smooth(3, 0.1, 2), 1000.0
    for _ in range(1_000_000):
        now = max(now, pace.turn(0, now))
        assert pace.take(now) > 0
    step = Fraction(0.1) / 3
    assert abs(Fraction(now) - 1000 - (1_000_000 - 2) * step) < Fraction(1, 10**9)


@given(
    st.integers(1, 7), periods, st.integers(1, 4), st.integers(1, 7), periods, st.integers(1, 4),
    starts, pauses, pauses,
)  # fmt: skip
def test_new_options_keep_their_own_bound_and_what_is_to_be_waited_for(
    max_calls: int, period: float, burst: int, new_calls: int, new_period: float, new_burst: int,
    start: float, before: list[tuple[bool, float]], after: list[tuple[bool, float]],
) -> None:  # fmt: skip
    old, new = Smooth(max_calls, period, burst), Smooth(new_calls, new_period, new_burst)
    at = times(start, period, max_calls, before)
    numbers = [old.take(now) for now in at]
    new.follow(old, at[-1])
    assert not any(new.undo(number) for number in numbers if number > 0)
    naive = Naive(new_calls, new_period, new_burst)
    for now in times(at[-1], new_period, new_calls, after):
        if new.take(now) >= 0:
            naive.began.append(Fraction(now))
    assert naive.holds()


@given(st.integers(1, 7), st.integers(1, 7), starts, pauses, pauses)
def test_a_new_quota_counts_what_began(
    max_calls: int, new_calls: int, start: float, before: list[tuple[bool, float]],
    after: list[tuple[bool, float]],
) -> None:  # fmt: skip
    """Also where another, smaller one was in force meanwhile."""
    old, between, new = Quota(max_calls, 1.0), Quota(1, 0.001), Quota(new_calls, 1.0)
    naive = Naive(new_calls, 1.0, None)
    first = times(start, 1.0, max_calls, before)
    naive.began = [Fraction(now) for now in first if old.take(now) >= 0][-new_calls:]
    between.follow(old, first[-1])
    new.follow(between, first[-1])
    for now in times(first[-1], 1.0, new_calls, after):
        may = naive.may(now)
        assert (new.take(now) >= 0) == may
        if may:
            naive.began.append(Fraction(now))
