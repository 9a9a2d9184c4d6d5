"""Waiting for what no event announces."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

T = TypeVar("T")

WAIT = 60.0  # no test waits longer for anything
_LONGEST = 0.02  # seconds between two looks


def until(
    condition: Callable[[], T],
    otherwise: str | Callable[[], str] = "the condition never came to hold",
    *,
    seconds: float = WAIT,
) -> T:
    """Wait until a condition holds, and return what it gave; else fail with the other words."""
    end, pause = time.monotonic() + seconds, 0.0005
    while not (found := condition()):
        assert time.monotonic() < end, otherwise() if callable(otherwise) else otherwise
        time.sleep(pause)
        pause = min(2 * pause, _LONGEST)
    return found


@contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the body takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"took {took:.2f} s, and may take {seconds} s"
