"""Async callers of one event loop who share one call, which runs in a task of its own."""

from __future__ import annotations

import sys
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Iterable
from contextvars import copy_context
from typing import Any

import anyio

from ...deadline import current
from ...locks import tally
from ..flights import Flight, Flights, answers_of, distinct, inside
from ..policy_state import PolicyState
from ..sync.sharing import answer_all
from .waker import AsyncWaker, current_task

Run = Callable[[], Coroutine[Any, Any, None]]


async def shared(
    flights: Flights, place: Any, fn: Callable[..., Any], args: tuple[Any, ...],
    kwargs: dict[str, Any],
) -> Any:  # fmt: skip
    """Return what fn returns for the first of several callers."""
    loop = _loop()
    here = id(loop), place
    while True:
        if flights.runs_in(here):
            return await fn(*args, **kwargs)
        fresh = Flight(loop)
        flight = flights.of(here, fresh)

        async def fly(flight: Flight = flight) -> None:
            value = await fn(*args, **kwargs)
            flights.forget(here, flight)
            flight.end(value)

        if await _in(flights, here, flight, fly if flight is fresh else None):
            return flight.value


async def batched(
    flights: Flights, place: Any, run: Callable[[list[Any]], Any], key: Any, name: str,
    core: PolicyState, within: float, most: int,
) -> Any:  # fmt: skip
    """Return the answer for one key of a batch, which is gathered for some seconds."""
    loop = _loop()
    here = id(loop), place
    while True:
        fresh = Flight(loop, most)
        flight = flights.of(here, fresh)

        async def fly(flight: Flight = flight) -> None:
            bell = AsyncWaker()
            flight.full = bell.ring
            until = core.now() + within
            while not flight.is_full and core.now() < until:
                await bell.wait(core, until)
            flights.forget(here, flight)
            numbers = flight.close()
            keys, places = distinct([flight.keys[number] for number in numbers])
            with tally:
                flights.counts.batches = (flights.counts.batches or 0) + 1
            answer_all(flight, numbers, places, answers_of(name, keys, await run(keys)))

        number = await _in(flights, here, flight, fly if flight is fresh else None, key)
        if number:
            return flight.answer(number - 1, own=flight is fresh)


def _loop() -> object:
    loop = current_task()[0]
    return sys.modules["trio"].lowlevel.current_trio_token() if loop is None else loop


async def _in(flights: Flights, here: Any, flight: Flight, fly: Run | None, key: Any = None) -> int:
    """Wait in a flight, which begins where `fly` is given.

    Returns:
        The caller's number, from 1 on; 0 to begin anew.
    """
    event = anyio.Event()
    number = flight.join(event.set, key)
    if number < 0:
        flights.forget(here, flight)
        return 0
    try:
        if fly is not None:
            _start(flights, here, flight, fly)
        await event.wait()
    except BaseException as error:
        if fly is not None and flight.over is None:  # no task has come of it
            flights.leave(here, flight)
        elif flight.leave(number):
            await _stop(flight, closing=isinstance(error, GeneratorExit))
        raise
    if flight.gone:
        if fly is not None and flight.interrupt is not None:
            raise flight.interrupt
        return 0
    if fly is None:
        with tally:
            flights.counts.shared += 1
    if flight.error is not None:
        flight.answer(number, own=fly is not None)
    return number + 1


def _start(flights: Flights, here: Any, flight: Flight, fly: Run) -> None:
    """Begin the call in a task: in the first caller's context, without its deadline."""
    context = copy_context()
    context.run(current.set, None)
    context.run(inside.set, inside.get() | {flight.serial})
    ended = anyio.Event()

    def over(_: object = None) -> None:
        flights.forget(here, flight)
        if not (flight.ended or flight.gone):  # cancelled before it began
            flight.give_up()
        ended.set()

    loop: Any = current_task()[0]
    if loop is not None:
        task = loop.create_task(_fly(flights, here, flight, fly), context=context)
        flight.cancel, flight.over = task.cancel, ended
        task.add_done_callback(over)
        task.add_done_callback(_seen)
        return
    trio = sys.modules["trio"]
    scope = trio.CancelScope()
    flight.cancel = scope.cancel

    async def scoped() -> None:
        try:
            with scope:
                await _fly(flights, here, flight, fly)
        finally:
            over()

    trio.lowlevel.spawn_system_task(scoped, name="resilient shared call", context=context)
    flight.over = ended


async def _fly(flights: Flights, here: Any, flight: Flight, fly: Run) -> None:
    """Make the call, and give those who wait for it what came of it."""
    try:
        await fly()
    except Exception as error:
        flights.forget(here, flight)
        flight.end(None, error)
    except BaseException as error:
        flights.forget(here, flight)
        if not _is_cancellation(error):  # such as SystemExit: it is the first caller's
            flight.interrupt = error
            flight.give_up()
            return
        if isinstance(error, CancelledError) and not flight.is_cancelled:
            flight.end(None, CancelledError())  # the body's own, as its caller would get it
        else:
            flight.give_up()
        raise


def _is_cancellation(error: BaseException) -> bool:
    cancelled = anyio.get_cancelled_exc_class()
    inner: Iterable[BaseException] = getattr(error, "exceptions", ())
    return isinstance(error, cancelled) or any(_is_cancellation(each) for each in inner)


async def _stop(flight: Flight, *, closing: bool) -> None:
    """Cancel a call that nobody waits for, and wait for its end."""
    flight.is_cancelled = True
    if flight.cancel is not None:
        flight.cancel()
    if not closing:  # else it may not await any more
        with anyio.CancelScope(shield=True):
            await flight.over.wait()


def _seen(task: Any) -> None:
    """Take the error of a task: its callers have it."""
    if not task.cancelled():
        task.exception()
