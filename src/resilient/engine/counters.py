"""What a policy counts: plain numbers, which only its critical sections change."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from typing import Final, Protocol

from ..outcomes import OUTCOMES, SUCCESS

# Upper edges of the duration buckets, in seconds: equal for every policy, so that sums make sense.
EDGES: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)

SHORTEST: Final = EDGES[0]
PEAK_SPAN: Final = 60.0

# Where the numbers lie in a row. A good and quick call changes the first three alone.
QUICK: Final = 0
DURATION_SUM: Final = 1
IN_FLIGHT: Final = 2
ENDED: Final = 3  # by outcome; the successes without the quick ones
FULL: Final = ENDED + len(OUTCOMES)  # without the quick ones too
DEGRADED: Final = FULL + 1
DURATIONS: Final = DEGRADED + 8
ROW: Final = (
    "quick", "duration_sum", "in_flight",
    *(f"ended:{outcome}" for outcome in OUTCOMES),
    "full", "degraded", "error", "caller_error", "timeouts", "late_values", "fallback_failures",
    "abandoned", "abandoned_total",
    *(f"duration:{edge:g}" for edge in (*EDGES, float("inf"))),
)  # fmt: skip
LINE: Final = ("wait_sum", *(f"wait:{edge:g}" for edge in (*EDGES, float("inf"))))


class RowLayout(Protocol):
    """What lies where in a row that other processes read: see `resilient.rows`."""

    line: bool
    refused_at: dict[str, int]

    @property
    def refusing(self) -> tuple[str, ...]:
        """The guards that may refuse."""
        ...


class Counters:
    """One policy's counts. Everything here is done under the policy's lock."""

    __slots__ = (
        "abandoned",
        "abandoned_at",
        "abandoned_total",
        "buckets",
        "caller_errors",
        "counts",
        "degraded",
        "duration_sum",
        "errors",
        "fallback_failures",
        "full_without_success",
        "in_flight",
        "late_values",
        "layout",
        "not_succeeded",
        "peak",
        "peak_before",
        "peak_until",
        "quick",
        "refusals",
        "refused_at",
        "shared_row",
        "timeouts",
        "wait_buckets",
        "wait_sum",
    )  # fmt: skip
    abandoned: int
    abandoned_total: int
    buckets: list[int]
    caller_errors: int
    shared_row: memoryview[float] | None
    counts: list[int]
    degraded: int
    duration_sum: float
    errors: int
    full_without_success: int
    fallback_failures: int
    in_flight: int
    late_values: int
    layout: RowLayout | None
    peak: int
    peak_before: int
    peak_until: float
    quick: int
    timeouts: int
    not_succeeded: int
    wait_sum: float

    def clear(self) -> None:
        """Set every count to zero, and share none with other processes."""
        self.shared_row = None  # of a page that other processes read: see resilient.pages
        self.layout = None  # what lies where in them
        self.in_flight = self.abandoned = self.abandoned_total = 0
        self.abandoned_at: dict[int, float] = {}  # when, of the bodies that still run
        self.counts = [0] * len(OUTCOMES)  # of successes, only those that were never let in
        self.not_succeeded = 0  # calls that were let in and did not succeed
        self.full_without_success = self.degraded = self.errors = self.caller_errors = 0
        self.timeouts = self.fallback_failures = self.late_values = 0
        self.refusals: dict[str, int] = {}
        self.refused_at: dict[str, float] = {}
        self.buckets = [0] * (len(EDGES) + 1)  # see durations
        self.quick = 0  # most of those in the first
        self.wait_buckets: list[int] | None = None  # until somebody has waited
        self.duration_sum = self.wait_sum = 0.0
        self.peak = self.peak_before = 0
        self.peak_until = float("-inf")

    def outcomes(self) -> list[int]:
        """Return how many calls ended how; under the lock.

        Successes are what is left of all that ended: a good call pays for one count less.
        """
        counts = self.counts.copy()
        counts[SUCCESS] += self.quick + sum(self.buckets) - self.not_succeeded
        return counts

    @property
    def full(self) -> int:
        """Calls that the function itself answered; under the lock."""
        return self.outcomes()[SUCCESS] + self.full_without_success

    def entered(self, now: float) -> None:
        """Count a call that all guards have let in; under the lock."""
        if now >= self.peak_until:
            self.roll_peak(now)
        self.in_flight += 1
        if self.in_flight > self.peak:
            self.peak = self.in_flight
        if self.shared_row is not None:
            self.shared_row[IN_FLIGHT] = self.in_flight

    def ended(self, outcome: int, duration: float) -> None:
        """Count a call that had been let in; under the lock."""
        bucket = bisect_left(EDGES, duration)
        self.in_flight -= 1
        self.buckets[bucket] += 1
        self.duration_sum += duration
        if outcome != SUCCESS:  # last: an interrupt must not make the successes fewer
            self.counts[outcome] += 1
            self.not_succeeded += 1

    def answer_failed(self, callers: bool) -> None:
        """Count a fallback that failed, and whose error it was; under the lock."""
        self.errors += not callers
        self.caller_errors += callers
        self.fallback_failures += 1
        self.write_shared_row()

    @property
    def durations(self) -> list[int]:
        """How many calls took how long; under the lock."""
        return [self.buckets[0] + self.quick, *self.buckets[1:]]

    def waited(self, seconds: float) -> None:
        """Count a wait in line that got a slot; under the lock."""
        if self.wait_buckets is None:
            self.wait_buckets = [0] * (len(EDGES) + 1)
        self.wait_buckets[bisect_left(EDGES, seconds)] += 1
        self.wait_sum += seconds

    @property
    def waits(self) -> list[int]:
        """How many waited how long; under the lock."""
        return [0] * (len(EDGES) + 1) if self.wait_buckets is None else self.wait_buckets.copy()

    def roll_peak(self, now: float) -> None:
        """Begin a new span of the rolling peak; under the lock."""
        recent = now < self.peak_until + PEAK_SPAN
        self.peak_before = self.peak if recent else self.in_flight
        self.peak = self.in_flight
        self.peak_until = now + PEAK_SPAN

    # -- shown to other processes ---------------------------------------------

    def row(self, layout: RowLayout) -> list[float]:
        """Return the numbers in the order of ROW, then those of the line and of refusals."""
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
        """Show all counts in cells from here on, or in none; under the lock."""
        self.shared_row, self.layout = shared_row, layout
        self.write_shared_row()

    def write_shared_row(self) -> None:
        """Write all counts to the cells, if there are any."""
        if self.shared_row is not None and self.layout is not None:
            row = array("d", self.row(self.layout))
            self.shared_row[: len(row)] = row
