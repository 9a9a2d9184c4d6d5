"""Traps 26, 29 and 30: which exceptions are meant, what a fallback answers, decorators' shape."""

from __future__ import annotations

import abc
import inspect
import threading
from collections.abc import Callable
from typing import Any

import anyio
import anyio.lowlevel
import pytest

from resilient import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import policy, trip
from tests.kit.worlds import World, run


class Abstract(Exception, metaclass=abc.ABCMeta):
    """An exception whose class is not simply a type."""


class Odd(abc.ABCMeta):
    """A metaclass whose classes can be called with anything and answer True."""

    def __call__(cls, *args: Any) -> Any:
        return super().__call__(*args)


class Strange(Exception, metaclass=Odd):
    """The same with a metaclass of its own."""


# -- 26 ------------------------------------------------------------


@pytest.mark.parametrize("kind", [Abstract, Strange])
@pytest.mark.parametrize("many", [False, True], ids=["type", "tuple"])
def test_trap_26_exceptions_with_a_metaclass_are_types(
    clock: ManualClock, world: World, kind: type[Exception], many: bool
) -> None:
    """Naming such an exception ignores it alone, not everything."""
    shop = policy(
        circuit_breaker(failure_threshold=1, ignore=(kind, KeyError) if many else kind),
        clock=clock,
    )
    world.fail(shop, kind())
    assert shop.state == "closed"
    world.fail(shop)
    assert shop.state == "open"


@pytest.mark.parametrize("option", ["on", "ignore"])
def test_trap_26_a_raising_predicate_hides_no_error(
    clock: ManualClock, world: World, option: str, caplog: pytest.LogCaptureFixture
) -> None:
    """With a predicate that raises, the body's own error comes out and is a failure."""

    def raising(error: Exception) -> bool:
        raise RuntimeError("bad predicate")

    guard = circuit_breaker(failure_threshold=2, **{option: raising})  # type: ignore[call-overload]
    shop = policy(guard, clock=clock)
    for _ in range(2):
        own = OSError("own")
        assert world.fail(shop, own) is own
        assert own.__context__ is None
    assert shop.state == "open"
    assert shop.snapshot()["predicate_errors"] >= 2
    assert sum("predicate" in record.message for record in caplog.records) == 1


def test_trap_26_a_raising_result_predicate_hides_no_value(
    clock: ManualClock, world: World
) -> None:
    """With a result predicate that raises, the value comes out and is a success."""

    def raising(value: object) -> bool:
        raise RuntimeError("bad predicate")

    shop = policy(circuit_breaker(failure_threshold=1, failed_result=raising), clock=clock)
    assert world.ok(shop) == "fine"
    assert shop.snapshot()["calls"]["success"] == 1
    assert shop.snapshot()["predicate_errors"] >= 1


# -- 29 ------------------------------------------------------------


def refused(options: dict[str, Any]) -> tuple[Policy, Callable[[], Any]]:
    """Return an open policy with a fallback, and a body."""
    shop = policy(fallback(value="less", **options), circuit_breaker())
    trip(shop)
    return shop, lambda: "full"


def full(options: dict[str, Any]) -> tuple[Policy, Callable[[], Any]]:
    """Return a policy whose only slot is taken while the body runs, and a body that calls it."""
    shop = policy(fallback(value="less", **options), bulkhead(1))
    return shop, lambda: shop.call(lambda: "never")


def timed_out(options: dict[str, Any]) -> tuple[Policy, Callable[[], Any]]:
    """Return a policy with a short timeout, and a body that takes too long."""
    shop = policy(fallback(value="less", **options), timeout(0.01, sync="thread"))
    return shop, lambda: threading.Event().wait(0.5)


def failed(options: dict[str, Any]) -> tuple[Policy, Callable[[], Any]]:
    """Return a policy and a body that fails."""
    return policy(fallback(value="less", **options), circuit_breaker()), lambda: int("x")


REASONS = {
    CircuitOpenError: refused,
    BulkheadFullError: full,
    CallTimeoutError: timed_out,
    ValueError: failed,
}


@pytest.mark.parametrize("reason", REASONS)
def test_trap_29_refusals_timeouts_and_failures_are_served_alike(reason: type[Exception]) -> None:
    """Without a choice, the fallback answers whatever went wrong, and says what it was."""
    shop, body = REASONS[reason]({})
    assert shop.call(body) == "less"
    end = shop.try_call(body)
    if reason is not BulkheadFullError:  # there the call inside is the one that was answered
        assert end.served == "degraded"
        assert type(end.error) is reason


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("chosen", REASONS)
def test_trap_29_the_choice_holds_for_every_reason(
    reason: type[Exception], chosen: type[Exception]
) -> None:
    """``on=`` and ``ignore=`` hold for refusals and timeouts as they do for failures."""
    for options, served in (
        ({"on": chosen}, reason is chosen),
        ({"ignore": chosen}, reason is not chosen),
    ):
        shop, body = REASONS[reason](options)
        if served:
            assert shop.call(body) == "less"
        else:
            with pytest.raises(reason):
                shop.call(body)


