"""The last good answer, by calls of every shape."""

from __future__ import annotations

import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from resilient import (
    CircuitOpenError,
    FlagOffError,
    OrderWarning,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    last_good,
    retry,
    timeout,
)
from resilient.testing import ManualClock
from resilient.testing.flag_plugin import Flags
from tests.kit.policies import policy
from tests.kit.worlds import BACKENDS, run

SHAPES = ["sync", *BACKENDS]
RECS = flag("last-good-recs", impact="The home page shows the top 100.")


class Service:
    """A dependency that can be down; it counts what it is asked."""

    def __init__(self) -> None:
        self.down = False
        self.asked = 0

    def find(self, text: str, page: int = 1) -> list[str]:
        self.asked += 1
        if self.down:
            raise ConnectionError("down")
        return [f"{text} {page} of {self.asked}"]

    async def afind(self, text: str, page: int = 1) -> list[str]:
        return self.find(text, page)


def ask(shape: str, of: Policy, service: Service, *args: Any, **kwargs: Any) -> Any:
    """Make a call, in whatever shape, and return its Result."""
    if shape == "sync":
        return of.try_call(service.find, *args, **kwargs)

    async def body() -> Any:
        return await of.atry_call(service.afind, *args, **kwargs)

    return run(shape, body)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_answers_with_the_last_good_value_and_says_its_age(shape: str) -> None:
    clock, service = ManualClock(), Service()
    of = policy(last_good(max_age=60), circuit_breaker(), clock=clock)
    ask(shape, of, service, "shoes")
    clock.advance(1)
    assert ask(shape, of, service, "shoes").value == ["shoes 1 of 2"]
    service.down = True
    clock.advance(59)
    found = ask(shape, of, service, "shoes")
    assert (found.value, found.served, found.stale_for) == (["shoes 1 of 2"], "degraded", 59)
    assert isinstance(found.error, ConnectionError)
    clock.advance(1)
    assert ask(shape, of, service, "shoes").stale_for == 60  # just old enough
    clock.advance(0.001)
    gone = ask(shape, of, service, "shoes")
    assert (gone.served, gone.stale_for) == ("error", None)
    assert isinstance(gone.error, ConnectionError)


@pytest.mark.parametrize("shape", SHAPES)
def test_it_answers_for_an_open_circuit(shape: str) -> None:
    clock, service = ManualClock(), Service()
    of = policy(last_good(), circuit_breaker(failure_threshold=2, recovery_timeout=60), clock=clock)
    ask(shape, of, service, "shoes")
    service.down = True
    asked = [ask(shape, of, service, "shoes").served for _ in range(6)]
    assert (asked, service.asked) == (["degraded"] * 6, 3)
    assert isinstance(ask(shape, of, service, "boots").error, CircuitOpenError)
    told = of.snapshot()["guards"][0]
    assert told["answers"] == {"given": 6, "missing": 1, "too_old": 0, "fault": 0}


@pytest.mark.parametrize("shape", SHAPES)
def test_a_decorated_function_just_returns_it(shape: str) -> None:
    service = Service()

    @last_good
    @circuit_breaker(failure_threshold=1)
    def find(text: str) -> list[str]:
        return service.find(text)

    @last_good(max_age=5)
    @circuit_breaker
    async def afind(text: str) -> list[str]:
        return service.find(text)

    async def body() -> list[str]:
        return await afind("shoes")

    def once() -> Any:
        return find("shoes") if shape == "sync" else run(shape, body)

    assert once() == ["shoes 1 of 1"]
    service.down = True
    assert [once() for _ in range(4)] == [["shoes 1 of 1"]] * 4


def test_a_late_failure_and_a_timeout_are_answered() -> None:
    clock = ManualClock()
    of = policy(last_good(), circuit_breaker(), timeout(1, sync="cooperative"), clock=clock)
    slow = [False]

    @of
    def find() -> int:
        if slow[0]:
            clock.advance(2)
            raise ConnectionError
        return 1

    assert find() == 1
    slow[0] = True
    assert find() == 1
    assert of.snapshot()["served"] == {"full": 1, "degraded": 1, "error": 0, "caller_error": 0}


def test_between_retry_and_fallback() -> None:
    """The retries come first, then the last good value, and the fallback where there is none."""
    service = Service()
    of = policy(
        fallback(value=["top 100"]), last_good(), retry(on=ConnectionError, wait_initial=0),
        circuit_breaker(),
    )  # fmt: skip
    assert of.call(service.find, "shoes") == ["shoes 1 of 1"]
    service.down = True
    found = of.try_call(service.find, "shoes")
    assert (found.value, found.attempts, found.served) == (["shoes 1 of 1"], 3, "degraded")
    assert found.stale_for is not None
    other = of.try_call(service.find, "boots")
    assert (other.value, other.stale_for) == (["top 100"], None)


