"""The critical sections on both sides of a call that goes well, for any number of guards.

``enter(now)`` gives tickets, or what stopped it (`resilient.drive.turned`): a refusal of the
outermost guard; AGAIN, where nothing has been taken and the interpreter (`resilient.drive.call`)
begins; TURNED.
``leave(tickets, started, now)`` books a success.

Both are one section round a small step that asks the guards. Only for two guards the step is
written into it: with it apart a whole policy takes a fifth longer. The lock is taken by
``acquire`` inside a ``try`` that costs nothing, where ``with`` would cost as much again: an
interrupt may come after any call, and `Core.owned` tells whether the lock was ours. That can be
told because nobody enters here from inside a section: the gate is looked at before.

Near the end of the stack any call may raise RecursionError. A guard's `before` and `succeeded` have
then taken and given nothing (see `resilient.stack`), and so have the steps; what could not be
booked is left in the outbox.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from ..guards.base import PARK, REFUSE, Guard, Mode
from ..outcomes import CANCELLED, REFUSED, SUCCESS
from ..stack import room
from .core import BUSY, Core, tell_slow
from .counting import DURATION_SUM, IN_FLIGHT, QUICK, SHORTEST
from .frames import has_call
from .turned import AGAIN, TURNED, Stopped, note

Tickets = Any  # opaque to the drivers: of one guard its own, of more a list, outermost first
Enter = Callable[[float], Tickets]
Leave = Callable[[Tickets, float, float], None]
Take = Callable[[float, Tickets], int]
Give = Callable[[Tickets, float, float], object]

_COUNTED: Final = -9  # in place of a verdict: it was REFUSE, and is counted
_LEVELS: Final = 4  # a verdict of the guard at a level is -level * _LEVELS + verdict


def fast_path(
    core: Core, guards: tuple[Guard, ...], mode: Mode, *, blind_fallback: bool
) -> tuple[Enter, Leave]:
    """Return enter and leave for the guards that take part in calls of a mode.

    Where the policy has a blind fallback, enter counts a refusal and answers TURNED.
    """
    admitting = tuple(guard for guard in guards if guard.admits(mode) and not guard.shutter)
    kinds = tuple(guard.kind for guard in admitting) if blind_fallback else ()
    if len(admitting) == 2:
        enter, leave = _two(core, admitting, kinds)
    else:
        enter, leave = _enter(core, admitting, kinds), _leave(core, admitting)
    return enter, has_call(leave, core="core", ended="started")


# -- the steps under the lock ---------------------------------------------


def _none(_: float) -> int:
    return 0


def _taking(core: Core, guards: tuple[Guard, ...]) -> Take:
    """Return the step that asks guards, and puts their tickets into a list that is there."""
    befores = tuple(guard.before for guard in guards)

    def take(now: float, tickets: list[int]) -> int:
        level = 0
        try:
            for before in befores:
                verdict = before(now)
                if verdict < 0:
                    _taken_back(guards, tickets, level, now)
                    return verdict - level * _LEVELS
                tickets[level] = verdict
                level += 1
        except BaseException:
            if level:
                core.outbox.append(partial(_give_back, core, guards, tickets, level, now))
            raise
        return 0

    return take


def _giving(core: Core, guards: tuple[Guard, ...]) -> Give:
    """Return the step that tells guards of a success, innermost first."""
    succeeded = tuple((level, guard.succeeded) for level, guard in enumerate(guards))[::-1]

    def give(tickets: list[int], now: float, duration: float) -> None:
        for level, good in succeeded:
            good(tickets[level], now, duration)
            tickets[level] = -1

    return give


def _taken_back(guards: tuple[Guard, ...], tickets: list[int], level: int, now: float) -> None:
    """Give back the tickets of the guards outside a level, each once; under the lock."""
    while level:
        level -= 1
        if tickets[level] >= 0:  # else before the stack was too short for the others
            guards[level].after(tickets[level], now, REFUSED, 0.0, "", False)
            tickets[level] = -1


# -- the two sections ---------------------------------------------


def _enter(  # noqa: C901
    core: Core, guards: tuple[Guard, ...], kinds: tuple[str, ...]
) -> Enter:
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned
    alone, kind = len(guards) < 2, kinds[0] if kinds else ""
    before = guards[0].before if guards else _none
    take, blank, tells = _taking(core, guards), [-1] * len(guards), _telling(guards)

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912
        gate = core.gate
        if gate:
            return AGAIN
        tickets: Any = None if alone else blank.copy()  # before the section, which allocates none
        why = left = None
        try:
            acquire()
            if core.gate:
                release()
                return AGAIN
            core.gate = BUSY
            if now >= core.peak_until:
                core.turn_peak(now)
            verdict = before(now) if alone else take(now, tickets)
            if verdict >= 0:
                core.in_flight = running = core.in_flight + 1
                if running > core.peak:
                    core.peak = running
                if (cells := core.cells) is not None:
                    cells[IN_FLIGHT] = running
            elif kinds and (
                note(core, kind, now) if verdict == REFUSE else _is_noted(core, kinds, verdict, now)
            ):
                tickets = TURNED
            elif verdict == REFUSE and tells is not None:
                why, left = tells.why, tells.retry_after(now)
            core.gate = 0
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            raise
        if verdict >= 0:
            if alone:
                tickets = verdict
            if outbox:
                _flush_entered(core, guards, tickets, now)
            return tickets
        if tickets is not TURNED:
            return AGAIN if why is None else Stopped(why, left)
        if outbox:
            flush()
        return TURNED

    return enter


def _telling(guards: tuple[Guard, ...]) -> Guard | None:
    """Return the guard whose refusal is final: where it has slots, one may be borrowed."""
    return guards[0] if guards and guards[0].slots() is None else None


def _is_noted(core: Core, kinds: tuple[str, ...], verdict: int, now: float) -> bool:
    level, refused = divmod(-verdict, _LEVELS)
    return refused == -REFUSE and note(core, kinds[level], now)


def _leave(core: Core, guards: tuple[Guard, ...]) -> Leave:
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned
    give: Give = guards[0].succeeded if len(guards) == 1 else _giving(core, guards)

    def leave(tickets: Tickets, started: float, now: float) -> None:
        duration = now - started
        if core.gate or started < core.born or duration > SHORTEST:
            _leave_slowly(core, guards, tickets, started, now)
            return
        try:
            acquire()
            gate = core.gate
            core.gate = gate | BUSY
            give(tickets, now, duration)
            core.in_flight = running = core.in_flight - 1
            core.duration_sum = total = core.duration_sum + duration
            core.quick = quick = core.quick + 1
            if (cells := core.cells) is not None:
                cells[QUICK] = quick
                cells[DURATION_SUM] = total
                cells[IN_FLIGHT] = running
            core.gate = gate
            release()
        except BaseException as error:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            if not isinstance(error, RecursionError):
                raise
            outbox.append(partial(_book, core, guards, tickets, started, now))
            return
        if outbox:
            flush()

    return leave


# -- the same, written out for two guards ---------------------------------------------


def _two(  # noqa: C901, PLR0915
    core: Core, guards: tuple[Guard, Guard], kinds: tuple[str, ...]
) -> tuple[Enter, Leave]:
    """Return the sections of two guards, which most policies have: their tickets are a pair."""
    outer, inner = guards
    kind1, kind2 = kinds or ("", "")
    before1, before2, tells = outer.before, inner.before, _telling(guards)
    succeeded1, succeeded2 = outer.succeeded, inner.succeeded
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912
        gate, first, second, why, left = core.gate, PARK, PARK, None, None
        if gate:
            return AGAIN
        try:
            acquire()
            if core.gate:
                release()
                return AGAIN
            core.gate = BUSY
            if now >= core.peak_until:
                core.turn_peak(now)
            first = before1(now)
            if first >= 0:
                second = before2(now)
                if second >= 0:
                    core.in_flight = running = core.in_flight + 1
                    if running > core.peak:
                        core.peak = running
                    if (cells := core.cells) is not None:
                        cells[IN_FLIGHT] = running
                else:
                    outer.after(first, now, REFUSED, 0.0, "", False)
                    first = second
                    if kind2 and second == REFUSE and note(core, kind2, now):
                        second = _COUNTED
            elif kind1 and first == REFUSE and note(core, kind1, now):
                second = _COUNTED
            elif first == REFUSE and tells is not None:
                why, left = tells.why, tells.retry_after(now)
            core.gate = 0
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            if first >= 0 > second:
                outbox.append(partial(_give_back, core, guards, [first], 1, now))
            raise
        if second < 0:
            if second != _COUNTED:
                return AGAIN if why is None else Stopped(why, left)
            if outbox:
                flush()
            return TURNED
        if outbox:
            _flush_entered(core, guards, (first, second), now)
        return first, second

    def leave(tickets: Tickets, started: float, now: float) -> None:
        first, second = tickets
        duration, half = now - started, False
        if core.gate or started < core.born or duration > SHORTEST:
            _leave_slowly(core, guards, tickets, started, now)
            return
        try:
            acquire()
            gate = core.gate
            core.gate = gate | BUSY
            succeeded2(second, now, duration)
            half = True
            succeeded1(first, now, duration)
            core.in_flight = running = core.in_flight - 1
            core.duration_sum = total = core.duration_sum + duration
            core.quick = quick = core.quick + 1
            if (cells := core.cells) is not None:
                cells[QUICK] = quick
                cells[DURATION_SUM] = total
                cells[IN_FLIGHT] = running
            core.gate = gate
            release()
        except BaseException as error:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            if not isinstance(error, RecursionError):
                raise
            left = (first, -1 if half else second)
            outbox.append(partial(_book, core, guards, left, started, now))
            return
        if outbox:
            flush()

    return enter, leave


# -- what is unusual ---------------------------------------------


def _held(guards: tuple[Guard, ...], tickets: Tickets) -> list[tuple[Guard, int]]:
    """Return the guards that have a ticket out, innermost first."""
    given = (tickets,) if len(guards) == 1 else tickets
    pairs = zip(reversed(guards), reversed(given), strict=True) if guards else ()
    return [(guard, ticket) for guard, ticket in pairs if ticket >= 0]


def _give_back(
    core: Core, guards: tuple[Guard, ...], tickets: list[int], level: int, now: float
) -> None:
    """Give back the tickets of a call that was never let in."""
    room()
    core.locked_or_later(_given_back, core, guards, tickets, level, now)


def _given_back(
    core: Core, guards: tuple[Guard, ...], tickets: list[int], level: int, now: float
) -> None:
    if now >= core.born:  # else they were a parent process's
        _taken_back(guards, tickets, level, now)
        core.mirror()


def _leave_slowly(
    core: Core, guards: tuple[Guard, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book a success where something is unusual: a slow one, a forced state, a fork meanwhile."""
    try:
        _book(core, guards, tickets, started, now)
    except RecursionError:
        core.outbox.append(partial(_book, core, guards, tickets, started, now))


