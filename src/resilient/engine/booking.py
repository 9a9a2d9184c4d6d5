"""Bookings that the fast path does not do itself: slow ones, partial ones, re-entrant ones."""

from __future__ import annotations

from functools import partial

from ..guards.facets import Admission, InFlight, Slots
from ..outcomes import CANCELLED, REFUSED, SUCCESS
from ..stack import room
from .counters import SHORTEST
from .frames import has_call
from .lent_slots import lent
from .policy_state import PolicyState
from .stops import Stopped, Tickets
from .tracing import tell_slow


def may_pass(guard: Admission) -> bool:
    """Return whether the interpreter may let a call pass a guard that has refused it.

    It may if a block around the call lends a slot, or if the guard has admitted a probe.
    """
    if isinstance(guard, Slots) and lent.get() is not None:
        return True
    return isinstance(guard, InFlight) and guard.is_probing


def taken_back(
    guards: tuple[Admission, ...], tickets: list[int], now: float, reason: str = ""
) -> None:
    """Give back the tickets that were taken, each once. The caller holds the lock."""
    place = len(tickets)
    while place:
        place -= 1
        if tickets[place] >= 0:  # -1: given back already, before a RecursionError stopped the rest
            guards[place].settle(tickets[place], now, REFUSED, 0.0, reason, False)
            tickets[place] = -1


def held(guards: tuple[Admission, ...], tickets: Tickets) -> list[tuple[Admission, int]]:
    """Return the guards that have issued a ticket, with it, innermost first."""
    given = (tickets,) if len(guards) == 1 else tickets
    pairs = zip(reversed(guards), reversed(given), strict=True) if guards else ()
    return [(guard, ticket) for guard, ticket in pairs if ticket >= 0]


def give_back(
    core: PolicyState, guards: tuple[Admission, ...], tickets: list[int], now: float
) -> None:
    """Give back the tickets of a call that was not admitted."""
    room()
    core.locked_or_later(_given_back, core, guards, tickets, now)


def _given_back(
    core: PolicyState, guards: tuple[Admission, ...], tickets: list[int], now: float
) -> None:
    if now >= core.counting_since:  # else a parent process issued them
        taken_back(guards, tickets, now)
        core.write_shared_row()


def give_back_stopped(core: PolicyState, guards: tuple[Admission, ...], stop: Stopped) -> None:
    """Schedule the return of the tickets of a call that the interpreter could not take over."""
    core.outbox.append(partial(give_back, core, guards, [*stop.tickets], stop.now))


def leave_slowly(
    core: PolicyState, guards: tuple[Admission, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book an unusual success: a slow call, a gate that is not zero, or a fork since it began."""
    try:
        book(core, guards, tickets, started, now)
    except RecursionError:
        core.outbox.append(partial(book, core, guards, tickets, started, now))


def book(
    core: PolicyState, guards: tuple[Admission, ...], tickets: Tickets, started: float, now: float
) -> None:
    """Book a success.

    A finalizer or signal handler may call this inside the policy's own section: then the booking
    goes to the outbox, for the interrupted code to do.
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
    """Run the outbox; if a listener ends the call, give back its tickets."""
    try:
        core.flush()
    except RecursionError:  # the rest stays in the outbox
        return
    except BaseException:
        core.locked(_ended_by_listener, core, held(guards, tickets), now)
        raise


def _ended_by_listener(core: PolicyState, held: list[tuple[Admission, int]], now: float) -> None:
    for guard, ticket in held:
        guard.settle(ticket, now, CANCELLED, 0.0, "", False)
    core.ended(CANCELLED, 0.0)
    core.write_shared_row()
