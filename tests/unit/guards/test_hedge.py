"""The hedge on asyncio and trio: promises H1 to H3, and how it stands with other guards."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    bulkhead,
    circuit_breaker,
    fallback,
    hedge,
    last_good,
    registry,
    retry,
    set_active,
    timeout,
)
from resilient.guards.facets import Keeps
from resilient.testing import ManualClock
from tests.kit.policies import idle, part, policy
from tests.kit.waiting import WAIT
from tests.kit.worlds import BACKENDS, run

Body = Callable[["Scene"], Awaitable[Any]]


class Scene:
    """A policy on a manual clock whose copies end when, and as, the test says."""

    def __init__(self, *guards: Any, delay: float = 1.0, **options: Any) -> None:
        self.clock = ManualClock()
        self.of = policy(
            *guards[:-1] if guards and isinstance(guards[-1], tuple) else (),
            hedge(delay, idempotent=True, **options),
            *(guards[-1] if guards and isinstance(guards[-1], tuple) else guards),
            clock=self.clock,
        )
        self.begun: list[int] = []
        self.log: list[str] = []
        self.ends: dict[int, anyio.Event] = {}
        self.outcome: dict[int, Any] = {}
        self.cleans_up_until: anyio.Event | None = None
        self.result: Any = None

    async def fetch(self) -> Any:
        """What is guarded: it waits until the test has it end."""
        number = len(self.begun) + 1
        self.begun.append(number)
        event = self.ends.setdefault(number, anyio.Event())
        try:
            await event.wait()
        except BaseException:
            if self.cleans_up_until is not None:
                with anyio.CancelScope(shield=True):
                    await self.cleans_up_until.wait()
            self.log.append(f"{number} cancelled")
            raise
        outcome = self.outcome.get(number, f"answer {number}")
        if isinstance(outcome, BaseException):
            raise outcome
        return outcome

    async def call(self) -> None:
        self.result = await self.of.atry_call(self.fetch)
        self.log.append("returned")

    def end(self, number: int, outcome: Any = None) -> None:
        """Have a copy end."""
        if outcome is not None:
            self.outcome[number] = outcome
        self.ends.setdefault(number, anyio.Event()).set()

    async def until(self, met: Callable[[], object]) -> None:
        with anyio.fail_after(WAIT):
            while not met():
                await anyio.lowlevel.checkpoint()

    async def copies(self, number: int) -> None:
        await self.until(lambda: len(self.begun) == number)

    async def settled(self) -> None:
        """Let all tasks go as far as they can."""
        for _ in range(30):
            await anyio.lowlevel.checkpoint()

    @property
    def told(self) -> dict[str, Any]:
        return part(self.of, "hedge")


def played(backend: str, scene: Scene, body: Callable[[], Coroutine[Any, Any, None]]) -> Scene:
    """Make one call, with the body beside it; return the scene when nothing is held any more."""

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.call)
            await scene.copies(1)
            await body()

    run(backend, main)
    idle(scene.of)
    return scene


both = pytest.mark.parametrize("backend", BACKENDS)


@both
def test_the_second_copy_wins_and_the_first_is_joined(backend: str) -> None:
    """H1: the loser has ended before the caller goes on."""
    scene = Scene(circuit_breaker(), bulkhead(2))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        assert part(scene.of, "bulkhead")["used"] == 2  # H3
        scene.end(2)

    played(backend, scene, body)
    assert scene.log == ["1 cancelled", "returned"]
    found = scene.result
    assert (found.value, found.served, found.attempts, found.error) == ("answer 2", "full", 2, None)
    assert scene.told["hedged"] == {"neither": 0, "first": 0, "second": 1}
    calls = scene.of.snapshot()["calls"]
    assert calls == {"success": 1, "failure": 0, "ignored": 0, "cancelled": 0, "refused": 0}
    assert part(scene.of, "circuit_breaker")["window"]["calls"] == 1  # the loser says nothing


@both
def test_the_first_copy_may_still_win(backend: str) -> None:
    scene = Scene(circuit_breaker(), bulkhead(2))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(1)

    played(backend, scene, body)
    assert scene.log == ["2 cancelled", "returned"]
    assert scene.result.value == "answer 1"
    assert scene.told["hedged"]["first"] == 1


@both
def test_no_second_copy_before_its_time_and_none_after_an_answer(backend: str) -> None:
    """H2."""
    scene = Scene(bulkhead(2))

    async def body() -> None:
        scene.clock.advance(0.999)
        await scene.settled()
        assert scene.begun == [1]
        scene.end(1)
        await scene.until(lambda: scene.result)
        scene.clock.advance(10)
        await scene.settled()

    played(backend, scene, body)
    assert scene.begun == [1]
    assert scene.told["hedged"] == {"neither": 0, "first": 0, "second": 0}
    assert scene.told["budget_left"] == 10


@both
def test_a_failure_before_the_delay_is_the_callers(backend: str) -> None:
    """Asking again is the retry's."""
    scene = Scene(bulkhead(2))

    async def body() -> None:
        scene.end(1, ConnectionError("one"))

    played(backend, scene, body)
    assert str(scene.result.error) == "one"
    assert scene.begun == [1]


