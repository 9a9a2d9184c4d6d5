"""Real policies on a virtual clock: apart from those of the process, and repeatable."""

from __future__ import annotations

import builtins
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Any, Final, cast

import resilient

from .. import validation
from ..admin.registry import registry
from ..admin.settings import value_of
from ..admin.shadows import told_of
from ..clock import Clock
from ..engine.key_states import KeyState
from ..engine.key_table import KeyTable
from ..engine.policy_state import PolicyState
from ..events import Event
from ..guards.base import Guard
from ..guards.candidate import Candidate
from ..guards.facets import Jitters
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
        shadow: makes candidates that stand beside them.
        max_keys: how many keys have guards of their own; 0: calls have no key.
        collapse: whether callers of one key at one time share one call.
    """

    name: str
    guards: Guards
    shadow: Guards = tuple
    max_keys: int = 0
    collapse: bool = False


@dataclass(frozen=True, slots=True)
class Move:
    """A change of a circuit's state: when, of which client process, to what, of which key."""

    at: float
    process: int
    state: str
    key: str = ""


MAX_KEYS: Final = 1000


class _Keys(KeyTable):
    """Prepares the guards of each key."""

    def __init__(
        self, core: PolicyState, max_keys: int, prepare: Callable[[Guard, str], None]
    ) -> None:
        self._prepare = prepare
        super().__init__(core, max_keys)

    def made(self, text: str) -> KeyState:
        """Return a new state for a key, which is not added yet."""
        state = super().made(text)
        for guard in state.own:
            self._prepare(guard, text)
        return state


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
    policy = _made(plan, clock)
    core = policy._core
    core.refused_at = _NoNews()
    prepare = partial(_prepare, process=process, draw=draw, moves=moves)
    for guard in core.guards:
        prepare(guard, "")
    if plan.max_keys:
        core.keys = _Keys(core, plan.max_keys, prepare)
    with core.lock:  # no first call: that would begin to follow the store of this process
        core.gate = core.compute_gate(begun=True)
        core.uncalled = False
    return policy


def _made(plan: PolicyPlan, clock: Clock | None) -> Policy:
    policy = Policy(f"{PREFIX}{plan.name}", *plan.guards(), clock=clock)
    registry.drop(policy._core)  # no metrics, no orders: it is no policy of this process
    for candidate in plan.shadow():
        policy.shadow(candidate)
    return policy


def try_out(plan: PolicyPlan) -> None:
    """Make a policy once, so that guards which don't go together are told now.

    Raises:
        ValueError: they don't, or something in the plan has no meaning for them.
        TypeError: a shadow is of what can't be one.
    """

    async def ask(seconds: float | None, key: int) -> None:
        pass

    try:
        guarded(plan, _made(plan, None), ask)
    except (ValueError, TypeError) as error:
        raise type(error)(f"policy {plan.name!r}: {error}") from None


def guarded(plan: PolicyPlan, policy: Policy, fn: Callable[[float | None, int], Any]) -> Any:
    """Return fn as a client process calls it: through its policy, by keys, or shared."""
    owner: Any = policy.keyed(_text, max_keys=plan.max_keys) if plan.max_keys else policy
    made = owner(fn)
    return resilient.collapse(key=_number)(made) if plan.collapse else made


def states_of(policy: Policy) -> list[str]:
    """Return the states of a policy's circuits: of each key, if it has keys."""
    table = policy._core.keys
    return [policy.state] if table is None else [each.state for each in table.used()]


def shadows_of(policies: Sequence[Policy]) -> dict[str, dict[str, int]]:
    """Return what the candidates of all client processes would have done, by their guard."""
    found: dict[str, dict[str, int]] = {}
    for policy in policies:
        core = policy._core
        for told in (told_of(core, each) for each in core.guards if isinstance(each, Candidate)):
            row = found.setdefault(told["guard"], {"would_open": 0, "would_refuse": 0})
            for word in row:
                row[word] += told[word]
    return found


def _number(seconds: float | None, key: int) -> int:
    return key


def _text(seconds: float | None, key: int) -> str:
    return str(key + 1)


def _prepare(
    guard: Guard, key: str, *, process: int, draw: Callable[[], float], moves: list[Move]
) -> None:
    if isinstance(guard, Jitters):
        guard.jitter(True)
    for each in (guard, getattr(guard, "candidate", None)):
        if getattr(each, "random", None) is not None:
            cast("Any", each).random = draw
    pass_on = guard.emit

    def emit(item: Any) -> None:
        if not isinstance(item, Event):
            pass_on(item)
        elif item.kind in ("opened", "half_open", "closed"):
            moves.append(Move(item.at, process, str(item.after), key))

    guard.emit = emit