@pytest.mark.parametrize("outside", [True, False])
@pytest.mark.parametrize("shape", SHAPES)
def test_a_flag_that_is_off_is_not_answered_with_what_was(
    flags: Flags, shape: str, outside: bool
) -> None:
    """Who turns a feature off wants it off: its fallback answers, not its past."""
    service, answers = Service(), (fallback(value=["top 100"]), last_good())
    switch = kill_switch(RECS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OrderWarning)  # it is better outside
        of = policy(*((switch, *answers) if outside else (*answers, switch)), circuit_breaker())
    assert ask(shape, of, service, "shoes").value == ["shoes 1 of 1"]
    flags.off(RECS)
    found = ask(shape, of, service, "shoes")
    assert (found.value, found.stale_for) == (["top 100"], None)
    assert isinstance(found.error, FlagOffError)
    flags.on(RECS)
    service.down = True
    assert ask(shape, of, service, "shoes").value == ["shoes 1 of 1"]


def test_a_forced_open_policy_is_answered() -> None:
    """Who forces it open spares the dependency; what customers see is as when it is down."""
    service = Service()
    of = policy(last_good(), circuit_breaker())
    of.call(service.find, "shoes")
    of.force_open("INC-1")
    assert of.try_call(service.find, "shoes").served == "degraded"
    assert service.asked == 1


def test_what_ignore_names_is_passed_on() -> None:
    of = policy(last_good(ignore=KeyError), circuit_breaker())
    found: list[Any] = [1, KeyError("gone"), ConnectionError()]

    @of
    def find() -> int:
        value = found.pop(0)
        if isinstance(value, Exception):
            raise value
        return value

    assert find() == 1
    with pytest.raises(KeyError):
        find()
    assert find() == 1


def test_a_failed_result_is_replaced_and_not_kept() -> None:
    of = policy(last_good(failed_result=lambda value: value < 0), circuit_breaker())
    found = [3, -1, -2]
    take = of(lambda: found.pop(0))
    assert [take(), take(), take()] == [3, 3, 3]
    with pytest.raises(IndexError):
        policy(last_good(failed_result=lambda value: value < 0))(lambda: found.pop(0))()


@pytest.mark.parametrize("made", [list, dict, set])
def test_nobody_changes_what_another_one_gets(made: Callable[[], Any]) -> None:
    down = [False]

    @last_good
    def find() -> Any:
        if down[0]:
            raise ConnectionError
        return made()

    def spoil(value: Any) -> None:
        if made is dict:
            value["spoiled"] = 1
        else:
            (value.append if made is list else value.add)("spoiled")

    spoil(find())
    down[0] = True
    for _ in range(3):
        value = find()
        assert value == made()
        spoil(value)


def test_copy_is_used_both_ways() -> None:
    from copy import deepcopy

    down = [False]

    @last_good(copy=deepcopy)
    def find() -> Any:
        if down[0]:
            raise ConnectionError
        return {"items": [1]}

    find()["items"].append(2)
    down[0] = True
    find()["items"].append(3)
    assert find() == {"items": [1]}


def test_a_copy_that_fails_costs_no_call(caplog: pytest.LogCaptureFixture) -> None:
    def copied(value: Any) -> Any:
        raise ValueError("can't")

    of = policy(last_good(copy=copied), circuit_breaker())
    service = Service()
    assert [of.call(service.find, "a") for _ in range(3)] == [[f"a 1 of {n}"] for n in (1, 2, 3)]
    service.down = True
    with pytest.raises(ConnectionError):
        of.call(service.find, "a")
    told = of.snapshot()["guards"][0]
    assert told["not_kept"]["fault"] == 3
    assert len([each for each in caplog.records if "logged once" in each.message]) == 1


def test_streams_are_refused() -> None:
    def stream() -> Iterator[int]:
        yield 1

    async def astream() -> AsyncIterator[int]:
        yield 1

    for fn in (stream, astream):
        with pytest.raises(TypeError, match=r"its last_good keeps values, and an? .*generator"):
            last_good(fn)


def test_what_can_be_read_once_is_not_kept(caplog: pytest.LogCaptureFixture) -> None:
    of = policy(last_good(), circuit_breaker())
    down = [False]

    def find() -> Iterator[int]:
        if down[0]:
            raise ConnectionError
        return iter([1, 2])

    assert [list(of.call(find)) for _ in range(2)] == [[1, 2], [1, 2]]
    down[0] = True
    with pytest.raises(ConnectionError):
        of.call(find)
    assert of.snapshot()["guards"][0]["not_kept"]["one_time"] == 2
    assert len([each for each in caplog.records if "can be read once" in str(each.exc_info)]) == 1


def test_a_future_and_a_manager_are_not_answered() -> None:
    service = Service()
    of = policy(last_good(), circuit_breaker())
    with ThreadPoolExecutor(1) as pool:

        def submit() -> Future[Any]:
            return pool.submit(service.find, "a")

        assert of.call(submit).result() == ["a 1 of 1"]
        service.down = True
        with pytest.raises(ConnectionError):
            of.call(submit).result()

    @contextmanager
    def opened() -> Iterator[int]:
        if service.down:
            raise ConnectionError
        yield 1

    guarded = policy(last_good(), circuit_breaker())(opened)
    service.down = False
    with guarded() as one:
        assert one == 1
    service.down = True
    with pytest.raises(ConnectionError), guarded():
        pass


