"""The fast path of two guards, as most policies have: see `resilient.engine.fast_path`."""

from __future__ import annotations

from functools import partial

from ..guards.base import PARK, REFUSE
from ..guards.facets import Admission
from ..outcomes import REFUSED
from .booking import book, flush_entered, give_back, leave_slowly, may_pass
from .counters import DURATION_SUM, IN_FLIGHT, QUICK, SHORTEST
from .policy_state import PolicyState
from .section import BUSY
from .stops import AGAIN, TURNED, Enter, Leave, Stopped, Tickets, count_refusal


def two_guards(  # noqa: C901, PLR0915
    core: PolicyState, guards: tuple[Admission, Admission], kinds: tuple[str, ...]
) -> tuple[Enter, Leave]:
    """Return the sections for two guards, as most policies have: their tickets are a pair."""
    outer, inner = guards
    kind1, kind2 = kinds or ("", "")
    before1, before2 = outer.admit, inner.admit
    succeeded1, succeeded2 = outer.settle_success, inner.settle_success
    outbox, flush, acquire, release = core.outbox, core.flush, core.lock.acquire, core.lock.release
    holds_lock = core.holds_lock

    def enter(now: float) -> Tickets:  # noqa: C901, PLR0912, PLR0915
        gate = core.gate
        if gate:
            return AGAIN
        first: int = PARK
        second: int = PARK
        place = 0  # of the guard that stops the call
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
            first = before1(now)
            if first < 0:
                if not (kind1 and first == REFUSE and count_refusal(core, kind1, now)):
                    why, left = outer.why, outer.retry_after(now)
            else:
                second = before2(now)
                if second >= 0:
                    core.in_flight = running = core.in_flight + 1
                    if running > core.peak:
                        core.peak = running
                    if (shared_row := core.shared_row) is not None:
                        shared_row[IN_FLIGHT] = running
                else:
                    place = 1
                    answered = kind2 and second == REFUSE and count_refusal(core, kind2, now)
                    if not answered:
                        why, left = inner.why, inner.retry_after(now)
                    if second == REFUSE and (answered or not may_pass(inner)):
                        outer.settle(first, now, REFUSED, 0.0, inner.error.__name__, False)
                        first = PARK  # its ticket is back
            core.gate = 0
            release()
            if why is not None:
                taken = (first,) if place and first >= 0 else ()
                stopped = Stopped(second if place else first, place, taken, why, left, now)
        except BaseException:
            if holds_lock():  # inline: at the end of the stack no function can be called
                core.gate = core.idle_gate
                release()
            if first >= 0 > second:
                outbox.append(partial(give_back, core, guards, [first], now))
            raise
        if second >= 0:
            if outbox:
                flush_entered(core, guards, (first, second), now)
            return first, second
        if stopped is not None:
            return stopped
        if outbox:
            flush()
        return TURNED

    def leave(tickets: Tickets, started: float, now: float) -> None:
        first, second = tickets
        duration, half = now - started, False
        if core.gate or started < core.counting_since or duration > SHORTEST:
            leave_slowly(core, guards, tickets, started, now)
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
            left = (first, -1 if half else second)
            outbox.append(partial(book, core, guards, left, started, now))
            return
        if outbox:
            flush()

    return enter, leave
