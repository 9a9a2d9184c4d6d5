"""Calls that several callers share: who is in one, and what each gets. Nothing waits here."""

from __future__ import annotations

import copy
import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar
from itertools import count
from typing import Any, Final

from ..metric_types import Metric, Sample

SHARED: Final = Metric(
    "collapsed_total", "counter",
    "Calls that got their answer from a call that another caller had begun.",
    present="with `collapse`",
)  # fmt: skip
BATCHES: Final = Metric(
    "batches_total", "counter", "Calls of a batch function.", present="with `collapse(within=...)`"
)

_serials: Final = count(1)
# The serial numbers of the flights that the code runs in: a call does not wait for itself.
inside: Final[ContextVar[frozenset[int]]] = ContextVar("resilient_flights", default=frozenset())


class Collapsed:
    """What a policy counts of shared calls.

    Attributes:
        shared: calls that another caller had begun.
        batches: calls of a batch function; None where there is none.
    """

    __slots__ = ("batches", "shared")

    def __init__(self) -> None:
        self.shared: int = 0
        self.batches: int | None = None

    def clear(self) -> None:
        """Begin anew, in a forked child."""
        self.shared = 0
        self.batches = None if self.batches is None else 0

    def data(self) -> dict[str, int | None]:
        """Return them as plain data."""
        return {"shared": self.shared, "batches": self.batches}

    def samples(self) -> list[Sample]:
        """Return them as samples of metrics."""
        found: list[Sample] = [(SHARED, (), self.shared)]
        return found if self.batches is None else [*found, (BATCHES, (), self.batches)]


class Flight:
    """One call, and the callers who share it.

    Attributes:
        loop: the event loop of all of them; None of threads.
        keys: of a batch, what each caller asks for, by its number.
        full: called when a batch has as many callers as it may.
        cancel: stops the call, of a task.
        is_cancelled: whether `cancel` was called.
        is_full: whether a batch has as many callers as it may.
        ended: whether there is an answer for those who still wait.
        gone: whether there will be none: they begin another one.
    """

    __slots__ = (
        "_closed", "_lock", "_most", "_pid", "_wakes", "answers", "cancel", "ended", "error",
        "full", "gone", "interrupt", "is_cancelled", "is_full", "keys", "loop", "over", "serial",
        "value",
    )  # fmt: skip

    def __init__(self, loop: object = None, most: int | None = None) -> None:
        self.loop: object = loop
        self.serial: int = next(_serials)
        self.interrupt: BaseException | None = None  # it is the first caller's alone
        self.keys: list[Any] = []
        self.full: Callable[[], object] | None = None
        self.cancel: Callable[[], object] | None = None
        self.is_cancelled: bool = False
        self.is_full: bool = False
        self.over: Any = None  # an event: the task has ended
        self.ended: bool = False
        self.gone: bool = False
        self.value: Any = None
        self.error: BaseException | None = None
        self.answers: list[tuple[Any, BaseException | None]] | None = None  # of a batch
        self._most = most
        self._closed = False
        self._lock = threading.Lock()
        self._pid = os.getpid()  # a child's callers do not wait for a thread of the parent
        self._wakes: dict[int, Callable[[], object]] = {}

    def join(self, wake: Callable[[], object], key: Any = None) -> int:
        """Let one more caller in; return its number, or -1 if it comes too late."""
        if self._pid != os.getpid():
            return -1
        with self._lock:
            if self._closed:
                return -1
            number = len(self.keys)
            self.keys.append(key)
            self._wakes[number] = wake
            self.is_full = full = self._most is not None and number + 1 >= self._most
            self._closed = full
        if full and self.full is not None:
            self.full()
        return number

    def leave(self, number: int) -> bool:
        """Let a caller go; return whether nobody waits any more."""
        with self._lock:
            self._wakes.pop(number, None)
            if self._wakes or self.ended or self.gone:
                return False
            self._closed = True
            return True

    def close(self) -> list[int]:
        """Let nobody in any more; return the numbers of those who wait."""
        with self._lock:
            self._closed = True
            return sorted(self._wakes)

    def end(self, value: Any, error: BaseException | None = None) -> None:
        """Give all who wait the answer, or the error."""
        self.value, self.error = value, error
        self._over(gone=False)

    def give_up(self) -> None:
        """Have those who wait begin another one: the call was interrupted."""
        self._over(gone=True)

    def _over(self, *, gone: bool) -> None:
        if self._pid != os.getpid():  # in a child: who waited, or held the lock, is not here
            self._lock, self._wakes = threading.Lock(), {}
        with self._lock:
            self._closed = True
            self.gone, self.ended = gone, not gone
            wakes, self._wakes = list(self._wakes.values()), {}
        for wake in wakes:
            wake()

    def answer(self, number: int, *, own: bool) -> Any:
        """Return a caller's answer, or raise; `own` if the call's error is its own."""
        value, error = self.value, self.error
        if self.answers is not None:
            value, error = self.answers[number]
        if error is not None:
            raise error if own else anew(error)
        return value


