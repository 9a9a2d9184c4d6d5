"""The attempts of a call that a guard asks again for: what it is told, and who pays.

The body of an attempt sees by a context variable whose attempt it is, so that a retry further in
knows that it multiplies. The record is closed at the attempt's end: a task that was started inside
is not bound by it for ever.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from contextvars import ContextVar
from math import inf
from typing import Any, Final

from ..deadline import enclosing
from ..guards.facets import Queueing, Retries
from ..guards.tried import Tried
from ..knowledge.libraries import is_answer
from ..knowledge.repeats import UNKNOWN, once_answered
from ..outcomes import FAILURE
from .call import Call, Retrying
from .faults import log_fault
from .pipeline import Once, Pipeline
from .policy_state import PolicyState

_DEEPEST: Final = 100  # contexts of an error that are looked at: they may be a circle


Whose = tuple[PolicyState, Retries]


class AttemptMark:
    """One attempt of a policy that may ask again."""

    __slots__ = ("outer", "whose")
    whose: Whose | None  # None once the attempt has ended
    outer: AttemptMark | None


current: Final[ContextVar[AttemptMark | None]] = ContextVar("resilient_attempt", default=None)


def is_one(call: Call) -> bool:
    """Return whether what a call runs now is an attempt, or a part of one."""
    retries = call.pipeline.retries
    return retries is not None and (call.recovering_from is None or call.level > retries[0])


def begin(pipeline: Pipeline) -> AttemptMark:
    """Record in the context that an attempt runs."""
    assert pipeline.retries is not None
    own, outer = AttemptMark(), current.get()
    while outer is not None and outer.whose is None:  # else the chain would grow without end
        outer = outer.outer
    own.whose, own.outer = (pipeline.core, pipeline.retries[1]), outer
    current.set(own)
    return own


def end(own: AttemptMark) -> None:
    """Close the record. It may stay in the context, where it means nothing: it keeps no policy."""
    own.whose = None


def around(call: Call) -> Whose | None:
    """Return the policy, another one, inside whose attempt the running code is, and its guard."""
    seen = current.get()
    while seen is not None:
        whose = seen.whose
        if whose is not None and whose[0] is not call.core:
            return whose
        seen = seen.outer
    return None


def inside(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return fn, run as an attempt; fn itself where the policy never asks again."""
    if pipeline.retries is None:
        return fn

    def attempt(*args: Any, **kwargs: Any) -> Any:
        own = begin(pipeline)
        try:
            return fn(*args, **kwargs)
        finally:
            end(own)

    attempt.__name__ = getattr(fn, "__name__", "attempt")
    return attempt


def inside_async(pipeline: Pipeline, fn: Callable[..., Any]) -> Callable[..., Any]:
    """Return an async fn, run as an attempt; fn itself where the policy never asks again."""
    if pipeline.retries is None:
        return fn

    async def attempt(*args: Any, **kwargs: Any) -> Any:
        own = begin(pipeline)
        try:
            return await fn(*args, **kwargs)
        finally:
            end(own)

    attempt.__name__ = getattr(fn, "__name__", "attempt")
    return attempt


# -- between two attempts ---------------------------------------------


def prepare(call: Call, outcomes: list[int]) -> None:
    """Gather what the guard that may ask again is told of a failure; without the lock."""
    assert call.pipeline.retries is not None
    level, guard = call.pipeline.retries
    if call.level < level or call.outcome < 0 or not outcomes or outcomes[level] != FAILURE:
        return
    known = call.retrying
    if known is None:
        known = call.retrying = Retrying(call.started)
    if known.stopped:
        return
    if call.final:
        known.stopped = True
        known.why = "a block, or a stream after its first item, is not repeated"
        return
    _detach(call.error, known)
    known.tried = tried = Tried(call.attempts, _hint(call, guard))
    tried.elapsed = call.core.now() - known.since
    tried.left = time_left(call, level)
    if call.pipeline.once is not None:
        tried.once = _once(call, call.pipeline.once)
    elif call.error is None and guard.judge.failed_result is None:
        tried.once = once_answered(call.value)  # what failed is known, and nobody has named it
    outer = around(call)
    if outer is not None:
        tried.inside = outer[0].name
        known.payer = outer if guard.nested == "share" else None


def _hint(call: Call, guard: Retries) -> Any:
    error = call.error if isinstance(call.error, Exception) else None
    try:
        return guard.hint(error, call.value)
    except RecursionError:
        return None
    except Exception as fault:
        log_fault(call.core.name, guard, "hint() raised, so there is no hint", fault)
        return None


def _once(call: Call, why: Once) -> str:
    try:
        return why(call.fn, call.args[call.pipeline.skip :], call.kwargs)
    except Exception:  # an argument may be anything
        return UNKNOWN


