"""Summarize a policy for other processes: what its levers do, and which options can change."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any, Final
from weakref import WeakKeyDictionary

from ..engine.policy_state import PolicyState
from ..errors import CircuitOpenError, FlagOffError, RefusedError
from ..guards.base import Guard
from ..guards.facets import Answers, Switch
from ..guards.sorting import answering, changeable_options
from ..outcomes import FAILURE

Said = dict[str, Any]

_asked: Final[WeakKeyDictionary[Guard, dict[type[RefusedError], bool]]] = WeakKeyDictionary()


def cover(core: PolicyState) -> dict[str, bool]:
    """Return whether something answers the callers while the policy is forced open.

    ``in_views`` is there where something answers those of some views alone.
    """
    covered = _is_covered(core, core.guards)
    in_views = not covered and _is_covered(core, core.shared_guards())
    return {"covered": covered, **({"in_views": True} if in_views else {})}


def _is_covered(core: PolicyState, guards: tuple[Guard, ...]) -> bool:
    return any(_answers(guard, CircuitOpenError, core.name) for guard in answering(guards))


def answer_of(core: PolicyState) -> str:
    """Return what answers in place of the function, in a few words; "" if nothing does."""
    return next((guard.answer for guard in answering(core.guards)), "")


def switches(core: PolicyState) -> dict[str, list[str]]:
    """Return the flags of a policy's kill switches, if it has some.

    ``answered`` are the flags for which something answers while they are off.
    """
    found = [guard for guard in core.guards if isinstance(guard, Switch)]
    if not found:
        return {}
    fallback = any(_answers(guard, FlagOffError, core.name) for guard in answering(core.guards))
    answered = [each.flag.name for each in found if fallback or each.has_answer]
    return {"flags": [each.flag.name for each in found], "answered": answered}


def _answers(guard: Answers, kind: type[RefusedError], policy: str) -> bool:
    """Return True if a guard answers such a refusal of another guard; its judge runs once."""
    if guard.is_blind:
        return True
    known = _asked.setdefault(guard, {})
    if kind not in known:
        judge = guard.judge
        faults, tell = judge.faults, judge.on_fault
        judge.on_fault = None  # this question must not count as a fault of a call
        try:
            known[kind] = judge.of_error(kind("asked", policy=policy, guard="policy")) == FAILURE
        finally:
            judge.faults, judge.on_fault = faults, tell
    return known[kind]


class Moments:
    """The times at which policies entered their states, in seconds since 1970."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[PolicyState, tuple[str, float]] = WeakKeyDictionary()

    def since(self, core: PolicyState) -> float | None:
        """Return when a policy entered its state; None if it has always been closed."""
        state = core.state
        known = self._known.get(core)
        if known is not None and known[0] == state:
            return known[1]
        if known is None and state == "closed":
            return None
        self._known[core] = state, time.time()
        return self._known[core][1]


# -- options ---------------------------------------------


def stack_of(guards: Iterable[Guard]) -> list[Said]:
    """Return the guards with options that can change at run time, and their present values."""
    return [
        {
            "guard": guard.kind,
            "change": list(changeable_options(guard)),
            "options": {
                name: plain(value)
                for name, value in guard.options().items()
                if value is None or isinstance(value, (bool, int, float, str)) or name == "window"
            },
        }
        for guard in guards
        if changeable_options(guard)
    ]


def plain(value: Any) -> Any:
    """Return the value of an option as other processes read it."""
    size = getattr(value, "size", None)
    return value if size is None else f"calls({size})"


class Stacks:
    """The stacks of many policies, without duplicates."""

    def __init__(self) -> None:
        self._numbers: dict[str, str] = {}
        self.told: dict[str, list[Said]] = {}

    def number_of(self, core: PolicyState) -> str:
        """Return the number of a policy's stack."""
        revisions = tuple(guard._revision for guard in core.guards)
        known = _stacks.get(core)
        if known is None or known[0] != revisions:
            stack = stack_of(core.guards)
            known = _stacks[core] = revisions, repr(stack), stack
        _, key, stack = known
        if key not in self._numbers:
            number = self._numbers[key] = str(len(self._numbers))
            self.told[number] = stack
        return self._numbers[key]


# A policy's last stack, and the revisions of its guards at that time.
_stacks: Final[WeakKeyDictionary[PolicyState, tuple[tuple[int, ...], str, list[Said]]]] = (
    WeakKeyDictionary()
)
