"""b.fail(reason) and b.ignore(): what the block itself says of its outcome."""

from __future__ import annotations

from typing import Any

import pytest

from resilient import CircuitOpenError, Policy, bulkhead, circuit_breaker
from tests.kit.blocks import Way, entering
from tests.kit.policies import booked, idle, policy


def touchy(**options: Any) -> Policy:
    """A policy whose circuit opens at the first failure."""
    return policy(circuit_breaker(failure_threshold=1, **options), bulkhead(3))


def say(b: Any, words: str) -> None:
    """Say fail or ignore, once for each letter."""
    for letter in words:
        if letter == "f":
            b.fail("empty answer")
        else:
            b.ignore()


def test_fail_counts_a_failure_with_its_reason(way: Way) -> None:
    """Nothing is raised; the failure and its reason are in the circuit's summary."""
    shop = touchy()

    async def body() -> None:
        async with way.block(shop) as b:
            assert b.fail("empty answer") is None
            assert booked(shop) == ({}, {}), "the outcome is told at the exit"
        refused = await entering(way, shop)
        assert isinstance(refused, CircuitOpenError)
        assert "empty answer" in str(refused)

    way.run(body)
    assert booked(shop) == ({"failure": 1, "refused": 1}, {"error": 2})
    assert shop.state == "open"
    idle(shop)


def test_ignore_is_neutral(way: Way) -> None:
    """Without an exception the outcome is ignored, and the caller was served in full."""
    shop = touchy()

    async def body() -> None:
        async with way.block(shop) as b:
            assert b.ignore() is None

    way.run(body)
    assert booked(shop) == ({"ignored": 1}, {"full": 1})
    assert shop.state == "closed"
    idle(shop)


@pytest.mark.parametrize(
    ("words", "outcome"),
    [("f", "failure"), ("i", "ignored"), ("fi", "ignored"), ("if", "failure"), ("fifi", "ignored"),
     ("ff", "failure"), ("ii", "ignored")],
)  # fmt: skip
@pytest.mark.parametrize("raises", [False, True])
def test_the_last_word_wins(way: Way, words: str, outcome: str, raises: bool) -> None:
    """Whatever was said before, and also where an exception passes."""
    shop = touchy()

    async def body() -> None:
        if not raises:
            async with way.block(shop) as b:
                say(b, words)
            return
        error = OSError("down")
        with pytest.raises(OSError, match="down") as caught:
            async with way.block(shop) as b:
                say(b, words)
                raise error
        assert caught.value is error

    way.run(body)
    served = {"ignored": "caller_error" if raises else "full"}.get(outcome, "error")
    assert booked(shop) == ({outcome: 1}, {served: 1})
    assert shop.state == ("open" if outcome == "failure" else "closed")
    idle(shop)


def test_fail_on_top_of_an_ignored_exception(way: Way) -> None:
    """The block knows better than the policy's ignore=: its word is the outcome."""
    shop = touchy(ignore=KeyError)

    async def body() -> None:
        with pytest.raises(KeyError):
            async with way.block(shop) as b:
                b.fail("empty answer")
                raise KeyError("mine")

    way.run(body)
    assert booked(shop) == ({"failure": 1}, {"error": 1})


@pytest.mark.parametrize(
    ("args", "error"),
    [
        (("",), ValueError), (("two\nlines",), ValueError), (("\x00",), ValueError),
        (("tab\t",), ValueError), ((7,), TypeError), ((None,), TypeError),
        ((OSError("down"),), TypeError), ((b"bytes",), TypeError), ((), TypeError),
    ],
)  # fmt: skip
def test_a_bad_reason_is_refused_by_name(way: Way, args: tuple[Any, ...], error: Any) -> None:
    """An empty, unprintable or foreign reason is an error that names `reason`, and no word."""
    shop = touchy()

    async def body() -> None:
        async with way.block(shop) as b:
            with pytest.raises(error, match="reason"):
                b.fail(*args)

    way.run(body)
    assert booked(shop) == ({"success": 1}, {"full": 1})


def test_a_word_before_the_block_or_after_it(way: Way) -> None:
    """Said where there is no block to say it of, it is a RuntimeError and counts nothing."""
    shop = touchy()

    async def body() -> None:
        for never in (shop.block(), shop.block()):
            with pytest.raises(RuntimeError):
                never.fail("too early")
            with pytest.raises(RuntimeError):
                never.ignore()
        async with way.block(shop) as b:
            pass
        with pytest.raises(RuntimeError):
            b.fail("too late")
        with pytest.raises(RuntimeError):
            b.ignore()
        shop.force_open()
        refused = shop.block()
        assert isinstance(await _refused(way, refused), CircuitOpenError)
        with pytest.raises(RuntimeError):
            refused.fail("was never inside")

    way.run(body)
    assert booked(shop) == ({"success": 1, "refused": 1}, {"full": 1, "error": 1})


async def _refused(way: Way, block: Any) -> BaseException:
    try:
        async with way.enter(block):
            raise AssertionError("it was let in")
    except CircuitOpenError as error:
        return error


def test_words_of_nested_blocks_are_their_own(way: Way) -> None:
    """Each block's word is about itself."""
    shop = policy(circuit_breaker(failure_threshold=9), bulkhead(3))

    async def body() -> None:
        async with way.block(shop) as outer, way.block(shop) as middle, way.block(shop):
            outer.fail("empty answer")
            middle.ignore()

    way.run(body)
    assert booked(shop) == (
        {"failure": 1, "ignored": 1, "success": 1},
        {"error": 1, "full": 2},
    )
    idle(shop)


def test_a_success_resets_and_an_ignored_block_does_not(way: Way) -> None:
    """Failures in a row are ended by a success only."""
    shop = policy(circuit_breaker(failure_threshold=3), bulkhead(1))

    async def body() -> None:
        for words in ("f", "f", "", "f", "i", "f", "i", "f"):
            assert shop.state == "closed"
            async with way.block(shop) as b:
                say(b, words)

    way.run(body)
    assert shop.state == "open"


def test_a_predicate_of_the_value_is_not_asked_about_a_block() -> None:
    """A block has no value that failed_result could judge."""
    asked: list[Any] = []
    shop = policy(circuit_breaker(failed_result=lambda value: asked.append(value) or True))
    with shop.block():
        pass
    assert (asked, shop.snapshot()["calls"]["success"]) == ([], 1)
