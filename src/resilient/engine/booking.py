"""The bookings of the fast path that are not plain: late, in pieces, or from inside a section."""

from __future__ import annotations

from functools import partial
from typing import Any

from ..guards.facets import Admission
from ..outcomes import CANCELLED, REFUSED, SUCCESS
from ..stack import room
from .counters import SHORTEST
from .frames import has_call
from .policy_state import PolicyState
from .stops import Stopped
from .tracing import tell_slow

Tickets = Any  # opaque to the drivers: of one guard its own, of more a list, outermost first


def taken_back(guards: tuple[Admission, ...], tickets: list[int], now: float) -> None:
    """Give back the tickets that were taken, each once; under the lock."""
    place = len(tickets)
    while place:
        place -= 1
        if tickets[place] >= 0:  # else before the stack was too short for the others
            guards[place].settle(tickets[place], now, REFUSED, 0.0, "", False)
            tickets[place] = -1


def held(guards: tuple[Admission, ...], tickets: Tickets) -> list[tuple[Admission, int]]:
    """Return the guards that have a ticket out, innermost first."""
    given = (tickets,) if len(guards) == 1 else tickets
    pairs = zip(reversed(guards), reversed(given), strict=True) if guards else ()
    return [(guard, ticket) for guard, ticket in pairs if ticket >= 0]


def give_back(
    core: PolicyState, guards: tuple[Admission, ...], tickets: list[int], now: float
) -> None:
    """Give back the tickets of a call that was never let in."""
    room()
    core.locked_or_later(_given_back, core, guards, tickets, now)


def _given_back(
    core: PolicyState, guards: tuple[Admission, ...], tickets: list[int], now: float
) -> None:
    if now >= core.counting_since:  # else they were a parent process's
        taken_back(guards, tickets, now)
        core.write_shared_row()


def give_back_stopped(core: PolicyState, guards: tuple[Admission, ...], stop: Stopped) -> None:
    """Have the tickets given back of a call that the interpreter could not take over."""
    core.outbox.append(partial(give_back, core, guards, [*stop.tickets], stop.now))


def leave_slowly(
    core: PolicyState, guards: tuple[Admission, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book a success where something is unusual: a slow one, a forced state, a fork meanwhile."""
    try:
        book(core, guards, tickets, started, now)
    except RecursionError:
        core.outbox.append(partial(book, core, guards, tickets, started, now))


def book(
    core: PolicyState, guards: tuple[Admission, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book a success.

    Inside the very section it wants to enter, in a finalizer or a signal handler, it leaves the
    work to what it interrupted.
    """
    room()
    if core.holds_lock():
        core.outbox.append(partial(book, core, guards, tickets, started, now))
        return
    core.locked(_booked, core, held(guards, tickets), started, now)
    if now - started > SHORTEST:
        tell_slow(core, now - started)


def _booked(
    core: PolicyState, held: list[tuple[Admission, int]], started: float, now: float
) -> None:
    if not core.inherits(started):
        return
    for guard, ticket in held:
        guard.settle_success(ticket, now, now - started)
    core.ended(SUCCESS, now - started)
    core.write_shared_row()


has_call(leave_slowly, core="core", ended="started")
has_call(book, core="core", ended="started")


def flush_entered(
    core: PolicyState, guards: tuple[Admission, ...], tickets: Tickets, now: float
) -> None:
    """Do what the section left to be done, and give the call back if a listener ends it."""
    try:
        core.flush()
    except RecursionError:  # it stays in the outbox
        return
    except BaseException:
        core.locked(_ended_by_listener, core, held(guards, tickets), now)
        raise


def _ended_by_listener(core: PolicyState, held: list[tuple[Admission, int]], now: float) -> None:
    for guard, ticket in held:
        guard.settle(ticket, now, CANCELLED, 0.0, "", False)
    core.ended(CANCELLED, 0.0)
    core.write_shared_row()
