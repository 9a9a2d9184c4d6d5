"""The virtual loop: time jumps to the next timer, tasks run as on a real one, and never sleep."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from resilient import CallTimeoutError, Policy, bulkhead, registry, timeout
from resilient.simulate.loop import DeadlockError, LoopClock, VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.shut()


def test_a_year_passes_in_a_moment(loop: VirtualLoop) -> None:
    loop.run_until_complete(asyncio.sleep(365 * 86_400))
    assert loop.time() == pytest.approx(365 * 86_400)


def test_timers_run_in_their_order_each_at_its_time(loop: VirtualLoop) -> None:
    seen: list[tuple[str, float]] = []
    for name, when in (("c", 3.0), ("a", 0.1), ("b", 0.1 + 0.2)):
        loop.call_at(when, lambda name=name: seen.append((name, loop.time())))
    loop.run_until_complete(asyncio.sleep(5))
    assert [name for name, _ in seen] == ["a", "b", "c"]
    assert [at for _, at in seen] == pytest.approx([0.1, 0.3, 3.0])


def test_a_timer_never_runs_before_its_time(loop: VirtualLoop) -> None:
    """A sum that rounds down would leave a policy's deadline a little ahead, for ever."""
    early: list[float] = []

    def check(when: float) -> None:
        if loop.time() < when:
            early.append(when)

    for number in range(1, 2000):
        loop.call_at(number * 0.1 / 3, check, number * 0.1 / 3)
    loop.run_until_complete(asyncio.sleep(100))
    assert early == []


def test_where_nobody_can_go_on_it_says_so(loop: VirtualLoop) -> None:
    async def wait() -> None:
        await asyncio.Event().wait()

    with pytest.raises(DeadlockError, match="nothing is ready and no timer is set"):
        loop.run_until_complete(wait())


def test_a_policy_waits_and_is_bounded_by_its_time(loop: VirtualLoop) -> None:
    """The engine's own timers and queues: nothing of them is made anew here."""
    policy = Policy(
        "on-a-virtual-clock",
        bulkhead(1, max_waiting=1, max_wait=5.0),
        timeout(2.0),
        clock=LoopClock(loop),
    )
    ended: list[tuple[str, float]] = []

    @policy
    async def body(seconds: float) -> None:
        await asyncio.sleep(seconds)

    async def call(name: str, seconds: float) -> None:
        try:
            await body(seconds)
        except CallTimeoutError:
            name += " timed out"
        ended.append((name, round(loop.time(), 6)))

    async def main() -> None:
        await asyncio.gather(call("first", 10.0), call("second", 1.0))

    loop.run_until_complete(main())
    registry.remove("on-a-virtual-clock")
    assert ended == [("first timed out", 2.0), ("second", 3.0)]
