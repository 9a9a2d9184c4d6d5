"""What guards that answer, keep values or ask again may do, together and out of turn."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Generator, Iterator
from typing import Any, ClassVar, Generic, TypeVar

import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    Policy,
    RefusedError,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    timeout,
)
from resilient.guards.asked import Asked
from resilient.guards.base import ANSWER, PARK, RECOVER, REFUSE, Guard, NoAnswer
from resilient.guards.facets import (
    Admission,
    Answers,
    InFlight,
    Keeps,
    Queueing,
    TimeLimit,
)
from resilient.outcomes import FAILURE, REFUSED
from resilient.testing import ManualClock, flag_off
from tests.kit.own_guards import Cache, Retry
from tests.kit.policies import comes_to_idle, counts
from tests.kit.waiting import until


class Never(Answers):
    """Would answer whatever fails, and never has an answer."""

    kind: ClassVar[str] = "own_never"
    unique: ClassVar[bool] = False
    is_blind = True

    def settle(self, ticket: int, now: float, outcome: int, *_: Any) -> float | None:
        return RECOVER if outcome in (FAILURE, REFUSED) else None

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        raise NoAnswer


class Sure(Admission, Answers):
    """Answers before the body is run."""

    kind: ClassVar[str] = "own_sure"

    def __init__(self) -> None:
        super().__init__()
        self.asked = 0

    def admit(self, now: float) -> int:
        self.asked += 1
        self.why = "it has the answer"
        return ANSWER

    def recover(self, error: Exception, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        return "sure"


def fails() -> Any:
    """Fail."""
    raise KeyError("nothing there")


def test_without_an_answer_the_call_ends_as_it_would_have(name: str) -> None:
    """The caller's own error stays his own, and a failed value is returned."""
    policy = Policy(name, Never(), circuit_breaker(ignore=KeyError))
    result = policy.try_call(fails)
    assert (type(result.error), result.served) == (KeyError, "caller_error")
    judged = Policy(
        f"{name}-value", Never(), circuit_breaker(failed_result=lambda value: value == 5)
    )
    assert judged.call(lambda: 5) == 5
    assert counts(judged) == {"failure": 1}
    for each in (policy, judged):
        assert each.snapshot()["fallback_failures"] == 0
        comes_to_idle(each)


def test_an_outer_fallback_answers_where_an_inner_guard_has_no_answer(name: str) -> None:
    """It sees the error that there was."""
    policy = Policy(name, fallback(lambda e: type(e).__name__, with_error=True), Never())
    assert policy.call(fails) == "KeyError"


def test_a_blind_guard_without_an_answer_lets_the_refusal_through(name: str) -> None:
    """The first refusal and each that follows, on the fast path, are one and the same error."""
    policy = Policy(name, Never(), bulkhead(1))
    guarded = policy(lambda: 1)
    with policy.block():
        for _ in range(3):
            with pytest.raises(BulkheadFullError):
                guarded()
    assert policy.snapshot()["served"]["error"] == 3
    assert policy.snapshot()["fallback_failures"] == 0


def test_a_guard_that_only_answers_for_itself_is_never_taken_for_a_fallback(name: str) -> None:
    """Each of its refusals is raised."""

    class Strict(Sure):
        is_blind = True

        def admit(self, now: float) -> int:
            self.why = "no"
            return REFUSE

    guarded = Policy(name, Strict())(lambda: 1)
    for _ in range(3):
        with pytest.raises(RefusedError):
            guarded()


def test_an_answer_that_comes_too_late_is_asked_for_once(name: str) -> None:
    """A time that is up before the answer is begun ends the call; it is no invitation to go on."""
    clock = ManualClock()
    sure = Sure()
    policy = Policy(name, Never(), timeout(1.0, sync="cooperative"), sure, clock=clock)

    def late(now: float) -> int:
        sure.asked += 1
        sure.why = "it has the answer"
        clock.advance(2.0)
        return ANSWER

    sure.admit = late  # type: ignore[method-assign]
    with pytest.raises(CallTimeoutError):
        policy.call(lambda: 1)
    assert sure.asked == 1
    comes_to_idle(policy)


@pytest.mark.parametrize("guards", [2, 3])
def test_an_answer_gives_back_what_the_guards_outside_have_given(guards: int, name: str) -> None:
    """The fast path hands their tickets over with the verdict; each comes back once."""
    slots = bulkhead(2)
    policy = Policy(name, *[circuit_breaker(metrics_only=True), slots][3 - guards :], Sure())
    guarded = policy(lambda: 1)
    assert [guarded() for _ in range(5)] == ["sure"] * 5
    assert slots.running == 0
    comes_to_idle(policy)


