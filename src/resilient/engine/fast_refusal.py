"""The fast path of a call that a guard refused and a fallback answers without looking at the error.

No code will look at the refusal's error, so none is made: the section that refused has counted it,
the fallback runs, and what the caller got is counted here.
"""

from __future__ import annotations

from typing import Any, Final

from ..callables import returns_awaitable
from ..errors import CircuitOpenError, RefusedError
from ..guards.facets import Admission
from ..knowledge.frameworks import steers
from ..outcomes import REFUSED
from .counters import DEGRADED
from .misuse import not_awaited
from .pipeline import Plan
from .policy_state import Core
from .refusals import by_guard
from .tracing import tell_end

_UNTOLD: Final = RefusedError("not told to anybody")


def answer(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the fallback's answer to a sync call."""
    assert plan.answers is not None
    try:
        value = plan.answers.recover(_UNTOLD, args[plan.skip :], kwargs)
        if returns_awaitable(value):
            raise not_awaited(plan.core.name, value)
    except BaseException as error:
        _failed(plan, error)
        raise
    _degraded(plan)
    return value


async def answer_async(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the fallback's answer to an async call."""
    assert plan.answers is not None
    try:
        value = plan.answers.recover(_UNTOLD, args[plan.skip :], kwargs)
        if returns_awaitable(value):
            value = await value
    except BaseException as error:
        _failed(plan, error)
        raise
    _degraded(plan)
    return value


def _degraded(plan: Plan) -> None:
    core = plan.core
    with core.lock:  # not a section: nothing else is done in it
        core.degraded += 1
        if core.cells is not None:
            core.cells[DEGRADED] = core.degraded
    if Core.on_end is not None:
        tell_end(core, REFUSED, "degraded", _newest(core), 0.0)


def _newest(core: Core) -> str:
    """Return the guard that refused last."""
    return max(core.refused_at, key=lambda kind: core.refused_at[kind])


def _failed(plan: Plan, error: BaseException) -> None:
    """Count a fallback that failed, and give its error the refusal as a cause."""
    if not isinstance(error, Exception):
        return
    core = plan.core
    newest = _newest(core)
    asked = (guard for guard in plan.guards if isinstance(guard, Admission))
    refuser = next((guard for guard in asked if guard.kind == newest), None)
    if error.__cause__ is None and refuser is not None:
        error.__cause__ = by_guard(refuser, core, refuser.why, refuser.retry_after(core.now()))
    elif error.__cause__ is None:  # the newest is another call's: the policy has been forced open
        why = f"{core.name}: refused"
        error.__cause__ = CircuitOpenError(why, policy=core.name, guard=newest)
    callers = steers(error)
    core.locked(core.answer_failed, callers)
    if Core.on_end is not None:
        tell_end(core, REFUSED, "caller_error" if callers else "error", newest, 0.0)