@both
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_where_one_fails_the_other_is_waited_for(backend: str, order: tuple[int, int]) -> None:
    scene = Scene(circuit_breaker(), bulkhead(2))
    fails, answers = order

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(fails, ConnectionError("down"))
        await scene.settled()
        assert scene.result is None
        scene.end(answers)

    played(backend, scene, body)
    assert scene.result.value == f"answer {answers}"
    window = part(scene.of, "circuit_breaker")["window"]
    assert (window["calls"], window["failures"]) == (2, 1)  # the breaker sees each copy
    assert scene.of.snapshot()["calls"]["success"] == 1


@both
@pytest.mark.parametrize("order", [(1, 2), (2, 1)])
def test_where_both_fail_the_first_ones_error_is_raised(
    backend: str, order: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    """H1, H2: of the copy that was begun first; the other one's is not reported by anybody."""
    scene = Scene(circuit_breaker(), bulkhead(2))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        for number in order:
            scene.end(number, ConnectionError(f"error {number}"))
            await scene.settled()

    played(backend, scene, body)
    assert str(scene.result.error) == "error 1"
    assert scene.told["hedged"]["neither"] == 1
    gc.collect()
    assert not [each for each in caplog.records if "never retrieved" in each.message]


@both
def test_two_answers_at_the_same_moment_are_one(backend: str) -> None:
    scene = Scene(circuit_breaker(), bulkhead(2))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(1)
        scene.end(2)

    played(backend, scene, body)
    assert scene.result.value in ("answer 1", "answer 2")
    assert scene.of.snapshot()["calls"]["success"] == 1


@both
def test_a_second_copy_without_a_slot_is_not_begun(backend: str) -> None:
    """H3: it pays the bulkhead as any attempt does, and its share is given back."""
    scene = Scene(circuit_breaker(), bulkhead(1))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.settled()
        assert scene.begun == [1]
        scene.end(1)

    played(backend, scene, body)
    found = scene.result
    assert (found.value, found.attempts) == ("answer 1", 1)
    assert scene.told["not_hedged"] == {"budget": 0, "refused": 1, "busy": 0}
    assert scene.told["budget_left"] >= 10
    assert scene.told["hedged"] == {"neither": 0, "first": 0, "second": 0}
    assert scene.of.snapshot()["refusals"]["bulkhead"] == 0  # its caller was not refused


@both
def test_a_second_copy_in_line_gives_its_place_back(backend: str) -> None:
    scene = Scene(bulkhead(1, max_waiting=3, max_wait=30))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.until(lambda: part(scene.of, "bulkhead")["waiting"] == 1)
        scene.end(1)

    played(backend, scene, body)
    assert part(scene.of, "bulkhead")["waiting"] == 0
    assert scene.told["budget_left"] >= 10


@both
def test_a_refused_first_copy_is_a_refused_call(backend: str) -> None:
    scene = Scene(bulkhead(1))

    async def body() -> None:
        other = await scene.of.atry_call(scene.fetch)
        assert isinstance(other.error, BulkheadFullError)
        scene.end(1)

    played(backend, scene, body)
    shown = scene.of.snapshot()
    assert (shown["calls"]["refused"], shown["refusals"]["bulkhead"]) == (1, 1)


@both
def test_when_the_caller_goes_both_copies_go(backend: str) -> None:
    """H1: cancelled and joined; nothing is held."""
    scene = Scene(circuit_breaker(), bulkhead(2))

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(scene.call)
            await scene.copies(1)
            scene.clock.advance(1)
            await scene.copies(2)
            group.cancel_scope.cancel()
        assert sorted(scene.log) == ["1 cancelled", "2 cancelled"]

    run(backend, main)
    idle(scene.of)
    assert scene.of.snapshot()["calls"]["cancelled"] == 1
    assert scene.told["hedged"]["neither"] == 1


@both
def test_a_total_timeout_ends_both(backend: str) -> None:
    scene = Scene(timeout(3), (circuit_breaker(), bulkhead(2)))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.clock.advance(2)

    played(backend, scene, body)
    assert isinstance(scene.result.error, CallTimeoutError)
    assert sorted(scene.log) == ["1 cancelled", "2 cancelled", "returned"]
    shown = scene.of.snapshot()
    assert (shown["timeouts"], shown["calls"]["failure"]) == (1, 1)


@both
def test_an_attempt_timeout_bounds_each_copy(backend: str) -> None:
    scene = Scene(circuit_breaker(), timeout(3))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.clock.advance(2)  # the first one's time is up, the second has a second left
        await scene.until(lambda: scene.log == ["1 cancelled"])
        await scene.settled()
        assert scene.result is None
        scene.end(2)

    played(backend, scene, body)
    assert scene.result.value == "answer 2"
    assert scene.of.snapshot()["timeouts"] == 0


@both
def test_a_copy_that_takes_long_to_clean_up_is_left(backend: str) -> None:
    """Its caller waits for `join_within`; the copy keeps its slot until it ends."""
    scene = Scene(bulkhead(2), join_within=2)

    async def body() -> None:
        scene.cleans_up_until = anyio.Event()
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2)
        await scene.settled()
        assert scene.result is None
        scene.clock.advance(2)
        await scene.until(lambda: scene.result)
        assert scene.result.value == "answer 2"
        assert (part(scene.of, "bulkhead")["used"], scene.told["left"]) == (1, 1)
        scene.cleans_up_until.set()
        await scene.until(lambda: not scene.told["left"])

    played(backend, scene, body)
    assert scene.log == ["returned", "1 cancelled"]


