"""The critical sections on both sides of a call that goes well, for any number of guards.

``enter(now)`` returns tickets, or a value of `resilient.engine.stops`; a Stopped carries the
tickets of the guards outside, so that the interpreter can go on from there. ``leave(tickets,
started, now)`` books a success.

Both are one section round a small step that asks the guards. Only for two guards is the step
written into the section (`two_guards`): kept apart, it makes a whole policy a fifth slower. The
section takes the lock by ``acquire`` inside a ``try``, which costs nothing; ``with`` would double
the cost. An interrupt may come after any call; `PolicyState.holds_lock` then says whether we had
the lock. That is reliable because nobody enters from inside a section: ``enter`` reads the gate
first.

Near the end of the stack any call may raise RecursionError. A guard's `admit` and `settle_success`
then leave the guard unchanged (see `resilient.stack`), and so do the steps; what could not be
booked goes to the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..guards.base import PARK, REFUSE
from ..guards.facets import Admission
from .booking import book, flush_entered, give_back, leave_slowly, may_pass, taken_back
from .counters import DURATION_SUM, IN_FLIGHT, QUICK, SHORTEST
from .frames import has_call
from .policy_state import PolicyState
from .section import BUSY
from .stops import AGAIN, TURNED, Enter, Leave, Stopped, Tickets, count_refusal
from .two_guards import two_guards

Take = Callable[[float, Tickets], int]
Give = Callable[[Tickets, float, float], object]

_PLACES: Final = 4  # the verdict of the guard at a place is encoded as -place * _PLACES + verdict


def fast_path(
    core: PolicyState, guards: tuple[Admission, ...], *, blind_fallback: bool
) -> tuple[Enter, Leave]:
    """Return enter and leave for these guards.

    If the policy has a blind fallback, enter counts a refusal and returns TURNED.
    """
    kinds = tuple(guard.kind for guard in guards) if blind_fallback else ()
    if len(guards) == 2:
        enter, leave = two_guards(core, guards, kinds)
    else:
        enter, leave = _enter(core, guards, kinds), _leave(core, guards)
    return enter, has_call(leave, core="core", ended="started")


# -- the steps under the lock ---------------------------------------------


def _none(_: float) -> int:
    return 0


def _taking(guards: tuple[Admission, ...]) -> Take:
    """Return the step that asks the guards, and writes their tickets into a given list."""
    befores = tuple(guard.admit for guard in guards)

    def take(now: float, tickets: list[int]) -> int:
        place = 0
        for before in befores:
            verdict = before(now)
            if verdict < 0:
                return verdict - place * _PLACES
            tickets[place] = verdict
            place += 1  # noqa: SIM113 - enumerate() allocates
        return 0

    return take


def _giving(core: PolicyState, guards: tuple[Admission, ...]) -> Give:
    """Return the step that settles a success with the guards, innermost first."""
    succeeded = tuple((level, guard.settle_success) for level, guard in enumerate(guards))[::-1]

    def give(tickets: list[int], now: float, duration: float) -> None:
        for level, good in succeeded:
            good(tickets[level], now, duration)
            tickets[level] = -1

    return give


# -- the two sections ---------------------------------------------


def _enter(  # noqa: C901, PLR0915
    core: PolicyState, guards: tuple[Admission, ...], kinds: tuple[str, ...]
) -> Enter:
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    holds_lock = core.holds_lock
    alone, before = len(guards) < 2, guards[0].admit if guards else _none
    take, blank = _taking(guards), [-1] * len(guards)

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912
        gate = core.gate
        if gate:
            return AGAIN
        tickets: Any = None if alone else blank.copy()  # here: the section must not allocate
        verdict, place = PARK, 0
        why: str | None = None  # set if the call is neither admitted nor answered
        left: float | None = None
        stopped: Stopped | None = None
        try:
            acquire()
            if core.gate:
                release()
                return AGAIN
            core.gate = BUSY
            if now >= core.peak_until:
                core.roll_peak(now)
            verdict = before(now) if alone else take(now, tickets)
            if verdict >= 0:
                core.in_flight = running = core.in_flight + 1
                if running > core.peak:
                    core.peak = running
                if (shared_row := core.shared_row) is not None:
                    shared_row[IN_FLIGHT] = running
            else:
                if not alone:
                    place = -verdict // _PLACES
                    verdict += place * _PLACES
                answered = kinds and verdict == REFUSE and count_refusal(core, kinds[place], now)
                if not answered:
                    why, left = guards[place].why, guards[place].retry_after(now)
                if place and verdict == REFUSE and (answered or not may_pass(guards[place])):
                    taken_back(guards, tickets, now, guards[place].error.__name__)
            core.gate = 0
            release()
            if why is not None:
                taken = tickets[:place] if place and tickets[0] >= 0 else ()
                stopped = Stopped(verdict, place, taken, why, left, now)
        except BaseException:
            if holds_lock():  # inline: at the end of the stack no function can be called
                core.gate = core.idle_gate
                release()
            if verdict < 0 and not alone and tickets[0] >= 0:
                outbox.append(partial(give_back, core, guards, tickets, now))
            raise
        if verdict >= 0:
            given: Tickets = verdict if alone else tickets
            if outbox:
                flush_entered(core, guards, given, now)
            return given
        if stopped is not None:
            return stopped
        if outbox:
            flush()
        return TURNED

    return enter


def _leave(core: PolicyState, guards: tuple[Admission, ...]) -> Leave:
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    holds_lock = core.holds_lock
    give: Give = guards[0].settle_success if len(guards) == 1 else _giving(core, guards)

    def leave(tickets: Tickets, started: float, now: float) -> None:
        duration = now - started
        if core.gate or started < core.counting_since or duration > SHORTEST:
            leave_slowly(core, guards, tickets, started, now)
            return
        try:
            acquire()
            gate = core.gate
            core.gate = gate | BUSY
            give(tickets, now, duration)
            core.in_flight = running = core.in_flight - 1
            core.duration_sum = total = core.duration_sum + duration
            core.quick = quick = core.quick + 1
            if (shared_row := core.shared_row) is not None:
                shared_row[QUICK] = quick
                shared_row[DURATION_SUM] = total
                shared_row[IN_FLIGHT] = running
            core.gate = gate
            release()
        except BaseException as error:
            if holds_lock():  # inline: at the end of the stack no function can be called
                core.gate = core.idle_gate
                release()
            if not isinstance(error, RecursionError):
                raise
            outbox.append(partial(book, core, guards, tickets, started, now))
            return
        if outbox:
            flush()

    return leave
