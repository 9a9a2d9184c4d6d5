"""A call of a policy in the body of a probe of the same policy: it is part of that probe."""

from __future__ import annotations

import itertools
import threading
from typing import Any

import anyio
import pytest

from resilient import CircuitOpenError, Policy, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import fails

_numbers = itertools.count()


def half_open(*inside: Any, **options: Any) -> Policy:
    """Return a policy whose next call is a probe."""
    clock = ManualClock()
    breaker = circuit_breaker(failure_threshold=1, recovery_timeout=1, **options)
    shop = Policy(f"probed-{next(_numbers)}", breaker, *inside, clock=clock)
    with pytest.raises(OSError, match="down"):
        shop.call(fails)
    clock.advance(2)
    return shop


@pytest.mark.parametrize("inside", [(), (bulkhead,), (bulkhead, timeout)], ids=len)
@pytest.mark.parametrize("levels", [1, 3])
def test_it_is_let_in(inside: Any, levels: int) -> None:
    """However deep, decorated or not: the circuit closes by the outer one alone."""
    made = {bulkhead: bulkhead(9), timeout: timeout(5, sync="cooperative")} if inside else {}
    shop = half_open(*(made[each] for each in inside))
    inner = shop(lambda: "inner")

    def outer(left: int) -> str:
        assert shop.state == "half_open"
        return shop.call(outer, left - 1) if left else inner()

    assert shop(outer)(levels) == "inner"
    assert shop.state == "closed"
    assert shop.snapshot()["in_flight"] == 0
    assert shop.snapshot()["calls"]["refused"] == 0


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize("decorated", [True, False])
def test_it_is_let_in_async(backend: str, *, decorated: bool) -> None:
    """The same in a coroutine that it awaits."""
    shop = half_open(bulkhead(9), timeout(5, sync="cooperative"))

    async def inner() -> str:
        return "inner"

    async def outer() -> str:
        return await (shop(inner)() if decorated else shop.acall(inner))

    async def main() -> str:
        return await (shop(outer)() if decorated else shop.acall(outer))

    assert anyio.run(main, backend=backend) == "inner"
    assert shop.state == "closed"


def test_its_failure_is_that_of_the_probe() -> None:
    """What goes through the probe fails it."""
    shop = half_open()
    with pytest.raises(OSError, match="down"):
        shop.call(lambda: shop.call(fails))
    assert shop.state == "open"


def test_a_failure_that_the_probe_survives() -> None:
    """What its body catches is no result of the probe."""
    shop = half_open()
    assert shop.call(lambda: isinstance(shop.try_call(fails).error, OSError)) is True
    assert shop.state == "closed"


def test_others_are_refused() -> None:
    """Another thread's call is not part of the probe, nor that of another policy's probe."""
    shop, other = half_open(), half_open()
    found: list[Any] = []

    def outer() -> None:
        thread = threading.Thread(target=lambda: found.append(shop.try_call(int).error))
        thread.start()
        thread.join()
        other.call(int)

    shop.call(outer)
    assert [type(each) for each in found] == [CircuitOpenError]
    assert (shop.state, other.state) == ("closed", "closed")
