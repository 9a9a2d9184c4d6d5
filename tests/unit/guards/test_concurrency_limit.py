"""The concurrency limit in policies: every kind of call, what is overload, and what is shown."""

from __future__ import annotations

import asyncio
import contextvars
import threading
import urllib.error
from typing import Any

import botocore.exceptions
import httpx
import pytest
import requests
import urllib3

import resilient
from resilient import (
    CallTimeoutError,
    ConcurrencyLimitedError,
    Policy,
    bulkhead,
    concurrency_limit,
    priority,
    timeout,
)
from resilient.guards.concurrency_limit.rules import BACKOFF
from resilient.integrations.httpx import Transport
from resilient.knowledge.overload import is_overload, is_overloaded_answer
from resilient.testing import ManualClock
from tests.kit.colours import Colour
from tests.kit.forks import Fork
from tests.kit.policies import part, policy, raised
from tests.kit.waiting import until


def shown(of: Policy) -> Any:
    return part(of, "concurrency_limit")


@pytest.mark.parametrize("how", ["through", "in_block", "as_stream"])
def test_every_shape_of_a_call_takes_a_slot_and_gives_it_back(colour: Colour, how: str) -> None:
    of = policy(concurrency_limit(1), timeout(60, sync="cooperative"))
    seen: list[Any] = []

    async def inner() -> str:
        return "never"

    async def body() -> str:
        seen.append(shown(of)["used"])
        seen.append((await colour.attempt(of, colour.fn(inner))).error)
        return "full"

    async def scene() -> None:
        for _ in range(3):
            assert await getattr(colour, how)(of, colour.fn(body)) == "full"

    colour.run(scene)
    assert seen[::2] == [1, 1, 1]
    assert {type(error) for error in seen[1::2]} == {ConcurrencyLimitedError}
    assert shown(of)["used"] == 0
    assert "all 1 slots of now are taken" in str(seen[1])


def test_a_worker_that_was_given_up_keeps_its_slot() -> None:
    """And the time-out is overload: with a limit of 1.9 one slot is left, and that is taken."""
    of, go = policy(concurrency_limit(2), timeout(0.05, sync="thread")), threading.Event()
    assert isinstance(of.try_call(go.wait).error, CallTimeoutError)
    assert (shown(of)["used"], shown(of)["abandoned"], shown(of)["drops"]) == (1, 1, 1)
    assert isinstance(of.try_call(int).error, ConcurrencyLimitedError)
    go.set()
    until(lambda: shown(of)["used"] == 0)
    assert of.call(int) == 0


@pytest.mark.parametrize(
    ("error", "cuts"),
    [
        (TimeoutError(), True), (httpx.ReadTimeout("late"), True),
        (resilient.BulkheadFullError("full", policy="x", guard="bulkhead"), True),
        (ValueError(), False), (ConnectionResetError(), False),
        (httpx.HTTPStatusError("", request=httpx.Request("GET", "http://x"),
                               response=httpx.Response(503)), True),
        (httpx.HTTPStatusError("", request=httpx.Request("GET", "http://x"),
                               response=httpx.Response(500)), False),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)  # fmt: skip
def test_what_is_overload(error: Exception, cuts: bool) -> None:
    of = policy(concurrency_limit(10))
    raised(of.call, _raising(error))
    assert shown(of)["limit"] == (int(10 * BACKOFF) if cuts else 10)
    assert is_overload(error) == cuts


def _raising(error: Exception) -> Any:
    def body() -> None:
        raise error

    return body


def test_an_answer_is_overload_too() -> None:
    answers = {status: httpx.Response(status) for status in (200, 404, 429, 500, 503, 529)}
    assert {status for status, each in answers.items() if is_overloaded_answer(each)} == {
        429,
        503,
        529,
    }
    assert not is_overloaded_answer(type("Other", (), {"status_code": 503})())
    of = policy(concurrency_limit(10))
    assert of.call(lambda: answers[503]).status_code == 503
    assert shown(of)["drops"] == 1


@pytest.mark.parametrize("how", ["plain", "wrapped", "transport"])
def test_an_answer_is_the_same_however_the_client_is_guarded(how: str) -> None:
    """A 500 cuts nothing, and is measured by nobody."""
    of, status = policy(concurrency_limit(10)), [200]
    answers = httpx.MockTransport(lambda request: httpx.Response(status[0]))
    inner = Transport(of, answers) if how == "transport" else answers
    with httpx.Client(transport=inner) as plain:
        client = of.wrap(plain) if how == "wrapped" else plain

        def ask(code: int) -> None:
            status[0] = code
            (of.call if how == "plain" else _called)(client.get, "http://x/")

        for code in (500, 502, 404, 200):
            ask(code)
        assert shown(of)["drops"] == 0
        assert of._core.guards[0]._window.calls == 2  # type: ignore[attr-defined]
        ask(503)
        assert shown(of)["drops"] == 1


def _called(fn: Any, *args: Any) -> Any:
    return fn(*args)


class Odd(Exception):
    """An error that is hostile to whoever looks."""

    @property
    def response(self) -> Any:
        raise RuntimeError("no")

    def code(self) -> Any:
        raise RuntimeError("no")

    retry_after = 0


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (Odd(), False),
        (requests.ConnectionError(urllib3.exceptions.MaxRetryError(
            urllib3.HTTPConnectionPool("x"), "/", TimeoutError())), True),
        (urllib.error.URLError(TimeoutError()), True),
        (resilient.FlagOffError("off", policy="x", guard="kill_switch"), False),
        (botocore.exceptions.ClientError(
            {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {}}, "Get"), True),
        (urllib.error.URLError(ConnectionRefusedError()), False),
        (botocore.exceptions.ClientError(
            {"ResponseMetadata": {"HTTPStatusCode": 503}}, "Get"), True),
        (botocore.exceptions.ClientError(
            {"ResponseMetadata": {"HTTPStatusCode": 400}}, "Get"), False),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else str(each),
)  # fmt: skip
def test_overload_inside_what_libraries_wrap(error: Exception, says: bool) -> None:
    assert is_overload(error) == says


