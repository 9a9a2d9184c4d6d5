"""The circuit breaker against a model that keeps every call and recounts from scratch.

All times are multiples of 1/8 s and all windows have slices that binary fractions hold exactly, so
that the boundaries (an age of exactly `slow_call_duration`, the last instant of a slice) are met.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import floor, inf
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import Policy, bulkhead, calls, circuit_breaker, retry, timeout
from resilient.guards.circuit_breaker.recovery import Recovery
from resilient.outcomes import CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS
from resilient.testing import ManualClock

OPTIONS: dict[str, Any] = {
    "failure_rate": 0.5,
    "failure_threshold": 5,
    "window": 10.0,
    "minimum_calls": 20,
    "slow_call_duration": None,
    "slow_call_rate": 0.5,
    "recovery_timeout": 5.0,
    "recovery_backoff": 2.0,
    "max_recovery_timeout": None,
    "ramp": None,
    "half_open_max_calls": 1,
    "success_threshold": 1,
    "probe_lease": None,
    "metrics_only": False,
}
LEGAL = {
    ("closed", "open", "auto"),
    ("open", "half_open", "auto"),
    ("half_open", "open", "auto"),
    ("half_open", "closed", "auto"),
    ("metrics_only", "metrics_only", "auto"),
    *((state, "half_open", "operator") for state in ("closed", "open", "half_open")),
    *((state, "closed", "operator") for state in ("closed", "open", "half_open")),
}
NEUTRAL = (IGNORED, CANCELLED, REFUSED)


# -- the model -------------------------------------------------------------------------------------


@dataclass
class Admitted:
    """A call that was let in; `since` is when it went past everything it had to wait for."""

    ticket: int
    epoch: int
    at: float
    since: float
    probe: bool
    in_line: bool = False
    alive: bool = True


@dataclass
class Counted:
    """A result that the closed circuit saw."""

    epoch: int
    at: float
    failed: bool
    slow: bool


def longest(options: dict[str, Any]) -> float:
    """The longest recovery time."""
    first: float = options["recovery_timeout"]
    return options["max_recovery_timeout"] or max(60.0, first)


class Naive:
    """What the design says, by recounting."""

    def __init__(self, options: dict[str, Any], lease: float) -> None:
        self.options = options
        self.lease = lease
        self.measures = options["metrics_only"]
        self.state = "closed"  # of one that only measures: what it would be
        self.seen: list[Counted] = []  # all results, whatever the circuit would have let in
        self.would_refuse = 0
        self.forced: str | None = None
        self.epoch = 0
        self.admitted: list[Admitted] = []
        self.counted: list[Counted] = []
        self.good_probes: list[int] = []  # the epoch of each
        self.failed_tries = 0
        self.until = 0.0
        self.edges: list[tuple[str, str, str, str, float]] = []
        self.late = 0
        self.closed_at: float | None = None  # by probes, with a ramp
        self.arrivals: list[float] = []  # since then

    @property
    def shown(self) -> str:
        return "metrics_only" if self.measures else self.state

    # what is in the window, in flight, in a row

    def window(self, now: float) -> list[Counted]:
        return self.recent([r for r in self.counted if r.epoch == self.epoch], now)

    def shown_window(self, now: float) -> list[Counted]:
        return self.recent(self.seen, now) if self.measures else self.window(now)

    def recent(self, mine: list[Counted], now: float) -> list[Counted]:
        window = self.options["window"]
        if isinstance(window, calls):
            return mine[-window.size :]
        current = floor(now / (window / 10))
        return [r for r in mine if current - 9 <= floor(r.at / (window / 10)) <= current]

    def in_flight(self) -> list[Admitted]:
        return [call for call in self.admitted if call.alive and call.epoch == self.epoch]

    def probes(self) -> list[Admitted]:
        return [call for call in self.in_flight() if call.probe]

    def lease_over(self, now: float) -> bool:
        return (
            self.state == "half_open"
            and self.forced != "forced_closed"
            and any(now - probe.at >= self.lease for probe in self.probes())
        )

    def overdue(self, now: float) -> int:
        limit = self.options["slow_call_duration"] or inf
        return sum(now - call.since >= limit for call in self.in_flight() if not call.probe)

    def in_a_row(self) -> int:
        mine = [result.failed for result in self.counted if result.epoch == self.epoch]
        return len(list(takewhile(bool, reversed(mine))))

    def failure_ratio(self, now: float) -> float | None:
        window = self.window(now)
        if len(window) < self.options["minimum_calls"]:
            return None
        return sum(result.failed for result in window) / len(window)

    def slow_ratio(self, now: float) -> float | None:
        window, overdue = self.window(now), self.overdue(now)
        volume = len(window) + overdue
        if self.options["slow_call_duration"] is None or volume < self.options["minimum_calls"]:
            return None
        return (sum(result.slow for result in window) + overdue) / volume

    # the rules

    def failing(self, now: float) -> bool:
        rate, threshold = self.options["failure_rate"], self.options["failure_threshold"]
        ratio = self.failure_ratio(now)
        if rate is not None and ratio is not None:
            return ratio >= rate
        return threshold is not None and self.in_a_row() >= threshold

    def slow(self, now: float) -> bool:
        ratio = self.slow_ratio(now)
        return ratio is not None and ratio >= self.options["slow_call_rate"]

    def nominal(self) -> float:
        seconds: float = self.options["recovery_timeout"]
        for _ in range(self.failed_tries):
            seconds = min(seconds * self.options["recovery_backoff"], longest(self.options))
        return seconds

    # the ramp

    def climbs(self, now: float) -> bool:
        if self.closed_at is not None and now - self.closed_at >= self.options["ramp"]:
            self.closed_at, self.failed_tries = None, 0
        return self.closed_at is not None

    def is_let_up(self, now: float) -> bool:
        """Add the arrivals up again: each brings the share, and costs 1 where it is let in."""
        if not self.climbs(now):
            return True
        assert self.closed_at is not None
        self.arrivals.append(now)
        credit, let_in = 1.0, False
        for at in self.arrivals:
            credit += 0.1 + 0.9 * ((at - self.closed_at) / self.options["ramp"])
            let_in = credit >= 1
            credit -= let_in
        return let_in

    # what happens

    def move(self, kind: str, state: str, now: float, cause: str = "auto") -> None:
        if not self.measures:
            self.edges.append((kind, self.state, state, cause, now))
        elif kind == "opened":
            self.edges.append(("would_open", "metrics_only", "metrics_only", cause, now))
        self.state = state
        self.epoch += 1
        self.closed_at = None

    def trip(self, now: float) -> None:
        self.failed_tries += self.climbs(now)
        self.open(now)

    def open(self, now: float) -> None:
        self.until = now + self.nominal()
        self.move("opened", "open", now)

    def relapse(self, now: float) -> None:
        self.failed_tries += 1
        self.open(now)

    def admits(self, now: float) -> bool:
        if self.forced == "forced_closed":
            return True
        if self.state == "closed":
            if self.slow(now):
                self.trip(now)
            return self.state != "open" and self.is_let_up(now)
        if self.state == "open":
            if now < self.until:
                return False
            self.move("half_open", "half_open", now)
        if self.lease_over(now):
            self.relapse(now)
            return False
        return len(self.probes()) < self.options["half_open_max_calls"]

    def let_in(self, ticket: int, now: float, counts: bool = True) -> Admitted:
        """Let a call in; one that a breaker that acts would have refused counts for nothing."""
        probe = counts and self.state == "half_open" and self.forced is None
        call = Admitted(ticket, self.epoch if counts else -1, now, now, probe)
        self.admitted.append(call)
        return call

    def ended(self, call: Admitted, now: float, outcome: int, duration: float) -> None:
        if self.lease_over(now):  # whoever's it is, and before anything else counts
            self.relapse(now)
        call.alive = False
        self.would_refuse += call.epoch < 0
        slow = duration >= (self.options["slow_call_duration"] or inf)
        if outcome in NEUTRAL:
            return
        self.seen.append(Counted(self.epoch, now, outcome == FAILURE, slow))
        if call.epoch != self.epoch:
            self.late += call.epoch >= 0
        elif call.probe and self.forced != "forced_closed":
            if outcome == FAILURE or (slow and self.options["slow_call_duration"] is not None):
                self.relapse(now)
                return
            self.good_probes.append(self.epoch)
            if self.good_probes.count(self.epoch) >= self.options["success_threshold"]:
                self.move("closed", "closed", now)
                if self.options["ramp"] is None:
                    self.failed_tries = 0
                else:
                    self.closed_at, self.arrivals = now, []
        else:
            self.counted.append(Counted(self.epoch, now, outcome == FAILURE, slow))
            if self.forced != "forced_closed" and (self.failing(now) or self.slow(now)):
                self.trip(now)

    def force(self, state: str | None, now: float) -> None:
        released, self.forced = self.forced, state
        if state is not None:
            return
        if self.measures:
            if released == "forced_closed":  # a fresh window
                self.state = "closed"
                self.epoch += 1
                self.closed_at = None
        elif released == "forced_closed":
            self.failed_tries = 0
            self.move("closed", "closed", now, "operator")
        else:
            self.move("half_open", "half_open", now, "operator")


# -- the machine -----------------------------------------------------------------------------------

STEPS = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 1.0, 2.5, 5.0, 9.0, 11.0, 61.0])
OUTCOMES = st.sampled_from([SUCCESS, SUCCESS, FAILURE, FAILURE, IGNORED, CANCELLED, REFUSED])
STREAKS = st.lists(OUTCOMES, min_size=1, max_size=6) | st.integers(1, 6).flatmap(
    lambda number: st.sampled_from([[SUCCESS] * number, [FAILURE] * number])
)
DURATIONS = st.sampled_from([0.0, 0.25, 0.5, 1.0, 3.0, inf])
CHOICE = st.integers(0, 1000)


@st.composite
def options_of(draw: st.DrawFn, choices: dict[str, list[Any]]) -> dict[str, Any]:
    """Draw options; a list of choices for each one that is not the default."""
    options = {**OPTIONS, **{k: draw(st.sampled_from(v)) for k, v in choices.items()}}
    if isinstance(options["window"], calls):
        options["minimum_calls"] = min(options["minimum_calls"], options["window"].size)
    if (options["failure_rate"], options["slow_call_duration"]) == (None, None):
        options["failure_threshold"] = options["failure_threshold"] or 2
    return options


class Machine(RuleBasedStateMachine):
    """Drives a breaker and the model side by side; subclasses say with which options."""

    choices: ClassVar[dict[str, list[Any]]] = {}
    jitter: ClassVar[list[float]] = []  # what guard.random gives, in turn

    @initialize(data=st.data(), start=st.sampled_from([0.0, 0.5, 1000.0, 86_400.125]))
    def build(self, data: st.DataObject, start: float) -> None:
        options = data.draw(options_of(self.choices), label="options")
        limit = data.draw(st.sampled_from([None, 0.5, 30.0]), label="timeout of the policy")
        self.guard = circuit_breaker(**options)
        peers = [] if limit is None else [timeout(limit)]
        self.guard.meet((self.guard, *peers))
        lease = options["probe_lease"] or max(options["recovery_timeout"], limit or 0.0)
        self.guard.random = None
        if self.jitter:
            draws = iter(self.jitter * 1000)
            self.guard.random = lambda: next(draws)
        self.events: list[Any] = []
        self.guard.emit = self.events.append
        self.model = Naive(options, lease)
        self.options = options
        self.now = start
        self.let_in: list[tuple[int, Admitted]] = []  # with the number of events so far

    # -- steps, each checked on the spot

    def ask(self, in_line: bool = False) -> Admitted | None:
        if self.model.forced == "forced_open":  # the policy refuses, and asks no guard
            return None
        ticket = self.guard.admit(self.now)
        return self.took(ticket, in_line)

    def took(self, ticket: int, in_line: bool) -> Admitted | None:
        expected = self.model.admits(self.now)
        assert (ticket >= 0) == (expected or self.model.measures), f"at {self.now}: {expected}"
        self.agree()
        if ticket < 0:
            return None
        call = self.model.let_in(ticket, self.now, expected)
        call.in_line = in_line
        self.let_in.append((len(self.events), call))
        return call

    def end(self, call: Admitted, outcome: int, duration: float) -> None:
        self.guard.settle(call.ticket, self.now, outcome, duration, "Boom", False)
        self.model.ended(call, self.now, outcome, duration)
        self.agree()

    def agree(self) -> None:
        told = [(e.kind, e.before, e.after, e.cause, e.at) for e in self.events]
        assert told == self.model.edges
        assert self.guard.state == self.model.shown
        self.check_delay()

    def check_delay(self) -> None:
        left = self.guard.retry_after(self.now)
        if self.guard.state != "open":
            assert self.model.closed_at is not None or left is None
            return
        assert left is not None
        kind, *_, at = self.model.edges[-1]
        if at == self.now and kind == "opened" and self.jitter:
            assert 0.8 * self.model.nominal() - 1e-9 <= left <= self.model.nominal()
            self.model.until = self.guard.until
        assert left == max(0.0, self.model.until - self.now)

    def alive(self, in_line: bool | None = None) -> list[Admitted]:
        return [c for c in self.model.admitted if c.alive and in_line in {None, c.in_line}]

    # -- rules

    @rule(step=STEPS)
    def time_passes(self, step: float) -> None:
        self.now += step

    @rule(choice=CHOICE)
    def time_passes_to_a_boundary(self, choice: int) -> None:
        window = self.options["window"]
        slice_of = 1.0 if isinstance(window, calls) else window / 10
        marks = {(floor(self.now / slice_of) + 1) * slice_of}
        marks |= {(floor(r.at / slice_of) + 10) * slice_of for r in self.model.counted[-3:]}
        for call in self.alive():
            marks |= {call.since + (self.options["slow_call_duration"] or 1.0)}
            marks |= {call.at + self.model.lease}
        later = sorted(mark for mark in marks if mark > self.now)
        self.now = later[choice % len(later)]

    @rule(early=st.sampled_from([0.0, 0.0, 0.0, 0.125]), number=st.integers(1, 4))
    def the_recovery_time_passes(self, early: float, number: int) -> None:
        if self.model.state == "open":
            self.now = max(self.now, self.model.until - early)
        self.calls_arrive(number, in_line=False)

    @rule(number=st.integers(1, 4), in_line=st.booleans())
    def calls_arrive(self, number: int, in_line: bool) -> None:
        for _ in range(number):
            self.ask(in_line)

    @rule(choice=CHOICE, outcome=OUTCOMES, step=STEPS)
    def a_call_ends(self, choice: int, outcome: int, step: float) -> None:
        alive = self.alive()
        if alive:
            self.now += step
            call = alive[choice % len(alive)]
            self.end(call, outcome, self.now - call.since)

    @rule(choice=CHOICE)
    def a_value_comes_late(self, choice: int) -> None:
        alive = self.alive()
        if alive:
            self.end(alive[choice % len(alive)], SUCCESS, inf)

    @rule(outcomes=STREAKS, duration=DURATIONS, step=STEPS)
    def calls_come_and_go(self, outcomes: list[int], duration: float, step: float) -> None:
        self.now += step
        for outcome in outcomes:
            call = self.ask()
            if call is not None:
                self.end(call, outcome, duration)

    @rule(choice=CHOICE, step=STEPS)
    def a_wait_further_inside_ends(self, choice: int, step: float) -> None:
        waiting = self.alive(in_line=True)
        if not waiting or self.model.forced == "forced_open":
            return
        self.now += step
        call = waiting[choice % len(waiting)]
        ticket = self.guard.confirm(call.ticket, self.now)
        if ticket >= 0:  # as the engine does
            self.guard.go_on(ticket, self.now)
        if call.epoch == self.model.epoch:
            assert ticket == call.ticket
            call.since, call.in_line = self.now, False
        else:
            call.alive = False
            self.took(ticket, in_line=False)

    @rule(state=st.sampled_from(["", "", "", "", "forced_open", "forced_closed"]))
    def an_operator_acts(self, state: str) -> None:
        forced = None if self.model.forced else state
        if forced != "":
            self.guard.force(forced, self.now)
            self.model.force(forced, self.now)
            self.agree()

    @rule()
    def somebody_looks(self) -> None:
        seen = self.guard.snapshot(self.now)
        window = self.model.shown_window(self.now)
        assert seen["state"] == self.model.shown
        assert seen["would_be"] == (self.model.state if self.model.measures else None)
        assert seen["would_refuse"] == self.model.would_refuse
        if self.model.measures:
            enough = len(window) >= self.options["minimum_calls"]
            share = sum(result.failed for result in window) / len(window) if enough else None
            assert seen["failure_ratio"] == share
        else:
            assert seen["failure_ratio"] == self.model.failure_ratio(self.now)
            assert seen["slow_ratio"] == self.model.slow_ratio(self.now)
        assert seen["window"]["calls"] == len(window)
        assert seen["window"]["failures"] == sum(result.failed for result in window)
        assert seen["consecutive_failures"] == self.model.in_a_row()
        if self.model.forced is None:
            assert seen["probes"] == len(self.model.probes())
        climbs = self.model.climbs(self.now)
        # Forced open the policy refuses before it is asked: the circuit's own share stands.
        acts = not self.model.measures and self.model.forced != "forced_closed"
        assert (seen["admitted_share"] < 1) == (climbs and acts)
        told = [event.kind for event in self.events]
        assert seen["would_open"] == told.count("would_open")
        edges = [f"{e.after}/{e.cause}" for e in self.events if e.kind != "would_open"]
        assert seen["transitions"] == {k: edges.count(k) for k in seen["transitions"]}

    # -- invariants that need no model

    @invariant()
    def only_legal_edges(self) -> None:
        told = [(event.before, event.after, event.cause) for event in self.events]
        assert set(told) <= LEGAL
        for (_, reached, _), (left, _, _) in pairwise(told):
            assert reached == left

    @invariant()
    def no_more_probes_than_allowed(self) -> None:
        if self.guard.state == "half_open" and self.model.forced is None:
            epoch = [call for events, call in self.let_in if events == len(self.events)]
            assert sum(call.alive for call in epoch) <= self.options["half_open_max_calls"]

    @invariant()
    def a_refusal_tells_a_time_within_the_delay(self) -> None:
        left = self.guard.retry_after(self.now)
        most = max(longest(self.options), self.options["ramp"] or 0.0)
        assert left is None or 0 <= left <= most

    @invariant()
    def late_results_are_counted(self) -> None:
        assert self.guard.late_total == self.model.late

    def teardown(self) -> None:
        """Never wedged: with time enough and no traffic, one of three callers is let in."""
        if self.model.forced == "forced_open":
            self.guard.force(None, self.now)
        pause = longest(self.options) + self.model.lease + (self.options["ramp"] or 0.0)
        assert any(self.guard.admit(self.now + k * pause) >= 0 for k in (1, 2, 3))


class TimeWindowed(Machine):
    """Rates and failures in a row over seconds."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "failure_rate": [0.25, 0.5, 1.0, None],
        "failure_threshold": [None, None, 5, 2],
        "window": [5.0, 10.0, 40.0],
        "minimum_calls": [2, 3, 3, 6],
        "recovery_timeout": [0.5, 5.0],
    }