@both
def test_a_share_of_the_calls_has_a_second_copy(backend: str) -> None:
    """10 at once, and then as many as the calls have paid for."""
    of = policy(hedge(0, idempotent=True, share=0.05), clock=ManualClock())
    begun: list[int] = []

    async def fetch() -> None:
        begun.append(1)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()

    async def body() -> None:
        for _ in range(400):
            await of.acall(fetch)

    run(backend, body)
    extra = len(begun) - 400
    assert 10 + 15 <= extra <= 10 + 20
    told = part(of, "hedge")
    assert sum(told["hedged"].values()) == extra
    assert told["not_hedged"]["budget"] == 400 - extra


@both
def test_the_retry_of_the_policy_pays_too(backend: str) -> None:
    scene = Scene(retry(on=ConnectionError, budget=0.1), (bulkhead(2),))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2)

    played(backend, scene, body)
    assert part(scene.of, "retry")["budget_left"] < 10
    guard: Any = scene.of._core.guards[0]
    while guard.budget.take(scene.clock.now()):
        pass
    again, left = scene.told["not_hedged"]["budget"], scene.told["budget_left"]
    scene.begun.clear()
    scene.ends.clear()
    scene.result = None

    async def poor() -> None:
        scene.clock.advance(1)
        await scene.settled()
        assert scene.begun == [1]
        scene.end(1)

    played(backend, scene, poor)
    assert scene.told["not_hedged"]["budget"] == again + 1
    assert scene.told["budget_left"] >= left  # what only one of the two would pay is given back


@both
def test_each_attempt_of_a_retry_is_hedged(backend: str) -> None:
    scene = Scene(retry(on=ConnectionError, wait_initial=0), (bulkhead(2),))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(1, ConnectionError("one"))
        scene.end(2, ConnectionError("two"))
        await scene.copies(3)
        scene.clock.advance(1)
        await scene.copies(4)
        scene.end(4)

    played(backend, scene, body)
    assert (scene.result.value, scene.result.attempts) == ("answer 4", 4)


@both
def test_answers_stand_outside(backend: str) -> None:
    """A fallback and a last good answer see one attempt; one value is kept."""
    scene = Scene(fallback(value="less"), last_good(key=lambda: 0), (circuit_breaker(),))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2)
        await scene.until(lambda: scene.result)
        scene.end(3, ConnectionError("down"))
        old = await scene.of.atry_call(scene.fetch)
        assert (old.value, old.served, old.stale_for) == ("answer 2", "degraded", 0)

    played(backend, scene, body)
    assert part(scene.of, "last_good")["entries"] == 1