def test_an_answer_that_failed_is_measured_by_nobody_whatever_is_overload() -> None:
    of = policy(concurrency_limit(10, failed_result=lambda answer: answer.status_code == 429))
    for status in (500, 200, 429):
        of.call(httpx.Response, status)
    assert (shown(of)["drops"], of._core.guards[0]._window.calls) == (1, 1)  # type: ignore[attr-defined]


@pytest.mark.parametrize("bounds", [{"max_limit": 10}, {"min_limit": 100}])
def test_its_bounds_hold_after_a_look_at_idle_times(bounds: dict[str, int]) -> None:
    guard: Any = concurrency_limit(20)
    guard.limit, guard._rule._before, guard._rule._until = 5.0, 60.0, 1.0
    assert guard.save() == {"limit": 60.0}
    guard.take_over(concurrency_limit(**bounds), 0.5)
    guard.admit(2.0)
    assert guard.min_limit <= guard.limit <= guard.max_limit


def test_what_a_test_has_learnt_is_forgotten() -> None:
    guard: Any = concurrency_limit(20)
    saved = guard.save()
    guard.limit, guard.shares.caps[3] = 7.0, 0
    guard.restore(saved)
    assert (guard.limit, guard.shares.caps) == (20.0, [None] * 4)


def test_the_tolerance_changes_while_it_runs() -> None:
    of = policy(concurrency_limit(20))
    of.update(concurrency_limit={"tolerance": 3.0})
    assert of._core.guards[0]._rule.tolerance == 3.0  # type: ignore[attr-defined]


def test_an_ignored_call_that_was_slow_is_no_overload() -> None:
    clock = ManualClock()
    of = policy(concurrency_limit(20, slow_call_duration=1.0), clock=clock)

    def body() -> None:
        clock.advance(2)
        raise ValueError

    raised(of.call, body)
    assert shown(of)["drops"] == 0


def test_options_say_what_is_overload() -> None:
    of = policy(concurrency_limit(10, on=ValueError, failed_result=lambda value: value == "busy"))
    raised(of.call, _raising(TimeoutError()))
    assert shown(of)["drops"] == 0
    raised(of.call, _raising(ValueError()))
    of.call(lambda: "busy")
    assert shown(of)["drops"] == 2


def test_a_slow_success_is_overload() -> None:
    clock = ManualClock()
    of = policy(concurrency_limit(10, slow_call_duration=2.0), clock=clock)
    of.call(clock.advance, 1.9)
    assert shown(of)["drops"] == 0
    of.call(clock.advance, 2.0)
    assert (shown(of)["drops"], shown(of)["limit"]) == (1, 9)


def test_the_priority_is_that_of_the_context() -> None:
    """In tasks and on worker threads that begin inside, too."""
    seen: list[str] = []

    async def task() -> None:
        seen.append(priority.now())

    async def scene() -> None:
        with priority("low"):
            begun = asyncio.create_task(task())
        seen.append(priority.now())
        await begun

    asyncio.run(scene())
    with priority("critical"):
        policy(timeout(60, sync="thread")).call(lambda: seen.append(priority.now()))
        with priority("high"):
            seen.append(priority.now())
        seen.append(priority.now())
    assert seen == ["normal", "low", "critical", "high", "critical"]