class CountWindowed(Machine):
    """Rates and failures in a row over the last calls."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "failure_rate": [0.25, 0.5, 1.0, None],
        "failure_threshold": [None, None, 4, 2],
        "window": [calls(1), calls(4), calls(7)],
        "minimum_calls": [2, 3, 3, 6],
        "recovery_timeout": [0.5, 5.0],
    }


class Slow(Machine):
    """Slow calls, those in flight included."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "failure_rate": [None, 0.75],
        "failure_threshold": [None, 3],
        "window": [5.0, 10.0, calls(6)],
        "minimum_calls": [1, 2, 4],
        "slow_call_duration": [0.5, 1.0, 3.0],
        "slow_call_rate": [0.25, 0.5, 1.0],
        "recovery_timeout": [0.5, 5.0],
        "success_threshold": [1, 2],
        "half_open_max_calls": [1, 2],
    }


class HalfOpen(Machine):
    """Probes: a circuit that opens at the first failure."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "failure_threshold": [1],
        "slow_call_duration": [None, None, 1.0],
        "recovery_timeout": [0.5, 5.0, 40.0, 100.0],
        "recovery_backoff": [2.0, 2.0, 1.0, 1.5, 8.0],
        "max_recovery_timeout": [None, None, 100.0, 1000.0],
        "half_open_max_calls": [1, 2, 3],
        "success_threshold": [1, 2, 3],
        "probe_lease": [None, 1.0, 8.0],
    }


class Jittered(HalfOpen):
    """The same with a recovery time that is shortened at random."""

    jitter: ClassVar[list[float]] = [0.0, 0.3, 0.999, 0.55]


class Ramped(Machine):
    """A circuit that lets in a share after closing."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "failure_threshold": [1, 2],
        "slow_call_duration": [None, None, 1.0],
        "minimum_calls": [2, 20],
        "recovery_timeout": [0.5, 5.0],
        "success_threshold": [1, 2],
        "ramp": [0.5, 4.0, 16.0, 64.0],
        "metrics_only": [False, False, False, True],
    }


