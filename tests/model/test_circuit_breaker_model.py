"""The circuit breaker against a model that keeps every call and recounts from scratch.

All times are multiples of 1/8 s and all windows have slices that binary fractions hold exactly, so
that the boundaries (an age of exactly `slow_call_duration`, the last instant of a slice) are met.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, takewhile
from math import floor, inf
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from resilient import bulkhead, calls, circuit_breaker, timeout
from resilient.outcomes import CANCELLED, FAILURE, IGNORED, REFUSED, SUCCESS

OPTIONS: dict[str, Any] = {
    "failure_rate": 0.5,
    "failure_threshold": 5,
    "window": 10.0,
    "minimum_calls": 20,
    "slow_call_duration": None,
    "slow_call_rate": 0.5,
    "recovery_timeout": 5.0,
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


class Naive:
    """What the design says, by recounting."""

    def __init__(self, options: dict[str, Any], lease: float) -> None:
        self.options = options
        self.lease = lease
        self.home = "metrics_only" if options["metrics_only"] else "closed"
        self.state = self.home
        self.forced: str | None = None
        self.epoch = 0
        self.admitted: list[Admitted] = []
        self.counted: list[Counted] = []
        self.good_probes: list[int] = []  # the epoch of each
        self.failed_tries = 0
        self.until = 0.0
        self.edges: list[tuple[str, str, str, str, float]] = []
        self.late = 0

    # what is in the window, in flight, in a row

    def window(self, now: float) -> list[Counted]:
        mine = [result for result in self.counted if result.epoch == self.epoch]
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
        base: float = self.options["recovery_timeout"]
        return min(base * 2**self.failed_tries, max(60.0, base))

    # what happens

    def move(self, kind: str, state: str, now: float, cause: str = "auto") -> None:
        self.edges.append((kind, self.state, state, cause, now))
        self.state = state
        self.epoch += 1

    def open(self, now: float) -> None:
        if self.home == "metrics_only":
            self.move("would_open", "metrics_only", now)
        else:
            self.until = now + self.nominal()
            self.move("opened", "open", now)

    def admits(self, now: float) -> bool:
        if self.forced == "forced_closed":
            return True
        if self.state in {"closed", "metrics_only"}:
            if self.slow(now):
                self.open(now)
            return self.state != "open"
        if self.state == "open":
            if now < self.until:
                return False
            self.move("half_open", "half_open", now)
        if self.lease_over(now):
            self.failed_tries += 1
            self.open(now)
            return False
        return len(self.probes()) < self.options["half_open_max_calls"]

    def let_in(self, ticket: int, now: float) -> Admitted:
        probe = self.state == "half_open" and self.forced is None
        call = Admitted(ticket, self.epoch, now, now, probe)
        self.admitted.append(call)
        return call

    def ended(self, call: Admitted, now: float, outcome: int, duration: float) -> None:
        call.alive = False
        slow = duration >= (self.options["slow_call_duration"] or inf)
        if outcome in NEUTRAL:
            return
        if call.epoch != self.epoch:
            self.late += 1
        elif call.probe and self.forced != "forced_closed":
            if outcome == FAILURE or (slow and self.options["slow_call_duration"] is not None):
                self.failed_tries += 1
                self.open(now)
                return
            self.good_probes.append(self.epoch)
            if self.good_probes.count(self.epoch) >= self.options["success_threshold"]:
                self.failed_tries = 0
                self.move("closed", "closed", now)
        else:
            self.counted.append(Counted(self.epoch, now, outcome == FAILURE, slow))
            if self.forced != "forced_closed" and (self.failing(now) or self.slow(now)):
                self.open(now)

    def force(self, state: str | None, now: float) -> None:
        released, self.forced = self.forced, state
        if state is not None:
            return
        if self.home == "metrics_only":
            self.epoch += released == "forced_closed"  # a fresh window; it has no other state
        elif released == "forced_closed":
            self.failed_tries = 0
            self.move("closed", "closed", now, "operator")
        else:
            self.move("half_open", "half_open", now, "operator")


# -- the machine -----------------------------------------------------------------------------------

STEPS = st.sampled_from([0.0, 0.125, 0.25, 0.5, 1.0, 1.0, 2.5, 5.0, 9.0, 11.0, 61.0])
OUTCOMES = st.sampled_from([SUCCESS, SUCCESS, FAILURE, FAILURE, IGNORED, CANCELLED, REFUSED])
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

    choices: dict[str, list[Any]] = {}
    jitter: list[float] = []  # what guard.random gives, in turn

    @initialize(data=st.data(), start=st.sampled_from([0.0, 0.5, 1000.0, 86_400.125]))
    def build(self, data: st.DataObject, start: float) -> None:
        options = data.draw(options_of(self.choices), label="options")
        limit = data.draw(st.sampled_from([None, 0.5, 30.0]), label="timeout of the policy")
        self.guard = circuit_breaker(**options)
        peers = [] if limit is None else [timeout(limit)]
        self.guard.joined((self.guard, *peers))
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
        ticket = self.guard.before(self.now)
        expected = self.model.admits(self.now)
        assert (ticket >= 0) == expected, f"at {self.now}: expected let in = {expected}"
        return self.took(ticket, in_line)

    def took(self, ticket: int, in_line: bool) -> Admitted | None:
        self.agree()
        if ticket < 0:
            return None
        call = self.model.let_in(ticket, self.now)
        call.in_line = in_line
        self.let_in.append((len(self.events), call))
        return call

    def end(self, call: Admitted, outcome: int, duration: float) -> None:
        if self.model.lease_over(self.now):
            self.ask()  # a lease that is over is noticed at an admission, at the latest
        self.guard.after(call.ticket, self.now, outcome, duration, "Boom", False)
        self.model.ended(call, self.now, outcome, duration)
        self.agree()

    def agree(self) -> None:
        told = [(e.kind, e.before, e.after, e.cause, e.at) for e in self.events]
        assert told == self.model.edges
        assert self.guard.state == self.model.state
        self.check_delay()

    def check_delay(self) -> None:
        left = self.guard.retry_after(self.now)
        if self.guard.state != "open":
            assert left is None
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
        slice_of = OPTIONS["window"] / 10
        if not isinstance(self.options["window"], calls):
            slice_of = self.options["window"] / 10
        marks = {(floor(self.now / slice_of) + 1) * slice_of, self.model.until}
        marks |= {(floor(r.at / slice_of) + 10) * slice_of for r in self.model.counted[-3:]}
        for call in self.alive():
            marks |= {call.since + (self.options["slow_call_duration"] or 1.0)}
            marks |= {call.at + self.model.lease}
        later = sorted(mark for mark in marks if mark > self.now)
        self.now = later[choice % len(later)]

    @precondition(lambda self: self.model.state == "open")
    @rule(early=st.sampled_from([0.0, 0.0, 0.125]))
    def the_recovery_time_passes(self, early: float) -> None:
        self.now = max(self.now, self.model.until - early)

    @precondition(lambda self: self.model.forced != "forced_open")
    @rule(number=st.integers(1, 4), in_line=st.booleans())
    def calls_arrive(self, number: int, in_line: bool) -> None:
        for _ in range(number):
            self.ask(in_line)

    @precondition(lambda self: self.alive())
    @rule(choice=CHOICE, outcome=OUTCOMES)
    def a_call_ends(self, choice: int, outcome: int) -> None:
        call = self.alive()[choice % len(self.alive())]
        self.end(call, outcome, self.now - call.since)

    @precondition(lambda self: self.alive())
    @rule(choice=CHOICE)
    def a_value_comes_late(self, choice: int) -> None:
        self.end(self.alive()[choice % len(self.alive())], SUCCESS, inf)

    @precondition(lambda self: self.model.forced != "forced_open")
    @rule(number=st.integers(1, 5), outcome=OUTCOMES, duration=DURATIONS)
    def calls_come_and_go(self, number: int, outcome: int, duration: float) -> None:
        for _ in range(number):
            call = self.ask()
            if call is not None:
                self.end(call, outcome, duration)

    @precondition(lambda self: self.model.forced != "forced_open" and self.alive(in_line=True))
    @rule(choice=CHOICE)
    def a_wait_further_inside_ends(self, choice: int) -> None:
        waiting = self.alive(in_line=True)
        call = waiting[choice % len(waiting)]
        ticket = self.guard.resume(call.ticket, self.now)
        if call.epoch == self.model.epoch:
            assert ticket == call.ticket
            call.since, call.in_line = self.now, False
        else:
            call.alive = False
            assert (ticket >= 0) == self.model.admits(self.now)
            self.took(ticket, in_line=False)

    @precondition(lambda self: self.model.forced is None)
    @rule(state=st.sampled_from(["forced_open", "forced_closed"]), sure=st.integers(0, 2))
    def an_operator_forces(self, state: str, sure: int) -> None:
        if sure:  # most histories are without an operator
            return
        self.guard.force(state, self.now)
        self.model.force(state, self.now)
        self.agree()

    @precondition(lambda self: self.model.forced is not None)
    @rule()
    def an_operator_releases(self) -> None:
        self.guard.force(None, self.now)
        self.model.force(None, self.now)
        self.agree()

    @rule()
    def somebody_looks(self) -> None:
        seen = self.guard.snapshot(self.now)
        window = self.model.window(self.now)
        assert seen["state"] == self.model.state
        assert seen["failure_ratio"] == self.model.failure_ratio(self.now)
        assert seen["slow_ratio"] == self.model.slow_ratio(self.now)
        assert seen["window"]["calls"] == len(window)
        assert seen["window"]["failures"] == sum(result.failed for result in window)
        assert seen["consecutive_failures"] == self.model.in_a_row()
        if self.model.forced is None:
            assert seen["probes"] == len(self.model.probes())
        told = [event.kind for event in self.events]
        assert seen["would_open"] == told.count("would_open")
        edges = [f"{event.after}/{event.cause}" for event in self.events]
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
        assert left is None or 0 <= left <= max(60.0, self.options["recovery_timeout"])

    @invariant()
    def late_results_are_counted(self) -> None:
        assert self.guard.late_total == self.model.late

    def teardown(self) -> None:
        """Never wedged: with time enough and no traffic, one of three callers is let in."""
        if self.model.forced == "forced_open":
            self.guard.force(None, self.now)
        pause = max(60.0, self.options["recovery_timeout"]) + self.model.lease
        assert any(self.guard.before(self.now + k * pause) >= 0 for k in (1, 2, 3))


class TimeWindowed(Machine):
    """Rates and failures in a row over seconds."""

    choices = {
        "failure_rate": [None, 0.25, 0.5, 1.0],
        "failure_threshold": [None, 1, 3, 5],
        "window": [5.0, 10.0, 40.0],
        "minimum_calls": [1, 3, 6],
        "recovery_timeout": [0.5, 5.0],
    }


class CountWindowed(Machine):
    """Rates and failures in a row over the last calls."""

    choices = {
        "failure_rate": [None, 0.25, 0.5, 1.0],
        "failure_threshold": [None, 2, 4],
        "window": [calls(1), calls(4), calls(7)],
        "minimum_calls": [1, 3, 6],
        "recovery_timeout": [0.5, 5.0],
    }


class Slow(Machine):
    """Slow calls, those in flight included."""

    choices = {
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

    choices = {
        "failure_threshold": [1],
        "slow_call_duration": [None, None, 1.0],
        "recovery_timeout": [0.5, 5.0, 40.0, 100.0],
        "half_open_max_calls": [1, 2, 3],
        "success_threshold": [1, 2, 3],
        "probe_lease": [None, 1.0, 8.0],
    }


class Jittered(HalfOpen):
    """The same with a recovery time that is shortened at random."""

    jitter = [0.0, 0.3, 0.999, 0.55]


class MetricsOnly(Machine):
    """A breaker that only measures."""

    choices = {
        "metrics_only": [True],
        "failure_rate": [None, 0.5],
        "failure_threshold": [None, 2],
        "minimum_calls": [1, 3],
        "slow_call_duration": [None, 1.0],
    }

    def took(self, ticket: int, in_line: bool) -> Admitted | None:
        assert ticket >= 0
        return super().took(ticket, in_line)


class TestTimeWindowed(TimeWindowed.TestCase):
    """B1 to B5 hold over a window of seconds."""


class TestCountWindowed(CountWindowed.TestCase):
    """B1 to B5 hold over a window of calls."""


class TestSlow(Slow.TestCase):
    """B5 holds for slow calls, where those in flight count once."""


class TestHalfOpen(HalfOpen.TestCase):
    """B2, B3 and B4 hold through many openings."""


class TestJittered(Jittered.TestCase):
    """B4 holds where the recovery time is random."""


class TestMetricsOnly(MetricsOnly.TestCase):
    """A breaker that only measures counts what the model would open at, and refuses nobody."""