def test_users_of_one_object_do_not_meet() -> None:
    """Tasks whose blocks overlap; and a generator that is left in another context."""
    low, seen = priority("low"), list[str]()

    async def first(inside: asyncio.Event, both: asyncio.Event, left: asyncio.Event) -> None:
        with low:
            inside.set()
            await both.wait()
            seen.append(priority.now())
        seen.append(priority.now())
        left.set()

    async def second(inside: asyncio.Event, both: asyncio.Event, left: asyncio.Event) -> None:
        await inside.wait()
        with low:
            both.set()
            await left.wait()
            seen.append(priority.now())

    async def main() -> None:
        steps = [asyncio.Event() for _ in range(3)]
        await asyncio.gather(first(*steps), second(*steps))

    asyncio.run(main())
    assert seen == ["low", "normal", "low"]

    def inside() -> Any:
        with low:
            yield

    steps = inside()
    contextvars.copy_context().run(next, steps)
    steps.close()
    assert priority.now() == "normal"


def test_blocks_that_are_left_in_another_order() -> None:
    """Each ends what it began, and no more."""

    def inside(level: Any) -> Any:
        with priority(level):
            yield

    low = inside("low")
    next(low)
    with priority("critical"):
        low.close()
        assert priority.now() == "critical"
    assert priority.now() == "normal"
    same = [inside("low"), inside("low")]
    for each in same:
        next(each)
    for each in same:
        each.close()
    assert priority.now() == "normal"


def test_one_object_may_be_entered_again_and_again() -> None:
    level = priority("low")
    with level, level:
        assert priority.now() == "low"
    assert priority.now() == "normal"


def test_the_least_important_is_refused_first() -> None:
    of, context = policy(concurrency_limit(2)), contextvars.copy_context()
    blocks = [of.block(), of.block()]
    with priority("low"):
        for each in blocks:
            each.__enter__()
    with priority("critical"):
        assert isinstance(of.try_call(int).error, ConcurrencyLimitedError)
    assert shown(of)["left_to"] == {"low": 1}
    blocks.pop().__exit__(None, None, None)
    with priority("low"):
        error = of.try_call(int).error
    assert "1 of the 2 slots of now are left to calls of priority low" in str(error)
    with priority("critical"):
        assert of.call(int) == 0
    assert context.run(of.call, int) == 0
    blocks.pop().__exit__(None, None, None)


def test_a_child_begins_with_its_own_calls() -> None:
    of, fork = policy(concurrency_limit(3)), Fork()
    other = threading.Event()
    thread = threading.Thread(target=lambda: of.call(other.wait, 60))
    thread.start()
    until(lambda: shown(of)["used"] == 1)

    def body() -> None:
        assert shown(of)["used"] == 2
        if fork():
            with priority("critical"):
                pass
            inside.append(True)

    inside: list[bool] = []
    with priority("critical"):
        of.call(body)
    if inside:
        fork.report({"value": [shown(of)["used"], *shown(of)["by_priority"].values()]})
    assert fork.answer() == [0, 0, 0, 0, 0]
    other.set()
    thread.join(60)
    assert shown(of)["used"] == 0


def test_bounds_change_while_it_runs() -> None:
    of = policy(concurrency_limit(20))
    of.update(concurrency_limit={"max_limit": 5})
    assert shown(of)["limit"] == 5
    of.update(concurrency_limit={"min_limit": 7, "max_limit": 50})
    assert shown(of)["limit"] == 7
    with pytest.raises(ValueError, match="min_limit must be at most max_limit, which is 50"):
        of.update(concurrency_limit={"min_limit": 60})


def test_what_it_shows() -> None:
    of = policy(concurrency_limit(20))
    text = "runs at most 1 to 200 at once, as many as go well by how long calls take, and refuses"
    assert text in str(of)
    assert "0 of 20 slots of now used" in str(of)
    assert "by overload alone" in str(policy(concurrency_limit(algorithm="aimd")))


def test_workers_are_as_many_as_it_may_ever_let_run() -> None:
    """A bulkhead further in has the last word."""
    of = policy(concurrency_limit(2, max_limit=3), timeout(60, sync="thread"))
    assert "3" in str(of)
    policy(concurrency_limit(), bulkhead(2), timeout(60, sync="thread")).call(int)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"initial": 0}, "initial"), ({"initial": 300}, "initial"), ({"initial": True}, "initial"),
        ({"min_limit": 30}, "initial"), ({"min_limit": 300}, "min_limit"),
        ({"algorithm": "aimd", "tolerance": 2.0}, "tolerance"), ({"algorithm": "vegas"}, "algorithm"), ({"tolerance": 0.9}, "tolerance"),
        ({"slow_call_duration": -1}, "slow_call_duration"), ({"on": 7}, "on"),
    ],
)  # fmt: skip
def test_what_it_does_not_take(options: dict[str, Any], word: str) -> None:
    first = options.pop("initial", 20)
    with pytest.raises((ValueError, TypeError), match=rf"^{word} "):
        concurrency_limit(first, **options)


def test_there_are_four_levels() -> None:
    with pytest.raises(ValueError, match="level must be one of 'critical', 'high', 'normal'"):
        priority("urgent")  # type: ignore[arg-type]