def test_nothing_is_kept_of_work_that_goes_on(name: str) -> None:
    """Of a coroutine or a generator that a plain function returned, the value is no answer."""
    cache = Cache()
    policy = Policy(name, cache)

    def items() -> Iterator[int]:
        yield from ()

    def returns() -> Generator[int]:
        return items()  # type: ignore[return-value]

    assert list(policy.call(returns)) == []
    assert cache.kept == {}


def test_only_what_answers_can_answer(name: str) -> None:
    """A guard without the facet that says RECOVER, or any other number, changes nothing."""

    class Loud(Admission):
        kind: ClassVar[str] = "own_loud"
        wish = RECOVER

        def admit(self, now: float) -> int:
            return 1

        def settle(self, *_: Any) -> float | None:
            return self.wish

    for wish in (RECOVER, 0.0):
        loud = Loud()
        loud.wish = wish
        policy = Policy(f"{name}{wish}", loud)
        with pytest.raises(KeyError):
            policy.call(fails)
        assert policy.snapshot()["served"]["error"] == 1


def test_a_time_limit_may_admit_too(name: str) -> None:
    """Both facets hold: the limit bounds, and admit() is asked."""

    class Both(Admission, TimeLimit):
        kind: ClassVar[str] = "own_both"
        seconds = 5.0
        sync = "cooperative"

        def admit(self, now: float) -> int:
            self.why = "not now"
            return REFUSE

    with pytest.raises(RefusedError, match="own_both"):
        Policy(name, Both()).call(lambda: 1)


def test_a_policy_asks_again_by_one_guard(name: str) -> None:
    """Two retries would multiply, and one of them would never be asked."""
    with pytest.raises(ValueError, match="at most one guard that asks again"):
        Policy(name, Retry(1, 0.0), Retry(2, 0.0))


def test_a_hint_is_asked_for_where_it_matters(name: str) -> None:
    """Not of refusals, and not of what a fallback outside has raised."""

    class Asks(Retry):
        def __init__(self) -> None:
            super().__init__(0, 0.0)
            self.seen: list[str] = []

        def hint(self, error: Exception | None, value: Any) -> float | None:
            self.seen.append(type(error).__name__)
            return None

    asks = Asks()
    policy = Policy(name, fallback(lambda: {}["x"]), asks, bulkhead(1), clock=ManualClock())
    with pytest.raises(KeyError):
        policy.call(lambda: 1 / 0)
    with policy.block(), pytest.raises(KeyError):
        policy.call(lambda: 1)
    assert asks.seen == ["ZeroDivisionError"]


def test_a_wait_is_told_from_its_beginning_to_its_end(name: str) -> None:
    """Who watches calls in flight hears of the pause, confirms, and hears that it goes on."""
    told: list[str] = []

    class Watch(InFlight):
        kind: ClassVar[str] = "own_watch"
        watches_ages = True

        def admit(self, now: float) -> int:
            return 1

        def pause(self, ticket: int, now: float) -> None:
            told.append("pause")

        def go_on(self, ticket: int, now: float) -> None:
            told.append("go on")

        def confirm(self, ticket: int, now: float) -> int:
            told.append("confirm")
            return ticket

    class Turn(Queueing):
        kind: ClassVar[str] = "own_turn"
        adds_counts = ("line",)

        def admit(self, now: float) -> int:
            return -2

        def park(self, waiter: Any, now: float) -> int:
            waiter.deadline = now
            return -2

        def unpark(self, waiter: Any, now: float) -> int:
            return 0

        def quit(self, waiter: Any, now: float) -> None:
            return None

        def places(self) -> int:
            return 1

    assert Policy(name, Watch(), Turn()).call(lambda: 7) == 7
    assert told == ["pause", "confirm", "go on"]


T = TypeVar("T")


def test_a_class_of_a_guard_may_be_generic_and_mixed() -> None:
    """What is inherited counts as well: a mixin can't bring a method that nobody would ask."""

    class Typed(Admission, Generic[T]):
        kind: ClassVar[str] = "own_typed"

        def admit(self, now: float) -> int:
            return 1

    assert Typed[int]().admit(0.0) == 1

    class Mixin:
        def admit(self, now: float) -> int:
            return 1

    with pytest.raises(TypeError, match=r"Mixed\.admit would never be asked"):

        class Mixed(Mixin, Guard):
            kind: ClassVar[str] = "own_mixed"


def test_seconds_without_the_facet_are_refused(name: str) -> None:
    """A limit that nobody would keep is said when the policy is built."""

    class Slow(Guard):
        kind: ClassVar[str] = "own_slow"
        seconds = 0.1

    with pytest.raises(TypeError, match=r"would bound nothing.*TimeLimit"):
        Policy(name, Slow())