class Counting(Keeps):
    """Counts what it is to keep."""

    kind = "counting"

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[Any] = []

    def keep(self, value: Any, asked: Any) -> None:
        self.kept.append(value)


@both
@pytest.mark.parametrize("inside", [True, False])
def test_a_good_value_is_kept_once(backend: str, inside: bool) -> None:
    counting = Counting()
    scene = Scene(*(((counting,),) if inside else (counting, (bulkhead(2),))))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2)

    played(backend, scene, body)
    assert counting.kept == ["answer 2"]


@both
@pytest.mark.parametrize(("wins", "known"), [(1, 1.0), (2, None)])
def test_a_first_copy_that_lost_counts_as_longer_than_all(
    backend: str, wins: int, known: float | None
) -> None:
    """Else the quantile of what is measured would get shorter by each copy that wins."""
    scene = Scene(bulkhead(2))
    guard: Any = scene.of._core.guards[0]
    for _ in range(19):
        guard.latencies.add(float("inf") if wins == 2 else 1.0)

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(wins)

    played(backend, scene, body)
    assert guard.latencies.quantile(0.99) == (known and pytest.approx(known, rel=0.11))
    assert guard.latencies._total == 20


@both
def test_an_ignored_error_is_an_answer(backend: str) -> None:
    scene = Scene(circuit_breaker(ignore=KeyError), ignore=KeyError)

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2, KeyError("no such thing"))

    played(backend, scene, body)
    assert isinstance(scene.result.error, KeyError)
    assert scene.log == ["1 cancelled", "returned"]


@both
def test_a_failed_result_is_no_answer(backend: str) -> None:
    scene = Scene(bulkhead(2), failed_result=lambda value: value == "empty")

    async def body() -> None:
        scene.clock.advance(1)
        await scene.copies(2)
        scene.end(2, "empty")
        await scene.settled()
        assert scene.result is None
        scene.end(1)

    played(backend, scene, body)
    assert scene.result.value == "answer 1"


@both
def test_while_guards_are_off_there_is_one_copy(backend: str) -> None:
    scene = Scene(bulkhead(2))

    async def body() -> None:
        scene.clock.advance(5)
        await scene.settled()
        scene.end(1)

    set_active(False)
    try:
        played(backend, scene, body)
    finally:
        set_active(True)
    assert scene.begun == [1]


@both
def test_a_half_open_circuit_lets_one_copy_through(backend: str) -> None:
    scene = Scene(circuit_breaker(failure_threshold=1, recovery_timeout=5))

    async def body() -> None:
        scene.end(1, ConnectionError("down"))
        await scene.until(lambda: scene.result)
        assert scene.of.state == "open"
        scene.clock.advance(6)
        scene.result = None
        async with anyio.create_task_group() as group:
            group.start_soon(scene.call)
            await scene.copies(2)
            scene.clock.advance(1)
            await scene.settled()
            assert scene.begun == [1, 2]  # a second probe is not let in
            scene.end(2)

    played(backend, scene, body)
    assert scene.of.state == "closed"
    assert scene.told["not_hedged"]["refused"] == 1


@both
def test_by_a_quantile_of_what_was_measured(backend: str) -> None:
    clock = ManualClock()
    of = policy(hedge(quantile=0.9, idempotent=True), clock=clock)
    takes = [0.0]

    async def fetch() -> float:
        clock.advance(takes[0])
        return takes[0]

    async def body() -> None:
        for number in range(19):
            takes[0] = 0.1 if number < 17 else 1.0
            await of.acall(fetch)
        assert part(of, "hedge")["delay"] is None
        takes[0] = 0.1
        await of.acall(fetch)

    run(backend, body)
    assert part(of, "hedge")["delay"] == pytest.approx(0.1, rel=0.1)


def test_events_tell_of_copies() -> None:
    heard: list[Any] = []
    stop = registry.subscribe(heard.append)
    scene = Scene(bulkhead(1))

    async def body() -> None:
        scene.clock.advance(1)
        await scene.settled()
        scene.end(1)

    try:
        played("asyncio", scene, body)
    finally:
        stop()
    told = [(each.kind, each.guard) for each in heard if each.policy == scene.of.name]
    assert told == [("not_retried", "hedge")]