class MetricsOnly(Machine):
    """A breaker that only measures."""

    choices: ClassVar[dict[str, list[Any]]] = {
        "metrics_only": [True],
        "failure_rate": [None, 0.5],
        "failure_threshold": [None, 2],
        "minimum_calls": [1, 3],
        "slow_call_duration": [None, 1.0],
    }


MORE = settings(max_examples=60 if os.environ.get("RESILIENT_QUICK") else 150)


class TestTimeWindowed(TimeWindowed.TestCase):
    """B1 to B5 hold over a window of seconds."""

    settings = MORE


class TestCountWindowed(CountWindowed.TestCase):
    """B1 to B5 hold over a window of calls."""

    settings = MORE


class TestSlow(Slow.TestCase):
    """B5 holds for slow calls, where those in flight count once."""

    settings = MORE


class TestHalfOpen(HalfOpen.TestCase):
    """B2, B3 and B4 hold through many openings."""

    settings = MORE


class TestJittered(Jittered.TestCase):
    """B4 holds where the recovery time is random."""

    settings = MORE


class TestRamped(Ramped.TestCase):
    """B2 to B5 hold where a trip during the ramp is a relapse."""

    settings = MORE


class TestMetricsOnly(MetricsOnly.TestCase):
    """A breaker that only measures counts what the model would open at, and refuses nobody."""

    settings = MORE


