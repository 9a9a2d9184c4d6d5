"""Tests of the kit: threads."""

from __future__ import annotations

import threading

import pytest

from tests.kit.threads import Busy, in_threads
from tests.kit.waiting import WAIT, until


def test_in_threads_returns_values_and_exceptions_in_order() -> None:
    """Each thread waits for all others, so that they run at the same time."""
    met = threading.Barrier(3)

    def body(number: int) -> int:
        met.wait(WAIT)
        if number == 1:
            raise SystemExit("one")
        return number

    first, second, third = in_threads(3, body)
    assert (first, third) == (0, 2)
    assert isinstance(second, SystemExit)


def test_busy_calls_until_its_end() -> None:
    """Its threads have ended by then."""
    calls: list[int] = []
    before = threading.active_count()
    with Busy(2, lambda: calls.append(1)):
        until(lambda: len(calls) > 5)
    assert threading.active_count() == before


def test_an_error_of_busy_fails_the_test() -> None:
    """No thread ends unseen."""
    with pytest.raises(AssertionError, match="KeyError"), Busy(1, lambda: {}["x"]) as busy:
        until(lambda: busy.errors)
