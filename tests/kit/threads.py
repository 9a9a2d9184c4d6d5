"""Threads that start at once, and threads that call something without a pause."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Self

from tests.kit.waiting import WAIT


def in_threads(number: int, fn: Callable[[int], Any]) -> list[Any]:
    """Call fn(0), fn(1), ... in threads that start at once; return values or exceptions."""
    barrier = threading.Barrier(number)
    ends: list[Any] = [None] * number

    def body(place: int) -> None:
        try:
            barrier.wait(WAIT)
            ends[place] = fn(place)
        except BaseException as error:
            ends[place] = error

    threads = [threading.Thread(target=body, args=(place,), daemon=True) for place in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT)
        assert not thread.is_alive(), "a thread hangs"
    return ends


class Busy:
    """Threads that call something without a pause; an error of theirs fails the test at the end."""

    def __init__(self, number: int, call: Callable[[], object]) -> None:
        self.errors: list[BaseException] = []
        self._stop = threading.Event()
        self._call = call
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]

    def _run(self) -> None:
        try:
            while not self._stop.is_set():
                self._call()
        except BaseException as error:
            self.errors.append(error)

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(WAIT)
            assert not thread.is_alive(), "a thread hangs"
        assert not self.errors, self.errors
