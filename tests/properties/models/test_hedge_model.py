"""Races of two copies, at random, against what the design says of them (H1 to H3)."""

from __future__ import annotations

import warnings
from typing import Any

import anyio
import anyio.lowlevel
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from resilient import OrderWarning, Policy, bulkhead, circuit_breaker, hedge, registry, timeout
from resilient.testing import ManualClock
from tests.kit.policies import idle
from tests.kit.worlds import BACKENDS, run

ENDS = st.sampled_from(["answer", "answer", "error", "hangs"])
TIMES = st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 5.0])
STEP = 0.25
LONG = 36  # steps


class Copy:
    """A copy as the test sees it: when its body began, and how it went out."""

    def __init__(self, at: float) -> None:
        self.at, self.out, self.how = at, -1.0, ""


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    backend=st.sampled_from(BACKENDS),
    delay=st.sampled_from([0.0, 1.0, 2.0]),
    plans=st.lists(st.tuples(TIMES, ENDS), min_size=2, max_size=2),
    slots=st.integers(1, 3),
    limits=st.sampled_from([(None, None), (4.0, None), (None, 2.0), (4.0, 2.0)]),
    gives_up=st.sampled_from([None, 0.75, 2.5]),
)
def test_h_races(
    backend: str, delay: float, plans: list[tuple[float, str]], slots: int,
    limits: tuple[float | None, float | None], gives_up: float | None,
) -> None:  # fmt: skip
    clock = ManualClock()
    total, own = limits
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OrderWarning)  # a delay as long as a timeout
        of = Policy(
            "hedge-model",
            *([] if total is None else [timeout(total)]),
            hedge(delay, idempotent=True),
            circuit_breaker(failure_threshold=100),
            bulkhead(slots),
            *([] if own is None else [timeout(own)]),
            clock=clock,
        )
    start, copies, returned = clock.now(), list[Copy](), list[Any]()

    async def body() -> int:
        number = len(copies)
        copies.append(Copy(clock.now() - start))
        mine, (takes, how) = copies[-1], plans[number]
        try:
            while how == "hangs" or clock.now() - start < mine.at + takes:
                await anyio.lowlevel.checkpoint()
            mine.how = how
            if how == "error":
                raise ConnectionError(f"error {number}")
            return number  # noqa: TRY300 - it belongs to the steps before it
        except anyio.get_cancelled_exc_class():
            mine.how = "cancelled"
            raise
        finally:
            mine.out = clock.now() - start

    async def call() -> None:
        returned.append(await of.atry_call(body))
        assert all(each.how for each in copies)  # H1: none runs on when the caller goes on

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(call)
            for step in range(LONG):
                for _ in range(40):
                    await anyio.lowlevel.checkpoint()
                if returned or (gives_up is not None and step * STEP >= gives_up):
                    break
                clock.advance(STEP)
            group.cancel_scope.cancel()

    try:
        run(backend, main)
        check(of, copies, returned, delay, slots)
    finally:
        registry.remove("hedge-model")


def check(of: Policy, copies: list[Copy], returned: list[Any], delay: float, slots: int) -> None:
    """Hold what was seen against the design."""
    idle(of)
    told = of.snapshot()
    hedged = told["guards"][1 if told["guards"][0]["guard"] == "timeout" else 0]
    assert 1 <= len(copies) <= min(2, slots)  # H1, H3
    assert sum(told["calls"].values()) == 1
    assert hedged["left"] == 0
    assert sum(hedged["hedged"].values()) == (len(copies) == 2)
    # Each copy is paid, and no other one; meanwhile there come 0.1 a second.
    assert (hedged["budget_left"] < 10) == (len(copies) == 2)
    answers = [number for number, each in enumerate(copies) if each.how == "answer"]
    if len(copies) == 2:
        assert copies[1].at >= delay
        assert not (copies[0].how == "answer" and copies[0].out < copies[1].at)  # H2
    if not returned:
        assert told["calls"]["cancelled"] == 1
        return
    (found,) = returned
    assert found.attempts == len(copies)
    if found.error is None:
        assert found.value in answers
        assert copies[found.value].out == min(copies[each].out for each in answers)
    else:
        assert not answers
        assert told["calls"]["failure"] == 1
        if isinstance(found.error, ConnectionError):
            failed = [number for number, each in enumerate(copies) if each.how == "error"]
            assert str(found.error) == f"error {failed[0]}"
