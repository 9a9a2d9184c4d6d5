"""Real policies on a virtual clock: apart from those of the process, and repeatable."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import inf
from typing import Any, Final, cast

import resilient

from .. import validation
from ..admin.registry import registry
from ..admin.settings import value_of
from ..clock import Clock
from ..events import Event
from ..guards.base import Guard
from ..guards.facets import Stateful
from ..guards.kinds import kinds
from ..policy.policy import Policy

NAIVE: Final = "naive_retry"
_NAIVE: Final[dict[str, Any]] = {
    "on": ["ConnectionError", "TimeoutError"],
    "attempts": 4,
    "wait_initial": 0,
    "wait_max": 0,
    "budget": None,
}
_EXCEPTIONS: Final = ("on", "ignore")
PREFIX: Final = "simulated."

Guards = Callable[[], tuple[Guard, ...]]  # makes them anew: a guard belongs to one policy


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """A policy of a scenario.

    Attributes:
        name: what the report calls it.
        guards: makes its guards, the outermost first.
    """

    name: str
    guards: Guards


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a circuit's state: when, of which client process, to what."""

    at: float
    process: int
    state: str


class _NoNews(dict[str, float]):
    """Has a policy's refusals be no news, which would be logged."""

    def get(self, key: str, default: Any = None) -> Any:
        return inf


def known() -> list[str]:
    """Return the names of what can be a guard of a scenario."""
    return sorted({kind.kind for kind in kinds() if hasattr(resilient, kind.kind)} | {NAIVE})


def guard_of(where: str, data: Mapping[str, Any]) -> Guard:
    """Return a guard for its table in a scenario, made by its own constructor.

    Raises:
        ValueError: there is no such guard or option, or a value is not allowed.
        TypeError: a value is of a wrong type.
    """
    if "guard" not in data:
        there = ", ".join(map(validation.shown, data)) or "nothing"
        raise ValueError(f"{where}.guard is missing; there is {there}")
    kind: Any = data["guard"]
    if kind not in known():
        hint = validation.did_you_mean(kind, known()) or "."
        raise ValueError(
            f"{where}.guard: there is no guard {validation.shown(kind)}{hint} "
            f"There is: {', '.join(known())}"
        )
    options = {name: value for name, value in data.items() if name != "guard"}
    if kind == NAIVE:
        kind, options = "retry", {**_NAIVE, **options}
    try:
        given = {name: _value(name, value) for name, value in options.items()}
        made = getattr(resilient, kind)(**given)
    except (ValueError, TypeError) as error:
        raise type(error)(f"{where} ({data['guard']}): {error}") from None
    if not isinstance(made, Guard):
        validation.refuse_type(where, kind, "a guard")
    return made


def _value(name: str, value: Any) -> Any:
    if name not in _EXCEPTIONS or value is None:
        return value_of(name, value)
    words = cast("list[object]", value) if isinstance(value, list) else [value]
    return tuple(_exception(name, word) for word in words)


def _exception(name: str, word: object) -> type[Exception]:
    found = None
    if isinstance(word, str):
        found = getattr(resilient, word, None) or getattr(builtins, word, None)
    if not (isinstance(found, type) and issubclass(found, Exception)):
        named = [each for each in (*dir(builtins), *dir(resilient)) if each.endswith("Error")]
        allowed = "the name of an exception of Python or resilient, such as ConnectionError"
        near = validation.nearest(word, named)
        validation.refuse(name, word, allowed + (f" (did you mean {near!r}?)" if near else ""))
    return found


def built(
    plan: PolicyPlan, process: int, clock: Clock, draw: Callable[[], float], moves: list[Move]
) -> Policy:
    """Return the policy of one client process.

    Args:
        plan: what it is made from.
        process: the number of the process.
        clock: the loop's.
        draw: what its guards draw from: a virtual clock need not stop chance.
        moves: takes the changes of its circuit.
    """
    policy = Policy(f"{PREFIX}{plan.name}", *plan.guards(), clock=clock)
    core = policy._core
    registry.drop(core)  # no metrics, no orders: it is no policy of this process
    core.refused_at = _NoNews()
    for guard in core.guards:
        _prepare(guard, process, draw, moves)
    with core.lock:  # no first call: that would begin to follow the store of this process
        core.gate = core.compute_gate(begun=True)
        core.uncalled = False
    return policy


def _prepare(guard: Guard, process: int, draw: Callable[[], float], moves: list[Move]) -> None:
    if isinstance(guard, Stateful):
        guard.jitter(True)
    if getattr(guard, "random", None) is not None:
        cast("Any", guard).random = draw
    pass_on = guard.emit

    def emit(item: Any) -> None:
        if not isinstance(item, Event):
            pass_on(item)
        elif item.kind in ("opened", "half_open", "closed"):
            moves.append(Move(item.at, process, str(item.after)))

    guard.emit = emit
