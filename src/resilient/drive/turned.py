"""The fast path of a call that a guard refused and a fallback answers without looking at the error.

Nobody sees the refusal's error then, so none is made: it is counted in the section that refused
(`note`), the fallback runs, and what the caller got is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from ..errors import CircuitOpenError, RefusedError
from ..guards.base import Guard
from ..outcomes import REFUSED
from ..shapes import returns_awaitable
from ..steering import steers
from .core import QUIET, Core, tell_end
from .counting import DEGRADED, ENDED
from .ending import refusal_by

if TYPE_CHECKING:
    from .plan import Plan


class Stopped:
    """What the fast path gives in place of tickets.

    Where it is neither AGAIN nor TURNED, a refusal of the outermost guard that the fast path asks.
    """

    __slots__ = ("retry_after", "why")

    def __init__(self, why: str, retry_after: float | None) -> None:
        self.why: str = why
        self.retry_after: float | None = retry_after


AGAIN: Final = Stopped("", None)  # nothing has been taken: the interpreter begins
TURNED: Final = Stopped("", None)  # refused, and counted as that: the fallback answers

_UNTOLD: Final = RefusedError("not told to anybody")


def answerer(guards: tuple[Guard, ...]) -> Guard | None:
    """Return the guard that answers every refusal of a policy in this way, if there is one."""
    inside = [guard for guard in guards if not guard.shutter]
    recovering = [guard for guard in inside if type(guard).recover is not Guard.recover]
    alone = len(recovering) == 1 and recovering[0] is inside[0]
    # An answer of a switch inside is not reached: the switch keeps its calls off the fast path.
    return inside[0] if alone and inside[0].blind else None


def note(core: Core, kind: str, now: float) -> bool:
    """Count a refusal; under the lock. False where it is news, whose event needs the error."""
    last = core.refused_at.get(kind)
    if last is None or now - last >= QUIET:
        return False
    core.refused_at[kind] = now
    core.refusals[kind] += 1
    core.counts[REFUSED] += 1
    if core.cells is not None and core.layout is not None:
        core.cells[ENDED + REFUSED] = core.counts[REFUSED]
        at = core.layout.refused_at.get(kind)  # a view's guard may be younger than the cells
        if at is not None:
            core.cells[at] = core.refusals[kind]
    return True


def answer(plan: Plan, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Return the fallback's answer to a sync call."""
    assert plan.answers is not None
    try:
        value = plan.answers.recover(_UNTOLD, args[plan.skip :], kwargs)
        if returns_awaitable(value):
            _close(value)
            raise TypeError(not_awaited(plan.core.name, value))
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


def not_awaited(policy: str, value: object) -> str:
    """Return what is wrong with an awaitable that a sync call's fallback returned."""
    return (
        f"{policy}: the fallback of a sync call returned an awaitable "
        f"({type(value).__name__}), which nobody would await; give it a plain function"
    )


def _close(value: Any) -> None:
    close: Callable[[], object] | None = getattr(value, "close", None)
    if close is not None:
        close()


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
    refuser = next((guard for guard in plan.guards if guard.kind == newest), None)
    if error.__cause__ is None and refuser is not None:
        error.__cause__ = refusal_by(refuser, core, refuser.why, refuser.retry_after(core.now()))
    elif error.__cause__ is None:  # the newest is another call's: the policy has been forced open
        why = f"{core.name}: refused"
        error.__cause__ = CircuitOpenError(why, policy=core.name, guard=newest)
    callers = steers(error)
    core.locked(core.answer_failed, callers)
    if Core.on_end is not None:
        tell_end(core, REFUSED, "caller_error" if callers else "error", newest, 0.0)
