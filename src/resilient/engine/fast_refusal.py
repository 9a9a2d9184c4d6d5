"""End a refused call on the fast path: by a fallback that does not look at the error, or by it.

No code will look at the error of a refusal that a fallback answers, so none is constructed. The
section that refused has counted the refusal; this module runs the fallback and counts what the
caller got. A refusal that nothing answers is counted here, and raised.
"""

from __future__ import annotations

from collections.abc import Callable
from types import GeneratorType
from typing import Any, Final

from ..callables import returns_awaitable
from ..errors import CircuitOpenError, RefusedError
from ..guards.base import REFUSE, NoAnswer
from ..guards.facets import Admission
from ..knowledge.frameworks import steers
from ..outcomes import REFUSED
from ..stack import room
from .booking import may_pass
from .counters import DEGRADED, ERROR
from .keeping import asked_for, recall
from .misuse import not_awaited
from .pipeline import Pipeline
from .policy_state import PolicyState
from .refusals import by_guard
from .stops import Stopped, count_refusal
from .tracing import tell_end

_UNTOLD: Final = RefusedError("not told to anybody")


def answer(
    pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return the fallback's answer to a sync call."""
    answers = pipeline.answers
    assert answers is not None
    try:
        if pipeline.recalls is None:
            value = answers.recover(_UNTOLD, args[pipeline.skip :], kwargs)
        else:
            value = _recalled(pipeline, fn, args, kwargs)
        kind = type(value)  # pyright: ignore[reportUnknownVariableType]
        if kind is not pipeline.plain:
            if returns_awaitable(value):
                raise not_awaited(pipeline.core.name, value)
            if kind is not GeneratorType:  # one of them can be awaited, another not
                pipeline.plain = kind
    except NoAnswer:
        raise unanswered(pipeline) from None
    except BaseException as error:
        failed(pipeline, error)
        raise
    degraded(pipeline)
    return value


async def answer_async(
    pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return the fallback's answer to an async call."""
    assert pipeline.answers is not None
    try:
        if pipeline.recalls is None:
            value = pipeline.answers.recover(_UNTOLD, args[pipeline.skip :], kwargs)
        else:
            value = _recalled(pipeline, fn, args, kwargs)
        if returns_awaitable(value):
            value = await value
    except NoAnswer:
        raise unanswered(pipeline) from None
    except BaseException as error:
        failed(pipeline, error)
        raise
    degraded(pipeline)
    return value


def throw(pipeline: Pipeline, stop: Stopped) -> None:
    """Count a refusal that nothing answers, and raise it; return where the interpreter has to.

    That has to where a guard outside has a ticket, where the guard may let the call pass all the
    same, and where the refusal is the first after a quiet time, which is an event.
    """
    core, place = pipeline.core, stop.place
    guard = pipeline.fast_guards[place]
    if stop.verdict != REFUSE or stop.tickets or pipeline.fast_levels[place] >= pipeline.throws:
        return
    if core.gate or stop.now < core.counting_since:
        return
    try:
        if may_pass(guard):
            return
        error = by_guard(guard, core, stop.why, stop.retry_after)
        room()
    except Exception:  # a guard's own: the interpreter meets it too, and counts the call
        return
    if not core.locked(_count_error, core, guard.kind, stop.now):
        return
    if PolicyState.on_end is not None:
        tell_end(core, REFUSED, "error", guard.kind, 0.0)
    context = error.__context__
    try:
        raise error
    finally:
        error.__context__ = context  # the one that is being handled here is not its own
        del context, error


def _count_error(core: PolicyState, kind: str, now: float) -> bool:
    """Count a refusal that its caller gets; return False if it is news."""
    if not count_refusal(core, kind, now):
        return False
    core.errors += 1
    if core.shared_row is not None:
        core.shared_row[ERROR] = core.errors
    return True


def _recalled(
    pipeline: Pipeline, fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    """Return what the guard kept of such a call."""
    assert pipeline.recalls is not None
    asked = asked_for(pipeline, fn, args, kwargs, pipeline.core.now())
    return recall(pipeline, pipeline.recalls, asked).value


def degraded(pipeline: Pipeline) -> None:
    """Count an answer."""
    core = pipeline.core
    core.locked(_count, core)
    if PolicyState.on_end is not None:
        tell_end(core, REFUSED, "degraded", _newest(core), 0.0)


def _count(core: PolicyState) -> None:
    core.degraded += 1
    if core.shared_row is not None:
        core.shared_row[DEGRADED] = core.degraded


def _newest(core: PolicyState) -> str:
    """Return the kind of the guard that refused last."""
    return max(core.refused_at, key=lambda kind: core.refused_at[kind])


def _refusal(pipeline: Pipeline, newest: str) -> RefusedError:
    """Return the error of the newest refusal, which was not constructed then."""
    core = pipeline.core
    asked = (guard for guard in pipeline.guards if isinstance(guard, Admission))
    refuser = next((guard for guard in asked if guard.kind == newest), None)
    if refuser is None:  # another call has refused since: the policy has been forced open
        return CircuitOpenError(f"{core.name}: refused", policy=core.name, guard=newest)
    return by_guard(refuser, core, refuser.why, refuser.retry_after(core.now()))


def unanswered(pipeline: Pipeline) -> RefusedError:
    """Count a refusal that nothing has answered; return its error."""
    core, newest = pipeline.core, _newest(pipeline.core)
    core.locked(core.count_error)
    if PolicyState.on_end is not None:
        tell_end(core, REFUSED, "error", newest, 0.0)
    return _refusal(pipeline, newest)


def failed(pipeline: Pipeline, error: BaseException) -> None:
    """Count a fallback that failed, and make the refusal the cause of its error."""
    if not isinstance(error, Exception):
        return
    core, newest = pipeline.core, _newest(pipeline.core)
    if error.__cause__ is None:
        error.__cause__ = _refusal(pipeline, newest)
    callers = steers(error)
    core.locked(core.answer_failed, callers)
    if PolicyState.on_end is not None:
        tell_end(core, REFUSED, "caller_error" if callers else "error", newest, 0.0)
