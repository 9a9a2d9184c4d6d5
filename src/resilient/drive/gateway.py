"""The critical sections on both sides of a call that goes well.

``enter(now)`` gives tickets, or None where the call is refused or has to wait: then nothing has
been taken, and the interpreter (`resilient.drive.call`) begins again. Or it gives TURNED: see
`resilient.drive.turned`.
``leave(tickets, started, now)`` books a success. They are written out for none, one and two guards,
because on this path the walk over the guards would cost as much as their arithmetic; see
``docs/explanation/architecture.md``.

Near the end of the stack any call may raise RecursionError. A guard's `before` and `succeeded` have
then taken and given nothing (see `resilient.stack`); what the section holds of guards that it asked
before is left in the outbox, as is what could not be booked, for a shorter stack.

The lock is taken by ``acquire`` inside a ``try`` that costs nothing, where ``with`` would cost as
much again: an interrupt may come between any two steps, and `Core.owned` tells whether the lock
was ours. That can be told because nobody enters here from inside a section: the gate is looked at
before.
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
from .turned import TURNED, note

_COUNTED: Final = -9  # in place of a verdict: it was REFUSE, and is counted

Tickets = Any  # opaque to the drivers
Enter = Callable[[float], Tickets]
Leave = Callable[[Tickets, float, float], None]


def gateway(
    core: Core, guards: tuple[Guard, ...], mode: Mode, *, quick: bool
) -> tuple[Enter, Leave]:
    """Return enter and leave for the guards that take part in calls of this mode.

    Where quick, enter counts a refusal and answers TURNED.
    """
    admitting = tuple(guard for guard in guards if guard.admits(mode) and not guard.shutter)
    kinds = [guard.kind if quick else "" for guard in admitting]
    if not admitting:
        return _none(core)
    if len(admitting) == 1:
        return _one(core, admitting[0], *kinds)
    if len(admitting) == 2:
        return _two(core, *admitting, *kinds)
    return _many(core, admitting)


def _one(  # noqa: C901, PLR0915
    core: Core, guard: Guard, kind: str
) -> tuple[Enter, Leave]:
    before, succeeded = guard.before, guard.succeeded
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912
        gate = core.gate
        if gate:
            return None
        try:
            acquire()
            if core.gate:
                release()
                return None
            core.gate = BUSY
            if now >= core.peak_until:
                core.turn_peak(now)
            ticket = before(now)
            if ticket >= 0:
                core.in_flight = running = core.in_flight + 1
                if running > core.peak:
                    core.peak = running
                if (cells := core.cells) is not None:
                    cells[IN_FLIGHT] = running
            elif kind and ticket == REFUSE and note(core, kind, now):
                ticket = _COUNTED
            core.gate = 0
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            raise
        if ticket < 0:
            if ticket != _COUNTED:
                return None
            if outbox:
                flush()
            return TURNED
        if outbox:
            _flush_entered(core, [(guard, ticket)], now)
        return ticket

    def leave(ticket: Tickets, started: float, now: float) -> None:
        duration = now - started
        if core.gate or started < core.born or duration > SHORTEST:
            _leave_slowly(core, [(guard, ticket)], started, now)
            return
        try:
            acquire()
            gate = core.gate
            core.gate = gate | BUSY
            succeeded(ticket, now, duration)
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
            outbox.append(partial(_book, core, [(guard, ticket)], started, now))
            return
        if outbox:
            flush()

    return enter, has_call(leave, core="core", ended="started")


def _none(core: Core) -> tuple[Enter, Leave]:  # noqa: C901
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned

    def enter(now: float) -> Tickets:
        gate = core.gate
        if gate:
            return None
        try:
            acquire()
            if core.gate:
                release()
                return None
            core.gate = BUSY
            core.entered(now)
            core.gate = 0
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            raise
        if outbox:
            _flush_entered(core, [], now)
        return ()

    def leave(tickets: Tickets, started: float, now: float) -> None:
        duration = now - started
        if core.gate or started < core.born or duration > SHORTEST:
            _leave_slowly(core, [], started, now)
            return
        try:
            acquire()
            gate = core.gate
            core.gate = gate | BUSY
            core.in_flight = running = core.in_flight - 1
            core.duration_sum = total = core.duration_sum + duration
            core.quick = quick = core.quick + 1
            if (cells := core.cells) is not None:
                cells[QUICK] = quick
                cells[DURATION_SUM] = total
                cells[IN_FLIGHT] = running
            core.gate = gate
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            raise
        if outbox:
            flush()

    return enter, has_call(leave, core="core", ended="started")


def _two(  # noqa: C901, PLR0915
    core: Core, outer: Guard, inner: Guard, kind1: str, kind2: str
) -> tuple[Enter, Leave]:
    before1, before2 = outer.before, inner.before
    succeeded1, succeeded2 = outer.succeeded, inner.succeeded
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    owned = core.owned

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912
        gate, first, second = core.gate, PARK, PARK
        if gate:
            return None
        try:
            acquire()
            if core.gate:
                release()
                return None
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
            core.gate = 0
            release()
        except BaseException:
            if owned():  # here, and not by a function: at the end of the stack there is none
                core.gate = core.rest
                release()
            if first >= 0 > second:
                outbox.append(partial(_give_back, core, [(outer, first)], now))
            raise
        if second < 0:
            if second != _COUNTED:
                return None
            if outbox:
                flush()
            return TURNED
        if outbox:
            _flush_entered(core, [(inner, second), (outer, first)], now)
        return first, second

    def leave(tickets: Tickets, started: float, now: float) -> None:
        first, second = tickets
        duration, half = now - started, False
        if core.gate or started < core.born or duration > SHORTEST:
            _leave_slowly(core, [(inner, second), (outer, first)], started, now)
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
            held = [(outer, first)] if half else [(inner, second), (outer, first)]
            outbox.append(partial(_book, core, held, started, now))
            return
        if outbox:
            flush()

    return enter, has_call(leave, core="core", ended="started")


def _many(core: Core, guards: tuple[Guard, ...]) -> tuple[Enter, Leave]:
    outbox, lock = core.outbox, core.lock

    def enter(now: float) -> Tickets:
        held: list[tuple[Guard, int]] = []  # innermost first
        try:
            with lock:
                if core.gate:
                    return None
                core.gate = BUSY
                try:
                    for guard in guards:
                        ticket = guard.before(now)
                        if ticket < 0:
                            return _refused(held, now)
                        held.insert(0, (guard, ticket))
                    core.entered(now)
                finally:
                    core.gate = 0
        except BaseException:
            if held:
                outbox.append(partial(_give_back, core, held, now))
            raise
        if outbox:
            _flush_entered(core, held, now)
        return [ticket for _, ticket in reversed(held)]

    def leave(tickets: Tickets, started: float, now: float) -> None:
        _leave_slowly(
            core, list(zip(reversed(guards), reversed(tickets), strict=True)), started, now
        )

    return enter, has_call(leave, core="core", ended="started")


def _refused(held: list[tuple[Guard, int]], now: float) -> None:
    """Give back what the guards outside a refusal have given; under the lock."""
    while held:
        guard, ticket = held[0]
        guard.after(ticket, now, REFUSED, 0.0, "", False)
        del held[0]


def _give_back(core: Core, held: list[tuple[Guard, int]], now: float) -> None:
    """Give back the tickets of a call that was never let in."""
    room()
    with core.lock:
        gate = core.gate
        if gate & BUSY:
            core.outbox.append(partial(_give_back, core, held, now))
            return
        core.gate = gate | BUSY
        try:
            if now >= core.born:  # else they were a parent process's
                _refused(held, now)
                core.mirror()
        finally:
            core.gate = gate


def _leave_slowly(core: Core, held: list[tuple[Guard, int]], started: float, now: float) -> None:
    """Book a success where something is unusual: a slow one, a forced state, a fork meanwhile."""
    try:
        _book(core, held, started, now)
    except RecursionError:
        core.outbox.append(partial(_book, core, held, started, now))


def _book(core: Core, held: list[tuple[Guard, int]], started: float, now: float) -> None:
    """Book a success.

    Inside the very section it wants to enter, in a finalizer or a signal handler, it leaves the
    work to what it interrupted.
    """
    room()
    with core.lock:
        gate = core.gate
        if gate & BUSY:
            core.outbox.append(partial(_book, core, held, started, now))
            return
        core.gate = gate | BUSY
        try:
            if core.inherits(started):
                for guard, ticket in held:
                    guard.succeeded(ticket, now, now - started)
                core.ended(SUCCESS, now - started)
                core.mirror()
        finally:
            core.gate = gate
    core.flush_after(gate)
    if now - started > SHORTEST:
        tell_slow(core, now - started)


has_call(_leave_slowly, core="core", ended="started")
has_call(_book, core="core", ended="started")


def _flush_entered(core: Core, held: list[tuple[Guard, int]], now: float) -> None:
    """Do what the section left to be done, and give the call back if a listener ends it."""
    try:
        core.flush()
    except RecursionError:  # it stays in the outbox
        return
    except BaseException:
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                for guard, ticket in held:
                    guard.after(ticket, now, CANCELLED, 0.0, "", False)
                core.ended(CANCELLED, 0.0)
                core.mirror()
            finally:
                core.gate = gate
        core.flush_after(gate)
        raise
