"""Sync callers who share one call: the first makes it on its thread, the others wait for it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ...deadline import check, current, remaining
from ...locks import tally
from ..flights import Flight, Flights, answers_of, distinct, inside
from ..policy_state import PolicyState
from ..waiting import CHOP
from .driver import in_event_loop, sleep
from .workers import Signal

_AGAIN: Final = object()


def shared(
    flights: Flights, place: Any, fn: Callable[..., Any], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    """Return what fn returns for the first of several callers."""
    while True:
        if flights.runs_in(place):
            return fn(*args, **kwargs)
        fresh = Flight()
        try:
            flight = flights.of(place, fresh)
            if flight is fresh:
                return _lead(flights, place, flight, fn, args, kwargs)
        finally:  # an interrupt, such as KeyboardInterrupt, is this caller's alone
            flights.leave(place, fresh)
        if in_event_loop():  # waiting would stop every task there
            return fn(*args, **kwargs)
        found = _follow(flights, place, flight)
        if found is not _AGAIN:
            return found


def _lead(
    flights: Flights, place: Any, flight: Flight, fn: Callable[..., Any], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    try:
        value = _apart(flight, fn, args, kwargs)
    except Exception as error:
        flights.forget(place, flight)
        flight.end(None, error)
        raise
    flights.forget(place, flight)
    flight.end(value)
    return value


def _apart(
    flight: Flight, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Call fn in this context, but without its deadline, which is not that of the others."""
    within, bound = inside.set(inside.get() | {flight.serial}), current.set(None)
    try:
        return fn(*args, **kwargs)
    finally:
        current.reset(bound)
        inside.reset(within)


def _follow(flights: Flights, place: Any, flight: Flight, key: Any = None) -> Any:
    signal = Signal()
    number = flight.join(signal.set, key)
    if number < 0:
        flights.forget(place, flight)
        return _AGAIN
    return _wait(flights, flight, number, signal)


def _wait(flights: Flights, flight: Flight, number: int, signal: Signal) -> Any:
    """Return the answer once it is there; until the caller's own deadline at most."""
    try:
        while not (flight.ended or flight.gone):
            left = remaining()
            signal.wait(CHOP if left is None else min(left, CHOP))
            if left is not None:
                check()
    except BaseException:
        flight.leave(number)
        raise
    if flight.gone:
        return _AGAIN
    with tally:
        flights.counts.shared += 1
    return flight.answer(number, own=False)


# -- batches -----------------------------------------------------------------------------


def batched(
    flights: Flights, place: Any, run: Callable[[list[Any]], Any], key: Any, name: str,
    core: PolicyState, within: float, most: int,
) -> Any:  # fmt: skip
    """Return the answer for one key of a batch, which is gathered for some seconds."""
    if in_event_loop():  # it must not wait there
        return _alone(flights, run, key, name)
    while True:
        fresh, signal = Flight(most=most), Signal()
        fresh.full = signal.set
        fresh.join(signal.set, key)  # before anybody else can: its first caller is number 0
        try:
            flight = flights.of(place, fresh)
            if flight is fresh:
                _gather(flights, place, flight, signal, core, within)
                fly(flights, flight, partial(_on_its_own, flight, run), name)
                return flight.answer(0, own=True)
        finally:
            flights.leave(place, fresh)
        found = _follow(flights, place, flight, key)
        if found is not _AGAIN:
            return found


def _alone(flights: Flights, run: Callable[[list[Any]], Any], key: Any, name: str) -> Any:
    with tally:
        flights.counts.batches = (flights.counts.batches or 0) + 1
    value, error = answers_of(name, [key], run([key]))[0]
    if error is not None:
        raise error
    return value


def _on_its_own(flight: Flight, run: Callable[[list[Any]], Any], keys: list[Any]) -> Any:
    return _apart(flight, run, (keys,), {})


def _gather(
    flights: Flights, place: Any, flight: Flight, signal: Signal, core: PolicyState, within: float
) -> None:  # fmt: skip
    """Wait for further callers of a batch, until it is full or its time is up."""
    until = core.now() + within
    while not flight.is_full and core.now() < until:
        sleep(core, until, signal)
    flights.forget(place, flight)


def fly(flights: Flights, flight: Flight, run: Callable[[list[Any]], Any], name: str) -> None:
    """Run the batch function for the callers who still wait, and give each its answer."""
    try:
        numbers = flight.close()
        keys, places = distinct([flight.keys[number] for number in numbers])
        with tally:
            flights.counts.batches = (flights.counts.batches or 0) + 1
        answer_all(flight, numbers, places, answers_of(name, keys, run(keys)))
    except Exception as error:
        flight.end(None, error)


def answer_all(
    flight: Flight, numbers: list[int], places: list[int],
    given: list[tuple[Any, BaseException | None]],
) -> None:  # fmt: skip
    """Give each caller of a batch its answer."""
    answers: list[tuple[Any, BaseException | None]] = [(None, None)] * len(flight.keys)
    for number, place in zip(numbers, places, strict=True):
        answers[number] = given[place]
    flight.answers = answers
    flight.end(None)