def time_left(call: Call, level: int) -> float:
    """Return the seconds until the tightest limit round the guard at a level."""
    now = call.core.now()
    own = min((when - now for when, at in call.limits if at < level), default=inf)
    outer = enclosing(but=call.deadline)  # its own are among its limits
    if outer is None or not PolicyState.active:
        return own
    gone = getattr(outer, "cuts", ()) is None  # its caller was interrupted, and has left
    return -inf if gone else min(own, outer.when - outer.now())


def given_back(call: Call, level: int, ticket: int, now: float) -> None:
    """Tell the guard at a level that the attempt it asked for did not begin; under the lock."""
    retries, known = call.pipeline.retries, call.retrying
    if retries is not None and retries[0] == level and known is not None and known.pending:
        known.pending = False
        retries[1].not_begun(ticket, now, known.why)


def asks_again(call: Call, level: int, ticket: int, now: float) -> bool:
    """Return whether the guard wants another attempt, and set its delay; under the lock."""
    retries, known = call.pipeline.retries, call.retrying
    if retries is None or known is None or known.stopped or known.tried is None:
        return False
    guard, tried = retries[1], known.tried
    known.tried = None
    for inner in call.pipeline.admissions[level + 1 :]:
        if inner is None or (isinstance(inner, Queueing) and inner.places()):
            continue
        left = inner.retry_after(now) or 0.0
        if left > tried.refuses_for:
            tried.refuser, tried.refuses_for = inner.kind, left
    delay = guard.again(ticket, now, tried)
    if delay is None:
        known.stopped, known.why = True, guard.why_not
        return False
    call.level, call.delay = level, delay
    known.pending = True
    known.failed = call.error, call.value, call.seen, call.outcome, call.expired_level
    return True


def is_paid(call: Call) -> bool:
    """Have the policy outside pay for the attempt too; return False if it does not."""
    known = call.retrying
    if known is None or known.payer is None:
        return True
    payer: Whose = known.payer
    known.payer, (core, guard) = None, payer
    if not core.holds_lock() and core.locked(guard.pay, core.now()):
        known.paid_by = payer
        return True
    known.stopped = True
    known.why = f"the budget of {core.name}, inside whose attempt it is, is empty"
    return False


def let_in(call: Call, now: float) -> None:
    """Note that an attempt begins, be it a copy of one; under the lock."""
    whole = call.original
    _begun(whole, now)
    if whole is not call:
        _begun(call, now)
    if not whole.admitted:
        call.core.entered(now)
        if call.pipeline.key is not None:
            call.pipeline.key.running += 1
            whole.in_key = True
    call.admitted = whole.admitted = True
    call.let_in(now)


def _begun(call: Call, now: float) -> None:
    """Tell the guard that the attempt it asked for begins."""
    retries, known = call.pipeline.retries, call.retrying
    if retries is None or known is None or not known.pending:
        return
    level, guard = retries
    call.attempts += 1
    if known.failed is not None:
        first, known.dropped = known.failed[:2]
        known.first = known.first or first
    known.pending, known.failed, known.paid_by = False, None, None
    guard.begun(call.tickets[level] or 0, now, call.attempts)


def dropped(call: Call) -> Any:
    """Return a known client's answer that nobody gets, once: it may hold a connection."""
    known = call.retrying
    if known is None or known.dropped is None:
        return None
    value, known.dropped = known.dropped, None
    return value if is_answer(value) else None


def _detach(error: BaseException | None, known: Retrying) -> None:
    """Take the first attempt's error out of the context of a later one's."""
    first = known.first
    if first is None or error is None or error is first:
        return
    for _ in range(_DEEPEST):
        if error.__context__ is first:
            error.__context__ = None
        if error.__context__ is None:
            return
        error = error.__context__


def concluded(call: Call) -> None:
    """Settle what is left of asking again: who paid gets it back, the error says why not."""
    error, known = call.error, call.retrying
    if known is None:
        return
    _detach(error, known)
    known.first = known.failed = known.tried = None  # the error's traceback may hold this call
    if known.paid_by is not None:
        (core, guard), known.paid_by = known.paid_by, None
        core.locked_or_later(guard.pay_back, core.now())
    if not known.why or not isinstance(error, Exception):
        return
    whose = f"{call.core.name}: not tried again: "
    with contextlib.suppress(Exception):  # an exception may refuse to be written on
        notes = getattr(error, "__notes__", [])
        for place, note in enumerate(notes):
            if note.startswith(whose):  # one object that is raised again and again
                notes[place] = whose + known.why
                return
        error.add_note(whose + known.why)
