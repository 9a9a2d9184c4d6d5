"""Guards that keep good values and recall them: on the fast path, and by the interpreter."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import pytest
import requests

from resilient import Policy, circuit_breaker, fallback, retry, timeout
from resilient.guards.asked import Asked, Stale
from resilient.guards.base import RECOVER, Guard, NoAnswer
from resilient.guards.recalls import Recalls
from resilient.outcomes import FAILURE, REFUSED
from resilient.testing import ManualClock
from tests.kit.policies import policy
from tests.kit.worlds import BACKENDS, run


class Memory(Recalls):
    """Recalls the last good value of the same function and arguments."""

    kind: ClassVar[str] = "own_memory"

    def __init__(self, *, blind: bool = False) -> None:
        super().__init__()
        self.is_blind = blind
        self.kept: dict[Any, tuple[Any, float]] = {}
        self.asked: list[Asked] = []

    def settle(
        self, ticket: int, now: float, outcome: int, duration: float, reason: str, held: bool
    ) -> float | None:
        return RECOVER if outcome in (FAILURE, REFUSED) else None

    def keep(self, value: Any, asked: Asked) -> None:
        self.asked.append(asked)
        self.kept[asked.fn, asked.args] = value, asked.now

    def recall(self, asked: Asked) -> Stale:
        found = self.kept.get((asked.fn, asked.args))
        if found is None:
            raise NoAnswer
        return Stale(found[0], asked.now - found[1])


class Flaky:
    def __init__(self) -> None:
        self.down = False

    def find(self, number: int) -> str:
        if self.down:
            raise ConnectionError("down")
        return f"found {number}"

    async def afind(self, number: int) -> str:
        return self.find(number)


LIMITS: list[list[Any]] = [
    [],
    [timeout(5, sync="cooperative")],
    [timeout(5, sync="thread")],
    [timeout(9, sync="cooperative"), timeout(5, sync="cooperative")],
]


def copies(limits: list[Any]) -> list[Any]:
    return [timeout(each.seconds, sync=each.sync) for each in limits]


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "cooperative", "thread", "two"])
@pytest.mark.parametrize("more", [[], [(ConnectionError,)]], ids=["", "retry"])
def test_an_old_answer_says_its_age(limits: list[Any], more: list[Any]) -> None:
    clock, memory, flaky = ManualClock(), Memory(), Flaky()
    asking = [retry(on=on, wait_initial=0) for on in more]
    of = policy(memory, *asking, circuit_breaker(), *copies(limits), clock=clock)
    guarded = of(flaky.find)
    assert [guarded(1), guarded(2)] == ["found 1", "found 2"]
    assert [each.args for each in memory.asked] == [(1,), (2,)]
    flaky.down = True
    clock.advance(2)
    assert guarded(1) == "found 1"
    found = of.try_call(flaky.find, 1)
    assert (found.value, found.served, found.stale_for) == ("found 1", "degraded", 2)
    missing = of.try_call(flaky.find, 3)
    assert (missing.served, missing.stale_for) == ("error", None)
    assert of.snapshot()["served"]["degraded"] == 2


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "cooperative", "thread", "two"])
def test_each_good_value_is_kept_once(limits: list[Any]) -> None:
    memory, flaky = Memory(), Flaky()
    guarded = policy(memory, circuit_breaker(), *copies(limits))(flaky.find)  # by the real clock
    assert [guarded(number) for number in range(4)] == [f"found {number}" for number in range(4)]
    assert [each.args for each in memory.asked] == [(0,), (1,), (2,), (3,)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("limit", [False, True])
def test_async_calls_keep_too(backend: str, limit: bool) -> None:
    memory, flaky = Memory(), Flaky()
    of = policy(memory, circuit_breaker(), *([timeout(60)] if limit else []))
    guarded = of(flaky.afind)

    async def body() -> None:
        assert await guarded(0) == "found 0"  # a policy's first call is the interpreter's
        assert await guarded(1) == "found 1"
        flaky.down = True
        assert await guarded(1) == "found 1"
        found = await of.atry_call(flaky.afind, 1)
        assert found.served == "degraded"
        assert found.stale_for is not None
        assert found.stale_for >= 0
        with pytest.raises(ConnectionError):
            await guarded(2)

    run(backend, body)
    assert [each.args for each in memory.asked] == [(0,), (1,)]


@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_an_open_circuit_is_answered_by_a_blind_one(backend: str | None) -> None:
    clock, memory, flaky = ManualClock(), Memory(blind=True), Flaky()
    of = policy(memory, circuit_breaker(failure_threshold=1, recovery_timeout=60), clock=clock)
    find, afind = of(flaky.find), of(flaky.afind)

    async def body() -> None:
        ask: Any = afind
        assert await ask(1) == "found 1"
        flaky.down = True
        assert [await ask(1) for _ in range(4)] == ["found 1"] * 4

    if backend is None:
        assert find(1) == "found 1"
        flaky.down = True
        assert [find(1) for _ in range(4)] == ["found 1"] * 4
    else:
        run(backend, body)
    counted = of.snapshot()
    assert counted["served"]["degraded"] == 4
    assert counted["calls"]["refused"] == 3  # the first of them, as news, by the interpreter


def test_a_method_is_told_with_its_object() -> None:
    memory = Memory()
    of = policy(memory, circuit_breaker())

    class Shop:
        @of
        def find(self, number: int, *, size: int = 1) -> int:
            return number * size

    shop = Shop()
    assert shop.find(4, size=2) == 8
    (asked,) = memory.asked
    assert (asked.args, asked.kwargs, asked.owner) == ((shop, 4), {"size": 2}, None)
    assert asked.fn.__name__ == "find"


def test_a_clients_method_is_told_with_its_object_beside() -> None:
    memory, flaky = Memory(), Flaky()
    client = policy(memory, circuit_breaker()).wrap(flaky, only=["find"])
    assert [client.find(4), client.find(number=5)] == ["found 4", "found 5"]
    assert [(each.args, each.kwargs) for each in memory.asked] == [((4,), {}), ((), {"number": 5})]
    for asked in memory.asked:
        assert asked.owner is flaky
        assert (asked.fn.__name__, asked.writes) == ("find", False)


def test_whether_a_call_writes_is_told_where_http_says_it() -> None:
    memory = Memory()
    with requests.Session() as session:
        session.mount("mock://", Answering())
        client = policy(memory, circuit_breaker()).wrap(session)
        for method in ("get", "head", "options", "post", "put", "patch", "delete"):
            getattr(client, method)("mock://here/")
        client.request("POST", "mock://here/")
    told = [asked.writes for asked in memory.asked if asked.fn.__name__ != "send"]
    assert told == [False] * 3 + [True] * 5


class Answering(requests.adapters.BaseAdapter):
    """Answers each request without a network."""

    def send(self, request: Any, *given: Any, **options: Any) -> Any:
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = 200, request.url, request
        return answer

    def close(self) -> None:
        pass


def test_epoch_is_the_wall_clock_or_the_manual_one() -> None:
    before = time.time()
    assert before <= Asked(len, (), {}, 0.0).epoch() <= time.time()
    clock = ManualClock()
    clock.advance(7)
    assert Asked(len, (), {}, 0.0, clock=clock).epoch() == clock.now()


@pytest.mark.parametrize("blind", [False, True])
@pytest.mark.parametrize("backend", [None, *BACKENDS])
def test_a_fault_in_recalling_leaves_the_error_as_it_was(
    backend: str | None, blind: bool, caplog: pytest.LogCaptureFixture
) -> None:
    clock, memory, flaky = ManualClock(), Memory(blind=blind), Flaky()
    of = policy(memory, circuit_breaker(failure_threshold=1, recovery_timeout=60), clock=clock)
    flaky.down = True

    def recall(asked: Asked) -> Stale:
        raise OSError("no cache")

    memory.recall = recall  # type: ignore[method-assign]
    errors: list[str] = []

    async def body() -> None:
        for _ in range(4):
            try:
                _ = of.call(flaky.find, 1) if backend is None else await of.acall(flaky.afind, 1)
            except Exception as error:
                assert error.__cause__ is None
                errors.append(type(error).__name__)

    run(backend or "asyncio", body)
    assert errors == ["ConnectionError"] + ["CircuitOpenError"] * 3
    assert [each.message for each in caplog.records].count(
        f"{of.name}: the own_memory guard's recall() raised, so it has no answer (logged once)"
    ) == 1


def test_what_a_fallback_outside_answers_is_not_old() -> None:
    memory, flaky = Memory(), Flaky()
    of = policy(fallback(value="top 100"), memory, circuit_breaker())
    flaky.down = True
    result = of.try_call(flaky.find, 1)
    assert (result.value, result.served, result.stale_for) == ("top 100", "degraded", None)


def test_recall_without_the_facet_is_refused() -> None:
    with pytest.raises(TypeError, match=r"Odd\.recall would never be asked"):

        class Odd(Guard):
            kind: ClassVar[str] = "odd"

            def recall(self, asked: Asked) -> Stale:
                return Stale(1, 0)


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "cooperative", "thread", "two"])
def test_the_time_of_keeping_is_not_the_attempts(limits: list[Any]) -> None:
    clock, memory, flaky = ManualClock(), Memory(), Flaky()
    circuit = circuit_breaker(slow_call_duration=1, slow_call_rate=0.5, minimum_calls=2)
    of = policy(memory, circuit, *copies(limits), clock=clock)
    busy: list[int] = []

    def keep(value: Any, asked: Asked) -> None:
        busy.append(of.snapshot()["in_flight"])
        clock.advance(20)

    memory.keep = keep  # type: ignore[method-assign]
    guarded = of(flaky.find)
    assert [guarded(1) for _ in range(5)] == ["found 1"] * 5
    counted = of.snapshot()
    assert (of.state, counted["calls"]["success"]) == ("closed", 5)
    assert (counted["late_values"], busy) == (0, [0] * 5)


def test_a_value_that_came_late_is_kept_once() -> None:
    clock, memory = ManualClock(), Memory()
    of = policy(memory, circuit_breaker(), timeout(1, sync="cooperative"), clock=clock)

    @of
    def slow(number: int) -> int:
        clock.advance(2)
        return number

    assert [slow(1), slow(2), slow(3)] == [1, 2, 3]
    assert [each.args for each in memory.asked] == [(1,), (2,), (3,)]


@pytest.mark.parametrize("limits", LIMITS, ids=["none", "cooperative", "thread", "two"])
def test_a_fault_in_keeping_costs_the_caller_nothing(
    limits: list[Any], caplog: pytest.LogCaptureFixture
) -> None:
    memory, flaky = Memory(), Flaky()
    of = policy(memory, circuit_breaker(), *copies(limits))

    def keep(value: Any, asked: Asked) -> None:
        raise KeyError(value)

    memory.keep = keep  # type: ignore[method-assign]
    guarded = of(flaky.find)
    assert [guarded(1) for _ in range(3)] == ["found 1"] * 3
    assert [each.message for each in caplog.records].count(
        f"{of.name}: the own_memory guard's keep() raised, so the value is not kept (logged once)"
    ) == 1
    assert of.snapshot()["calls"]["success"] == 3


def test_a_guard_without_recall_is_refused() -> None:
    class Half(Memory):
        kind: ClassVar[str] = "half"
        recall = Recalls.recall

    with pytest.raises(TypeError, match=r"Half has no recall\(\)"):
        Policy("half", Half())