# -- promises, one by one -------------------------------------------------------------------------


def breaker(**options: Any) -> Any:
    """Return a breaker without jitter."""
    guard = circuit_breaker(**options)
    guard.random = None
    return guard


def result(guard: Any, ticket: int, now: float, outcome: int, duration: float = 0.0) -> None:
    """Tell the guard how a call ended."""
    guard.settle(ticket, now, outcome, duration, "" if outcome == SUCCESS else "Boom", False)


def opened(now: float = 0.0, **options: Any) -> Any:
    """Return a breaker that opened at now."""
    guard = breaker(**{"failure_threshold": 1, **options})
    result(guard, guard.admit(now), now, FAILURE)
    assert guard.state == "open"
    return guard


@pytest.mark.parametrize("outcome", NEUTRAL)
def test_B2_a_probe_that_says_nothing_gives_only_its_place_back(outcome: int) -> None:
    """After a neutral probe the circuit is still half-open, and lets one more probe in."""
    guard = opened()
    result(guard, guard.admit(5.0), 5.5, outcome)
    assert guard.state == "half_open"
    assert guard.admit(5.5) >= 0
    assert guard.admit(5.5) < 0


def test_B2_a_lost_probe_is_failed_when_its_lease_ends() -> None:
    """A probe that never ends reopens the circuit after its lease, for twice the time."""
    guard = opened()
    assert guard.admit(5.0) >= 0
    assert guard.admit(9.875) < 0
    assert guard.state == "half_open"
    assert guard.admit(10.0) < 0
    assert (guard.state, guard.retry_after(10.0)) == ("open", 10.0)


