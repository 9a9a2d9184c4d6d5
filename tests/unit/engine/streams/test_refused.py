"""Which stream functions are refused at decoration, and that the reason is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from resilient import circuit_breaker, fallback, timeout
from tests.kit.policies import counts, policy
from tests.kit.streams import KINDS, SYNC_KIND, Kind

# -- what is refused at decoration ------------------------------------------------------------


def tries(made: Any, fn: Any) -> list[Callable[[], Any]]:
    """Return the ways to put guards round fn."""
    return [lambda: made()(fn), lambda: policy(made())(fn), lambda: policy(made()).call(fn)]


@pytest.mark.parametrize("guard", [circuit_breaker, fallback], ids=lambda guard: guard.__name__)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_failed_result_refuses_streams(kind: Kind, guard: Any) -> None:
    """A stream has no result to judge: failed_result on any guard is a TypeError that names it."""
    options = {"value": []} if guard is fallback else {}
    for attempt in tries(
        lambda: guard(failed_result=lambda value: not value, **options), kind.source(1)
    ):
        with pytest.raises(TypeError, match="failed_result"):
            attempt()


@pytest.mark.parametrize("sync", [None, "thread"])
def test_a_generator_needs_a_cooperative_timeout(sync: Any) -> None:
    """A generator under a timeout without sync=, or on threads, is refused; the reason is told."""
    for attempt in tries(lambda: timeout(1.0, sync=sync), SYNC_KIND.source(1)):
        with pytest.raises(TypeError, match="cooperative"):
            attempt()
    shop = policy(timeout(1.0, sync="cooperative"))
    with pytest.raises(TypeError, match="cooperative"):
        shop.with_(timeout(1.0, sync=sync))(SYNC_KIND.source(1))
    assert counts(shop) == {}


@pytest.mark.parametrize("sync", [None, "thread", "cooperative"])
def test_an_async_generator_takes_any_timeout(akind: Kind, sync: Any) -> None:
    """Async streams ignore how a timeout would bound a sync call."""
    guarded = timeout(5.0, sync=sync)(akind.source(1, 2))

    async def body() -> None:
        assert await akind.items(guarded()) == [1, 2]

    akind.run(body)


def plain_function() -> int:
    """Do not stream."""
    return 1


async def async_function() -> int:
    """Do not stream."""
    return 1


def a_stream() -> Iterator[int]:
    """Stream."""
    yield 1


async def an_async_stream() -> AsyncIterator[int]:
    """Stream."""
    yield 1


@pytest.mark.parametrize(
    ("fn", "instead"),
    [
        (plain_function, a_stream), (plain_function, an_async_stream),
        (async_function, a_stream), (async_function, an_async_stream),
        (a_stream, an_async_stream), (a_stream, async_function),
    ],
)  # fmt: skip
def test_a_fallback_of_the_wrong_kind_is_refused(fn: Any, instead: Any) -> None:
    """A generator can't answer a plain call, nor anything async a generator: a TypeError."""
    for make in (lambda: fallback(instead)(fn), lambda: policy(fallback(instead))(fn)):
        with pytest.raises(TypeError, match="fallback"):
            make()