def test_trap_29_the_fallback_gets_error_and_arguments(backend: str) -> None:
    """A fallback is called with the call's arguments, and on request with the exception."""
    seen: list[tuple[Any, ...]] = []

    def instead(error: Exception, sku: str, *, count: int) -> str:
        seen.append((type(error), sku, count))
        return "less"

    def body(sku: str, *, count: int) -> str:
        raise OSError

    async def abody(sku: str, *, count: int) -> str:
        raise OSError

    shop = policy(fallback(instead, with_error=True), circuit_breaker())

    async def main() -> None:
        assert await shop(abody)("b", count=2) == "less"

    assert shop(body)("a", count=1) == "less"
    run(backend, main)
    assert seen == [(OSError, "a", 1), (OSError, "b", 2)]


def test_trap_29_an_async_fallback_serves_async_calls_only(backend: str) -> None:
    """An async fallback is awaited, and on a sync function it is refused when it is decorated."""

    async def instead() -> str:
        await anyio.lowlevel.checkpoint()
        return "less"

    async def abody() -> str:
        raise OSError

    def body() -> str:
        raise OSError

    shop = policy(fallback(instead), circuit_breaker())

    async def main() -> None:
        assert await shop.acall(abody) == "less"
        assert await shop(abody)() == "less"

    run(backend, main)
    with pytest.raises(TypeError, match="async"):
        shop(body)


def test_trap_29_a_failing_fallback_runs_once_and_is_chained() -> None:
    """A fallback runs once; its own error is raised from the one that it was to answer."""
    runs = []
    own = OSError("own")

    def instead() -> None:
        runs.append(1)
        raise LookupError("no cache")

    def body() -> None:
        raise own

    shop = policy(fallback(instead), circuit_breaker())
    with pytest.raises(LookupError) as caught:
        shop.call(body)
    assert caught.value.__cause__ is own
    assert len(runs) == 1
    assert shop.snapshot()["fallback_failures"] == 1


# -- 30 ------------------------------------------------------------

GUARDS: dict[str, Callable[[], Any]] = {
    "circuit_breaker": lambda: circuit_breaker(),
    "bulkhead": lambda: bulkhead(1),
    "timeout": lambda: timeout(30, sync="cooperative"),
    "fallback": lambda: fallback(value=None),
    "policy": lambda: policy(fallback(value=None), circuit_breaker(), bulkhead(1)),
}


@pytest.mark.parametrize("name", GUARDS)
def test_trap_30_above_and_below_classmethod_and_staticmethod(name: str, backend: str) -> None:
    """A guard works above and below @classmethod and @staticmethod, sync and async."""
    make = GUARDS[name]

    class Shop:
        @make()
        @classmethod
        def above(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @classmethod
        @make()
        def below(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @make()
        @staticmethod
        def static_above(x: int) -> int:
            return x

        @staticmethod
        @make()
        def static_below(x: int) -> int:
            return x

        @make()
        @classmethod
        async def async_above(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @classmethod
        @make()
        async def async_below(cls, x: int) -> tuple[str, int]:
            return cls.__name__, x

        @make()
        def method(self, x: int) -> int:
            return x

    class Child(Shop):
        pass

    for owner in (Child, Child()):
        assert owner.above(1) == ("Child", 1)
        assert owner.below(2) == ("Child", 2)
        assert owner.static_above(3) == 3
        assert owner.static_below(4) == 4
    assert Child().method(5) == 5
    assert isinstance(Shop.__dict__["above"], classmethod)
    assert isinstance(Shop.__dict__["static_above"], staticmethod)
    assert inspect.iscoroutinefunction(Child.async_above)
    assert inspect.iscoroutinefunction(Child.async_below)

    async def main() -> None:
        assert await Child.async_above(6) == ("Child", 6)
        assert await Child.async_below(7) == ("Child", 7)

    run(backend, main)


@pytest.mark.parametrize("name", GUARDS)
def test_trap_30_the_wrapper_is_of_the_functions_kind(name: str) -> None:
    """What comes out is a function of the same kind, signature, name and docstring."""

    def plain(a: int, *, b: str = "x") -> str:
        """Say it."""
        return b * a

    async def waits(a: int, *, b: str = "x") -> str:
        """Say it later."""
        return b * a

    for fn in (plain, waits):
        guarded = GUARDS[name]()(fn)
        assert inspect.isfunction(guarded)
        assert inspect.iscoroutinefunction(guarded) is inspect.iscoroutinefunction(fn)
        assert inspect.signature(guarded) == inspect.signature(fn)
        assert (guarded.__name__, guarded.__doc__) == (fn.__name__, fn.__doc__)
        assert guarded.__qualname__ == fn.__qualname__
        assert guarded.__module__ == fn.__module__