@pytest.mark.parametrize("limit", [2.0, 12.0])
def test_B2_the_lease_is_the_longer_of_recovery_and_timeout(limit: float) -> None:
    """Without probe_lease, a probe may take as long as the policy's timeout lets it."""
    guard = breaker(failure_threshold=1)
    guard.meet((guard, timeout(limit), bulkhead(3)))
    result(guard, guard.admit(0.0), 0.0, FAILURE)
    guard.admit(5.0)
    lease = max(limit, 5.0)
    guard.admit(5.0 + lease - 0.125)
    assert guard.state == "half_open"
    guard.admit(5.0 + lease)
    assert guard.state == "open"


def test_B2_a_success_after_the_lease_does_not_close_the_circuit() -> None:
    """A probe whose lease has ended has failed, whatever it brings later."""
    guard = opened(probe_lease=1.0)
    ticket = guard.admit(5.0)
    result(guard, ticket, 6.0, SUCCESS, 1.0)
    assert guard.state != "closed"


def test_B2_a_success_does_not_close_the_circuit_beside_a_probe_whose_lease_ended() -> None:
    """A lease that has ended fails the half-open circuit before another probe can close it."""
    guard = opened(probe_lease=1.0, half_open_max_calls=2)
    guard.admit(5.0)
    second = guard.admit(5.5)
    result(guard, second, 6.25, SUCCESS, 0.75)
    assert guard.state != "closed"


