"""The counters of a policy: plain numbers that change only in its critical sections."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, Protocol

from ..outcomes import OUTCOMES, SUCCESS
from ..state_types import CountersState

# Upper edges of the duration buckets, in seconds; the same for every policy, so that they add up.
EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

SHORTEST: Final = EDGES[0]
PEAK_SPAN: Final = 60.0

# Positions in a row. A fast success changes only the first three.
QUICK: Final = 0
DURATION_SUM: Final = 1
IN_FLIGHT: Final = 2
ENDED: Final = 3  # by outcome; without the fast successes
FULL: Final = ENDED + len(OUTCOMES)  # without the fast successes too
DEGRADED: Final = FULL + 1
ERROR: Final = DEGRADED + 1
DURATIONS: Final = DEGRADED + 8
ROW: Final = (
    "quick", "duration_sum", "in_flight",
    *(f"ended:{outcome}" for outcome in OUTCOMES),
    "full", "degraded", "error", "caller_error", "timeouts", "late_values", "fallback_failures",
    "abandoned", "abandoned_total",
    *(f"duration:{edge:g}" for edge in (*EDGES, float("inf"))),
)  # fmt: skip
IN_PROGRESS: Final = ("in_flight", "abandoned")
LINE: Final = ("wait_sum", *(f"wait:{edge:g}" for edge in (*EDGES, float("inf"))))


class RowLayout(Protocol):
    """The order of the numbers in a row that other processes read: see `telemetry.schema`."""

    line: bool
    refused_at: dict[str, int]

    @property
    def refusing(self) -> tuple[str, ...]:
        """The kinds of the guards that may refuse."""
        ...


class Counters(CountersState):
    """The counters of one policy. The caller of every method holds the policy's lock."""

    __slots__ = (
        "abandoned", "abandoned_at", "abandoned_total", "buckets", "caller_errors", "errors",
        "fallback_failures", "full_without_success", "late_values", "not_succeeded", "peak_before",
        "timeouts", "wait_buckets", "wait_sum",
    )  # fmt: skip
    counts: list[int]
    degraded: int
    duration_sum: float
    in_flight: int
    layout: RowLayout | None
    peak: int
    peak_until: float
    quick: int
    refusals: dict[str, int]
    refused_at: dict[str, float]
    shared_row: memoryview[float] | None
    abandoned: int
    abandoned_total: int
    buckets: list[int]
    caller_errors: int
    errors: int
    full_without_success: int
    fallback_failures: int
    late_values: int
    peak_before: int
    timeouts: int
    not_succeeded: int
    wait_sum: float

    def clear(self) -> None:
        """Set all counts to zero, and share none with other processes."""
        self.shared_row = None  # in a page that other processes read: see resilient.pages
        self.layout = None  # of shared_row
        self.in_flight = self.abandoned = self.abandoned_total = 0
        self.abandoned_at: dict[int, float] = {}  # start times of abandoned bodies that still run
        self.counts = [0] * len(OUTCOMES)  # for SUCCESS, only calls that were never admitted
        self.not_succeeded = 0  # admitted calls that did not succeed
        self.full_without_success = self.degraded = self.errors = self.caller_errors = 0
        self.timeouts = self.fallback_failures = self.late_values = 0
        self.refusals, self.refused_at = {}, {}
        self.buckets = [0] * (len(EDGES) + 1)  # see durations
        self.quick = 0  # successes within the first bucket that the fast path counted
        self.wait_buckets: list[int] | None = None  # until a call has waited
        self.duration_sum = self.wait_sum = 0.0
        self.peak = self.peak_before = 0
        self.peak_until = float("-inf")

    def outcomes(self) -> list[int]:
        """Return the number of calls by outcome.

        Successes are derived from the other counts, which saves a good call one increment.
        """
        counts = self.counts.copy()
        counts[SUCCESS] += self.quick + sum(self.buckets) - self.not_succeeded
        return counts

    @property
    def full(self) -> int:
        """The number of calls that the function itself answered."""
        return self.outcomes()[SUCCESS] + self.full_without_success

    def entered(self, now: float) -> None:
        """Count an admitted call."""
        if now >= self.peak_until:
            self.roll_peak(now)
        self.in_flight += 1
        if self.in_flight > self.peak:
            self.peak = self.in_flight
        if self.shared_row is not None:
            self.shared_row[IN_FLIGHT] = self.in_flight

    def ended(self, outcome: int, duration: float) -> None:
        """Count the end of an admitted call."""
        bucket = bisect_left(EDGES, duration)
        self.in_flight -= 1
        self.buckets[bucket] += 1
        self.duration_sum += duration
        if outcome != SUCCESS:  # last, so that an interrupt never lowers the number of successes
            self.counts[outcome] += 1
            self.not_succeeded += 1

    def count_error(self) -> None:
        """Count a refusal that nothing has answered. The caller holds the lock."""
        self.errors += 1
        self.write_shared_row()

    def answer_failed(self, callers: bool) -> None:
        """Count a fallback that failed, as the caller's own error or as an error."""
        self.errors += not callers
        self.caller_errors += callers
        self.fallback_failures += 1
        self.write_shared_row()

    @property
    def durations(self) -> list[int]:
        """The number of calls by duration bucket."""
        return [self.buckets[0] + self.quick, *self.buckets[1:]]

    def waited(self, seconds: float) -> None:
        """Count a wait in the queue that got a slot."""
        if self.wait_buckets is None:
            self.wait_buckets = [0] * (len(EDGES) + 1)
        self.wait_buckets[bisect_left(EDGES, seconds)] += 1
        self.wait_sum += seconds

    @property
    def waits(self) -> list[int]:
        """The number of waits by duration bucket."""
        return [0] * (len(EDGES) + 1) if self.wait_buckets is None else self.wait_buckets.copy()

    def roll_peak(self, now: float) -> None:
        """Begin a new span of the rolling peak."""
        recent = now < self.peak_until + PEAK_SPAN
        self.peak_before = self.peak if recent else self.in_flight
        self.peak = self.in_flight
        self.peak_until = now + PEAK_SPAN

    # -- shared with other processes ---------------------------------------------

    def row(self, layout: RowLayout) -> list[float]:
        """Return the numbers in the order of ROW, then those of the queue and of refusals."""
        buckets, counts = self.buckets, self.counts
        good = counts[SUCCESS] + sum(buckets) - self.not_succeeded
        row = [
            self.quick, self.duration_sum, self.in_flight,
            good, counts[1], counts[2], counts[3], counts[4],
            good + self.full_without_success, self.degraded, self.errors, self.caller_errors,
            self.timeouts, self.late_values, self.fallback_failures,
            self.abandoned, self.abandoned_total,
            *buckets,
        ]  # fmt: skip
        if layout.line:
            row += [self.wait_sum, *self.waits]
        refusals = self.refusals
        return row + [refusals.get(kind, 0) for kind in layout.refusing]

    def show_in(self, shared_row: memoryview[float] | None, layout: RowLayout | None) -> None:
        """Write all counts to this row from now on, or stop sharing them."""
        self.shared_row, self.layout = shared_row, layout
        self.write_shared_row()

    def write_shared_row(self) -> None:
        """Write all counts to the shared row, if there is one."""
        if self.shared_row is not None and self.layout is not None:
            row = array("d", self.row(self.layout))
            self.shared_row[: len(row)] = row