def _book(
    core: Core, guards: tuple[Guard, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book a success.

    Inside the very section it wants to enter, in a finalizer or a signal handler, it leaves the
    work to what it interrupted.
    """
    room()
    if core.owned():
        core.outbox.append(partial(_book, core, guards, tickets, started, now))
        return
    core.locked(_booked, core, _held(guards, tickets), started, now)
    if now - started > SHORTEST:
        tell_slow(core, now - started)


def _booked(core: Core, held: list[tuple[Guard, int]], started: float, now: float) -> None:
    if not core.inherits(started):
        return
    for guard, ticket in held:
        guard.succeeded(ticket, now, now - started)
    core.ended(SUCCESS, now - started)
    core.mirror()


has_call(_leave_slowly, core="core", ended="started")
has_call(_book, core="core", ended="started")


def _flush_entered(core: Core, guards: tuple[Guard, ...], tickets: Tickets, now: float) -> None:
    """Do what the section left to be done, and give the call back if a listener ends it."""
    try:
        core.flush()
    except RecursionError:  # it stays in the outbox
        return
    except BaseException:
        core.locked(_ended_by_listener, core, _held(guards, tickets), now)
        raise


def _ended_by_listener(core: Core, held: list[tuple[Guard, int]], now: float) -> None:
    for guard, ticket in held:
        guard.after(ticket, now, CANCELLED, 0.0, "", False)
    core.ended(CANCELLED, 0.0)
    core.mirror()