def test_B3_a_result_of_an_older_epoch_moves_nothing() -> None:
    """A call let in before the circuit opened neither closes nor reopens it later."""
    guard = breaker(failure_threshold=2)
    old = [guard.admit(0.0) for _ in range(5)]
    for ticket in old[:2]:
        result(guard, ticket, 1.0, FAILURE)
    probe = guard.admit(6.0)
    result(guard, old[2], 6.0, SUCCESS)
    result(guard, old[3], 6.0, FAILURE)
    assert (guard.state, guard.snapshot(6.0)["late_results"]) == ("half_open", 2)
    result(guard, probe, 6.0, SUCCESS)
    result(guard, old[4], 6.0, FAILURE)
    assert (guard.state, guard.snapshot(6.0)["window"]["calls"]) == ("closed", 0)


@given(draw=st.floats(0, 1, exclude_max=True), tries=st.integers(0, 8))
def test_B4_the_delay_doubles_to_a_minute_and_jitter_only_shortens_it(
    draw: float, tries: int
) -> None:
    """Each opening lasts 0.8 to 1.0 of a delay that doubles, and ends exactly when it says."""
    guard = breaker(failure_threshold=1)
    guard.random = lambda: draw
    result(guard, guard.admit(0.0), 0.0, FAILURE)
    now = 0.0
    for failed in range(tries + 1):
        base, left = min(5.0 * 2**failed, 60.0), guard.retry_after(now)
        assert 0.8 * base - 1e-9 <= left <= base + 1e-9
        assert guard.admit(guard.until - 1e-6) < 0
        now = guard.until
        ticket = guard.admit(now)
        assert ticket >= 0
        result(guard, ticket, now, FAILURE)


def test_B4_a_long_recovery_time_is_not_shortened_by_the_limit() -> None:
    """A recovery_timeout above 60 s is kept, and not doubled."""
    guard = opened(recovery_timeout=90.0)
    assert guard.retry_after(0.0) == 90.0
    result(guard, guard.admit(90.0), 90.0, FAILURE)
    assert guard.retry_after(90.0) == 90.0


@pytest.mark.parametrize(
    ("options", "delays"),
    [
        ({"recovery_backoff": 1}, [5, 5, 5, 5]),
        ({"recovery_backoff": 3}, [5, 15, 45, 60]),
        ({"max_recovery_timeout": 12}, [5, 10, 12, 12]),
        ({"max_recovery_timeout": 5}, [5, 5, 5, 5]),
        ({"max_recovery_timeout": 300, "recovery_backoff": 10}, [5, 50, 300, 300]),
        ({"recovery_timeout": 90, "max_recovery_timeout": 200}, [90, 180, 200, 200]),
        ({"recovery_timeout": 1e-6, "recovery_backoff": 100}, [1e-6, 1e-4, 1e-2, 1]),
    ],
)
def test_B4_backoff_and_longest_delay_are_as_told(options: Any, delays: list[float]) -> None:
    """Each probe that fails multiplies the delay, up to the longest; a close starts it over."""
    guard = opened(**options)
    now = 0.0
    for delay in delays:
        assert guard.retry_after(now) == pytest.approx(delay)
        now = guard.until
        ticket = guard.admit(now)
        result(guard, ticket, now, FAILURE)
    now = guard.until
    result(guard, guard.admit(now), now, SUCCESS)
    result(guard, guard.admit(now), now, FAILURE)
    assert guard.retry_after(now) == pytest.approx(delays[0])