def test_what_a_guard_lacks_is_named(name: str) -> None:
    """When the policy is built, and not at the first call; a PARK without a queue at that call."""

    class Nameless(Guard):
        pass

    class Mute(Admission):
        kind: ClassVar[str] = "own_mute"

    class Parks(Admission):
        kind: ClassVar[str] = "own_parks"

        def admit(self, now: float) -> int:
            return PARK

    with pytest.raises(TypeError, match="Nameless has no kind"):
        Policy(name, Nameless())
    with pytest.raises(TypeError, match=r"Mute has no admit\(\)"):
        Policy(name, Mute())
    policy = Policy(name, Parks())
    with pytest.raises(TypeError, match="said PARK, and has no queue"):
        policy.call(lambda: 1)
    assert policy.snapshot()["in_flight"] == 0


def test_an_answer_of_a_switch_gives_back_what_a_wait_inside_has_taken(name: str) -> None:
    """Turned off and forced open while a caller waits for a slot: the slot comes back."""
    shut = flag(f"{name}-shut")
    policy = Policy(
        name, kill_switch(shut, answer=lambda: "off"), bulkhead(1, max_waiting=1, max_wait=30.0)
    )
    held = policy.block()
    held.__enter__()
    answers: list[Any] = []
    waiter = threading.Thread(target=lambda: answers.append(policy.call(lambda: "on")))
    waiter.start()
    until(lambda: policy.guards[1].waiting == 1)  # type: ignore[attr-defined]
    with flag_off(shut):
        policy.force_open("trial")
        held.__exit__(None, None, None)
        waiter.join(30)
    policy.release()
    assert answers == ["off"]
    assert policy.guards[1].used == 0  # type: ignore[attr-defined]
    comes_to_idle(policy)


def test_a_slot_that_waits_to_be_given_back_is_no_reason_to_refuse(name: str) -> None:
    """What the end of a stack has left in the outbox is done first."""
    slots = bulkhead(1)
    policy = Policy(name, slots)
    guarded = policy(lambda: 1)
    assert guarded() == 1
    slots.running = 1
    policy._core.outbox.append(lambda: setattr(slots, "running", 0))
    assert guarded() == 1


def test_another_attempt_makes_another_awaitable(name: str) -> None:
    """A plain function that returns one is called again, and a fallback has its arguments."""
    policy = Policy(name, fallback(lambda user: f"less for {user}"), Retry(1, 0.0))
    tries: list[int] = []

    async def work(user: str) -> str:
        tries.append(1)
        raise OSError

    @policy
    def fetch(user: str) -> Any:
        return work(user)

    async def body() -> Any:
        return await fetch("ana")

    assert asyncio.run(body()) == "less for ana"
    assert len(tries) == 2


def test_a_fault_of_a_guard_that_can_not_be_hashed_is_logged(
    name: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It costs the caller nothing."""

    class Odd(Keeps):
        kind: ClassVar[str] = "own_odd"
        __hash__ = None  # type: ignore[assignment]

        def keep(self, value: Any, asked: Asked) -> None:
            raise LookupError

    policy = Policy(name, Odd())
    assert [policy.call(lambda: 1), policy.call(lambda: 2)] == [1, 2]
    assert [record.getMessage() for record in caplog.records] == [
        f"{name}: the own_odd guard's keep() raised, so the value is not kept (logged once)"
    ]


def test_the_snapshot_of_a_guard_is_plain(name: str) -> None:
    """Options that are functions are told as text."""

    class Shown(Guard):
        kind: ClassVar[str] = "own_shown"

        def options(self) -> dict[str, Any]:
            return {"key": len, "most": 3}

    found = Policy(name, Shown()).snapshot()
    assert json.loads(json.dumps(found["guards"][0]))["options"]["most"] == 3


@pytest.mark.parametrize("guards", [1, 2, 3])
def test_wherever_the_stack_ends_a_refusal_costs_no_slot(guards: int, name: str) -> None:
    """Swept over every depth: the guards outside the refusal have their tickets back."""

    class Shut(Admission):
        kind: ClassVar[str] = "own_shut"
        shut = False

        def admit(self, now: float) -> int:
            self.why = "shut"
            return REFUSE if self.shut else 0

    shut = Shut()
    slots = bulkhead(2)
    outside = [circuit_breaker(metrics_only=True), slots][3 - guards :]
    policy = Policy(name, *outside, shut)
    guarded = policy(lambda: 1)
    assert guarded() == 1
    shut.shut = True

    def at(depth: int) -> None:
        if depth:
            at(depth - 1)
        else:
            guarded()

    import sys

    room = sys.getrecursionlimit() - len(_frames())
    for depth in range(room - 120, room):
        with pytest.raises((RefusedError, RecursionError)):
            at(depth)
    policy._core.flush()
    assert slots.running == 0 or guards == 1
    assert policy.snapshot()["in_flight"] == 0


def _frames() -> list[Any]:
    import sys

    frame: Any = sys._getframe(1)
    found = []
    while frame is not None:
        found.append(frame)
        frame = frame.f_back
    return found
