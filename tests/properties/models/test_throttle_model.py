"""The throttle against a naive recount of all that it has seen."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from resilient.guards.base import REFUSE
from resilient.guards.throttle import Throttle
from resilient.outcomes import FAILURE, IGNORED, SUCCESS

SLICES = 10
steps = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.0, 0.25, 1.0, 5.0]), st.floats(0, 0.999),
        st.sampled_from([SUCCESS, FAILURE, FAILURE, IGNORED]),
    ),
    max_size=60,
)  # fmt: skip


class Naive:
    """Keeps everything, and counts it anew each time."""

    def __init__(self, failure_rate: float, window: float, minimum: int, most: float) -> None:
        self.failure_rate, self.slice, self.minimum, self.most = (
            failure_rate, window / SLICES, minimum, most,
        )  # fmt: skip
        self.seen: list[tuple[float, str]] = []

    def share(self, now: float) -> float:
        oldest = now // self.slice - SLICES
        recent = [what for at, what in self.seen if at // self.slice > oldest]
        if len(recent) < self.minimum:
            return 0.0
        accepts = recent.count("answered")
        k = 1 / (1 - self.failure_rate)
        return max(0.0, min((len(recent) - k * accepts) / (len(recent) + 1), self.most))


@given(
    st.sampled_from([0.1, 0.5, 0.9]), st.sampled_from([2.5, 10.0]), st.integers(1, 8),
    st.sampled_from([0.3, 0.9]), steps,
)  # fmt: skip
def test_it_refuses_the_share_that_the_formula_says(
    failure_rate: float, window: float, minimum: int, most: float,
    plan: list[tuple[float, float, int]],
) -> None:  # fmt: skip
    guard = Throttle(
        failure_rate=failure_rate, window=window, minimum_calls=minimum, max_refused=most
    )
    naive, now = Naive(failure_rate, window, minimum, most), 1000.0
    for pause, drawn, outcome in plan:
        now += pause
        share = naive.share(now)
        assert abs(guard.share(now) - share) < 1e-9
        assert share <= 0.9
        guard.random = lambda drawn=drawn: drawn  # type: ignore[misc]
        refused = guard.admit(now) == REFUSE
        if abs(drawn - share) > 1e-9:
            assert refused == (drawn < share)
        if refused:
            naive.seen.append((now, "refused"))
            continue
        guard.settle(0, now, outcome, 0.1, "", False)
        if outcome != IGNORED:
            naive.seen.append((now, "answered" if outcome == SUCCESS else "failed"))