@pytest.mark.parametrize("backoff", [1.000001, 2.0, 100.0])
def test_B4_no_number_of_failed_probes_is_too_many(backoff: float) -> None:
    """A circuit that was never closed for a year still has a delay, and the longest one."""
    recovery = Recovery(
        recovery_timeout=5, recovery_backoff=backoff, max_recovery_timeout=300_000_000
    )
    assert recovery.seconds(10**9, None) == 300_000_000


@pytest.mark.parametrize("window", [10.0, calls(5)])
def test_B5_a_success_that_completes_the_volume_can_open(window: Any) -> None:
    """The rate is decided at each result, whatever that result is."""
    guard = breaker(failure_threshold=None, minimum_calls=3, window=window)
    for outcome, state in ((FAILURE, "closed"), (FAILURE, "closed"), (SUCCESS, "open")):
        result(guard, guard.admit(0.0), 0.0, outcome)
        assert guard.state == state


def test_B5_failures_in_a_row_count_only_at_low_volume() -> None:
    """With enough calls in the window the rate alone decides."""
    guard = breaker(failure_rate=0.9, failure_threshold=3, minimum_calls=6)
    for outcome in (SUCCESS, SUCCESS, SUCCESS, FAILURE, SUCCESS, FAILURE, FAILURE, FAILURE):
        result(guard, guard.admit(0.0), 0.0, outcome)
        assert guard.state == "closed"
    # Ten seconds later the window has room again, and the row goes on.
    result(guard, guard.admit(10.0), 10.0, FAILURE)
    assert guard.state == "open"


def test_B5_everything_hanging_opens_at_an_admission() -> None:
    """Calls that never end open the circuit when the next one asks, and each counts once."""
    guard = breaker(minimum_calls=3, slow_call_duration=1.0)
    for _ in range(3):
        assert guard.admit(0.0) >= 0
    assert guard.admit(0.875) >= 0
    assert guard.admit(1.0) < 0
    assert guard.state == "open"


def test_B5_a_call_that_was_overdue_counts_once_when_it_ends() -> None:
    """An overdue call moves from those in flight into the window."""
    guard = breaker(minimum_calls=10, slow_call_duration=1.0)
    ticket = guard.admit(0.0)
    assert guard.snapshot(2.0)["slow_ratio"] is None
    result(guard, ticket, 2.0, SUCCESS, 2.0)
    for number in range(9):
        assert guard.snapshot(2.0)["slow_ratio"] is None, number
        result(guard, guard.admit(2.0), 2.0, SUCCESS)
    assert guard.snapshot(2.0)["slow_ratio"] == 0.1


def test_B5_metrics_only_would_open_when_everything_hangs() -> None:
    """A breaker that only measures decides at admissions too, as the real one would."""
    guard = breaker(metrics_only=True, minimum_calls=3, slow_call_duration=1.0)
    for _ in range(3):
        guard.admit(0.0)
    assert guard.admit(1.0) >= 0
    assert guard.snapshot(1.0)["would_open"] == 1


def test_B6_two_trips_at_once_are_one_transition() -> None:
    """Failures that come together open the circuit once, for one recovery time."""
    guard = breaker(failure_threshold=2)
    events: list[Any] = []
    guard.emit = events.append
    for ticket in [guard.admit(0.0) for _ in range(6)]:
        result(guard, ticket, 0.0, FAILURE)
    assert [event.kind for event in events] == ["opened"]
    assert guard.retry_after(0.0) == 5.0


def test_B7_forced_closed_moves_nothing_until_it_is_released() -> None:
    """Under forced_closed failures open nothing; the release starts with a fresh window."""
    guard = breaker(failure_threshold=2)
    guard.force("forced_closed", 0.0)
    for _ in range(50):
        result(guard, guard.admit(0.0), 0.0, FAILURE)
    assert guard.state == "closed"
    guard.force(None, 1.0)
    result(guard, guard.admit(1.0), 1.0, FAILURE)
    assert guard.state == "closed"


def test_B7_forced_closed_released_is_a_fresh_window_where_only_measured() -> None:
    """What a breaker that only measures saw under forced_closed is forgotten at the release."""
    guard = breaker(failure_threshold=2, metrics_only=True)
    guard.force("forced_closed", 0.0)
    result(guard, guard.admit(0.0), 0.0, FAILURE)
    guard.force(None, 1.0)
    result(guard, guard.admit(1.0), 1.0, FAILURE)
    assert guard.snapshot(1.0)["would_open"] == 0


def test_B7_forced_open_released_is_half_open() -> None:
    """After forced_open a circuit tries a probe first, also one that had been closed."""
    guard = breaker()
    guard.force("forced_open", 0.0)
    guard.force(None, 1.0)
    assert guard.state == "half_open"
    assert guard.admit(1.0) >= 0
    assert guard.admit(1.0) < 0