def test_in_a_block_it_does_not_act() -> None:
    of = policy(last_good(), circuit_breaker())
    with pytest.raises(ConnectionError), of.block():
        raise ConnectionError
    assert "a block, a context manager or a Future gets no fallback" in str(of)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_cancelled_call_is_not_answered(backend: str) -> None:
    import anyio

    of = policy(last_good(), circuit_breaker(), timeout(60))
    waits = [False]

    @of
    async def find() -> int:
        if waits[0]:
            await anyio.sleep_forever()
        return 1

    async def body() -> None:
        assert await find() == 1
        waits[0] = True
        with anyio.move_on_after(0.01) as scope:
            await find()
        assert scope.cancelled_caught

    run(backend, body)
    assert of.snapshot()["served"]["degraded"] == 0


def test_where_it_stands_too_far_inside_one_is_warned() -> None:
    with pytest.warns(OrderWarning, match="take its old answers for successes"):
        policy(circuit_breaker(), last_good())
    with pytest.warns(OrderWarning):
        policy(last_good(), fallback(value=1), circuit_breaker())


def test_the_oldest_goes_first() -> None:
    service = Service()
    of = policy(last_good(max_entries=2))
    for text in ("a", "b", "a", "c"):
        of.call(service.find, text)
    service.down = True
    assert [of.try_call(service.find, text).served for text in "abc"] == [
        "degraded", "error", "degraded",
    ]  # fmt: skip
    assert of.snapshot()["guards"][0]["entries"] == 2


def test_what_is_too_old_is_dropped() -> None:
    clock, service = ManualClock(), Service()
    of = policy(last_good(max_age=10), clock=clock)
    for text in "abc":
        of.call(service.find, text)
        clock.advance(4)
    assert of.snapshot()["guards"][0]["entries"] == 3
    of.call(service.find, "d")  # by now a is 12 s old
    assert of.snapshot()["guards"][0]["entries"] == 3


def test_options_change_live() -> None:
    clock, service = ManualClock(), Service()
    of = policy(last_good(), clock=clock)
    for text in "abc":
        of.call(service.find, text)
    of.update(last_good={"max_age": 5, "max_entries": 2})
    service.down = True
    clock.advance(5)
    assert of.try_call(service.find, "a").served == "degraded"
    clock.advance(0.1)
    assert of.try_call(service.find, "a").served == "error"
    service.down = False
    of.call(service.find, "d")
    assert of.snapshot()["guards"][0]["entries"] == 1  # and the others were too old


def test_a_view_shares_what_is_kept() -> None:
    service = Service()
    of = policy(last_good(), circuit_breaker())
    of.call(service.find, "a")
    service.down = True
    strict = of.with_(last_good(max_age=0.000001 * 2))
    assert of.with_(timeout(1, sync="cooperative")).call(service.find, "a") == ["a 1 of 1"]
    with pytest.raises(ConnectionError):
        strict.call(service.find, "a")
    assert of.snapshot()["guards"][0]["answers"]["too_old"] == 1


def test_a_refused_call_too_is_answered() -> None:
    of = policy(last_good(), bulkhead(1))
    found: list[Any] = []

    @of
    def find(deep: bool) -> str:
        if deep:
            found.append(of.try_call(find, False))
        return "found"

    assert find(False) == "found"
    assert find(True) == "found"
    assert [each.served for each in found] == ["degraded"]


def test_nothing_is_kept_of_another_ones_error() -> None:
    service = Service()
    service.down = True
    of = policy(last_good())
    for _ in range(2):
        with pytest.raises(ConnectionError):
            of.call(service.find, "a")
    assert of.snapshot()["guards"][0]["entries"] == 0


def test_a_flag_that_an_inner_policy_asks_is_not_answered_either(flags: Flags) -> None:
    """By its type, and in a group: its name is not asked."""
    inner, service = policy(kill_switch(RECS)), Service()
    of = policy(last_good(key=lambda grouped: 0), circuit_breaker())

    def find(grouped: bool) -> list[str]:
        try:
            return inner.call(service.find, "shoes")
        except FlagOffError as off:
            if grouped:
                raise ExceptionGroup("of a task group", [off]) from None
            raise

    assert of.call(find, False) == ["shoes 1 of 1"]
    flags.off(RECS)
    with pytest.raises(FlagOffError):
        of.call(find, False)
    with pytest.raises(ExceptionGroup):
        of.call(find, True)


def test_a_flag_that_goes_off_between_two_attempts_is_not_answered(flags: Flags) -> None:
    service = Service()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OrderWarning)
        of = policy(last_good(), kill_switch(RECS), retry(on=ConnectionError, wait_initial=0))
    turned: list[int] = []

    def find() -> list[str]:
        if turned:
            flags.off(RECS)
            assert not RECS
        return service.find("shoes")

    assert of.call(find) == ["shoes 1 of 1"]
    service.down = True
    turned.append(1)
    assert of.try_call(find).served == "error"