def anew(error: BaseException) -> BaseException:
    """Return a copy of an error for another caller, so that no traceback grows by each of them."""
    try:
        made = copy.copy(error)
    except Exception:
        return error
    if type(made) is not type(error) or made.args != error.args:
        return error
    made.__cause__, made.__context__ = error.__cause__, error.__context__
    made.__suppress_context__ = error.__suppress_context__
    return made.with_traceback(error.__traceback__)


class Flights:
    """The calls in flight of one function, by what tells them apart."""

    __slots__ = ("counts", "open")

    def __init__(self, counts: Collapsed) -> None:
        self.counts: Collapsed = counts
        self.open: dict[Any, Flight] = {}

    def of(self, place: Any, fresh: Flight) -> Flight:
        """Return the flight at a place: the fresh one, if there is none."""
        return self.open.setdefault(place, fresh)

    def forget(self, place: Any, flight: Flight) -> None:
        """Forget a flight that nobody may join any more."""
        if self.open.get(place) is flight:
            self.open.pop(place, None)

    def runs_in(self, place: Any) -> bool:
        """Return whether the code runs in the flight at a place: it would wait for itself."""
        flight = self.open.get(place)
        return flight is not None and flight.serial in inside.get()

    def leave(self, place: Any, flight: Flight) -> None:
        """Have nobody wait for a flight whose first caller has gone, interrupted at any step."""
        self.forget(place, flight)
        if not (flight.ended or flight.gone):
            flight.give_up()


def distinct(keys: Sequence[Any]) -> tuple[list[Any], list[int]]:
    """Return keys without repeats, and for each of the given ones its place among them."""
    found: list[Any] = []
    places: list[int] = []
    known: dict[Any, int] = {}
    for key in keys:
        try:
            place = known.setdefault((type(key), key), len(found))
        except Exception:  # it can't be hashed, or compared: it stands for itself
            place = len(found)
        if place == len(found):
            found.append(key)
        places.append(place)
    return found, places


def answers_of(name: str, keys: list[Any], got: Any) -> list[tuple[Any, BaseException | None]]:
    """Return the answer, or the error, for each of some distinct keys.

    Raises:
        TypeError: what the batch function gave is no mapping, and no sequence.
        ValueError: the sequence has not one answer for each key.
    """
    table: Any = got
    if isinstance(got, Mapping):
        return [_one(table[key]) if key in table else (None, _none(name, key)) for key in keys]
    if isinstance(got, Sequence) and not isinstance(got, (str, bytes)):
        if len(table) != len(keys):
            raise ValueError(
                f"{name}: a batch function must give one answer for each key, in their order; it "
                f"got {len(keys)} keys, and gave {len(table)}"
            )
        return [_one(answer) for answer in table]
    raise TypeError(
        f"{name}: a batch function must give a mapping of keys to answers, or a list of answers in "
        f"the order of the keys; it gave {type(got).__name__}"
    )


def _one(answer: Any) -> tuple[Any, BaseException | None]:
    return (None, answer) if isinstance(answer, Exception) else (answer, None)


def _none(name: str, key: object) -> LookupError:
    return LookupError(f"{name}: the batch has no answer for {key!r:.100}")