# -- the ramp ---------------------------------------------


def climbing(ramp: float = 10.0, **options: Any) -> Any:
    """Return a breaker that has closed at 5.0, with a ramp."""
    guard = opened(ramp=ramp, **options)
    result(guard, guard.admit(5.0), 5.0, SUCCESS)
    assert guard.state == "closed"
    return guard


def test_a_ramp_lets_in_a_share_that_grows_from_a_tenth_to_all() -> None:
    """Of many calls at any time, the share; and the first one."""
    for passed, share in ((0.0, 0.1), (2.5, 0.325), (5.0, 0.55), (7.5, 0.775)):
        guard = climbing()
        assert guard.admit(5.0) >= 0
        tickets = [guard.admit(5.0 + passed) for _ in range(1000)]
        assert abs(sum(ticket >= 0 for ticket in tickets) - 1000 * share) <= 1
        assert guard.snapshot(5.0 + passed)["admitted_share"] == share
    guard = climbing()
    assert all(guard.admit(15.0) >= 0 for _ in range(100))
    assert guard.snapshot(15.0)["admitted_share"] == 1.0


def test_a_refusal_on_the_ramp_says_when_the_next_call_is_let_in() -> None:
    guard = climbing(ramp=1000.0)
    now, waits = 5.0, []
    for _ in range(40):
        now += 0.5
        if guard.admit(now) < 0:
            waits.append((now, guard.retry_after(now)))
            assert "closed again for" in guard.why
            assert "of the calls in" in guard.why
        else:
            for at, wait in waits[1:]:
                assert abs(at + wait - now) <= 0.5 + 1e-9
            waits = []
    assert climbing().retry_after(5.0) == 0.0  # the first is let in


def test_to_open_on_the_ramp_is_a_relapse_and_after_it_is_none() -> None:
    for at, delay in ((6.0, 10.0), (20.0, 5.0)):
        guard = climbing()
        result(guard, guard.admit(at), at, FAILURE)
        assert (guard.state, guard.retry_after(at)) == ("open", delay)


def test_an_operator_ends_the_ramp() -> None:
    guard = climbing()
    guard.force("forced_closed", 5.0)
    assert all(guard.admit(5.0) >= 0 for _ in range(20))
    guard.force(None, 5.0)
    assert all(guard.admit(5.0) >= 0 for _ in range(20))
    guard = climbing()
    guard.reset(5.0, "all is well")
    assert all(guard.admit(5.0) >= 0 for _ in range(20))


def test_a_ramp_lives_on_in_a_child_and_in_what_is_saved() -> None:
    guard, other = climbing(), breaker(failure_threshold=1, ramp=10.0)
    for _ in range(3):
        guard.admit(5.0)
    other.restore(guard.save())
    guard.after_fork(6.0, 0)
    told = [[each.admit(6.0) >= 0 for _ in range(30)] for each in (guard, other)]
    assert told[0] == told[1]
    assert 4 <= sum(told[0]) <= 6


def test_forced_open_on_the_ramp_the_circuits_own_share_stands() -> None:
    """The policy refuses before the circuit is asked; released, it probes again."""
    guard = breaker(failure_threshold=1, minimum_calls=2, recovery_timeout=0.5, ramp=0.5)
    result(guard, guard.admit(0.0), 0.0, FAILURE)
    result(guard, guard.admit(0.5), 0.5, SUCCESS)
    guard.force("forced_open", 0.5)
    assert guard.snapshot(0.5)["admitted_share"] == 0.1
    guard.force(None, 0.5)
    assert guard.state == "half_open"
    guard.force("forced_closed", 0.5)
    assert guard.snapshot(0.5)["admitted_share"] == 1.0


def test_a_retry_on_the_ramp_asks_again() -> None:
    """The next call is let in: it does not wait for the end of the ramp."""
    clock = ManualClock()
    again = retry(on=ConnectionError, attempts=2, wait_initial=0, wait_max=0, budget=None)
    guard: Any = circuit_breaker(failure_threshold=1, recovery_timeout=5, ramp=60)
    policy = Policy("ramped", again, guard, clock=clock)
    policy.try_call(_down)
    clock.advance(5)
    assert policy.call(lambda: "full") == "full"
    guard.health.failure_threshold = 100
    clock.advance(59.9)
    begun: list[int] = []

    def flaky() -> str:
        begun.append(1)
        if len(begun) == 1:
            raise ConnectionError
        return "full"

    assert guard.retry_after(clock.now()) == 0.0
    assert policy.call(flaky) == "full"
    assert guard.snapshot(clock.now())["admitted_share"] < 1


def _down() -> None:
    raise ConnectionError


def test_a_breaker_that_refuses_nothing_shows_no_share() -> None:
    guard = climbing()
    guard.force("forced_closed", 5.0)
    assert (guard.snapshot(5.0)["admitted_share"], guard.retry_after(5.0)) == (1.0, None)
