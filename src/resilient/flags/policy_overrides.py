"""Operators' orders for policies: apply forced states and options to the living policies."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from ..admin.activity import WHY
from ..admin.options import OPERATOR, OptionChange, apply, checked, guard_named
from ..admin.registry import registry
from ..engine.forced_keys import force_key
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from .flip import FORCED, KEY, OPTION, key_in, lever_of, name_of
from .state import State


class Orders:
    """Keeps policies in step with the orders in a state."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._forced: WeakKeyDictionary[PolicyState, tuple[str, str]] = WeakKeyDictionary()  # ours
        # Likewise, by key.
        self._keys: WeakKeyDictionary[PolicyState, dict[str, tuple[str, str]]]
        self._keys = WeakKeyDictionary()
        self._optioned: WeakSet[PolicyState] = WeakSet()  # whose options we have set
        self.refused: dict[str, str] = {}  # by lever: why an order can't be obeyed

    def follow(self, levers: list[str]) -> None:
        """Update the policies of some levers."""
        for name in {name_of(lever) for lever in levers if not lever.startswith("flag/")}:
            for core in registry.named(name):  # including those that a reload has replaced
                self.follow_policy(core)

    def follow_policy(self, core: PolicyState) -> None:
        """Apply to a policy the orders that hold for it now.

        Another thread may be applying older or newer orders, so this compares again after applying,
        until orders and policy agree.
        """
        for _ in range(100):
            changes = self._state.changes
            self._force(core)
            self._force_keys(core)
            self._set_options(core)
            if changes == self._state.changes:
                return

    def _force(self, core: PolicyState) -> None:
        flip = self._state.holding(lever_of(FORCED, core.name))
        put = self._forced.get(core)
        if flip is None:
            if put is not None:
                self._forced.pop(core, None)
                if core.forced == put[0]:
                    core.force(None, "released: its order ended, or was taken back")
            return
        reason = ", ".join(part for part in (flip.reason, f"by {flip.by}") if part)
        wanted = flip.value, reason
        if put != wanted or core.forced != flip.value:
            self._forced[core] = wanted
            core.force(*wanted)

    def _force_keys(self, core: PolicyState) -> None:
        if core.keys is None:
            return
        put = self._keys.setdefault(core, {})
        for lever, flip in list(self._state.flips.items()):
            if flip.kind != KEY or flip.name != core.name:
                continue
            key, holding = key_in(lever), self._state.holding(lever)
            state = core.keys.states.get(key)
            if holding is not None:
                reason = ", ".join(part for part in (holding.reason, f"by {holding.by}") if part)
                wanted = holding.value, reason
                if put.get(key) != wanted or state is None or state.key.forced != holding.value:
                    put[key] = wanted
                    force_key(core, key, *wanted)
            elif key in put:
                value, _ = put.pop(key)
                if state is not None and state.key.forced == value:
                    force_key(core, key, None, "released: its order ended, or was taken back")

    def _set_options(self, core: PolicyState) -> None:
        wanted = self._wanted(core.name)
        if not wanted and core not in self._optioned:
            return
        self._optioned.add(core)
        while True:
            change = OptionChange(core)
            for guard in core.guards:
                given = wanted.get(guard.kind, {})
                if given != (guard._layers or {}).get(OPERATOR, {}):
                    change.add(guard, OPERATOR, self._valid(core, guard, given))
            if apply([change], "an operator's order"):
                return

    def _wanted(self, policy: str) -> dict[str, dict[str, Any]]:
        """Return the ordered options, by the kind of guard."""
        wanted: dict[str, dict[str, Any]] = {}
        for lever, flip in self._state.flips.items():
            if flip.kind == OPTION and flip.name == policy and self._state.holding(lever):
                kind, _, option = lever.split("/")[2].partition(".")
                wanted.setdefault(kind, {})[option] = flip.value
        return wanted

    def _valid(self, core: PolicyState, guard: Guard, given: dict[str, Any]) -> dict[str, Any]:
        """Return the options that the guard accepts; record an order that it can't obey."""
        if self._all_valid(core, guard, given):
            for option in given:
                self.refused.pop(f"{OPTION}/{core.name}/{guard.kind}.{option}", None)
            return given
        taken: dict[str, Any] = {}
        for option, value in given.items():
            lever = f"{OPTION}/{core.name}/{guard.kind}.{option}"
            try:
                checked(core.name, guard, {option: value})
                OptionChange(core).add(guard, OPERATOR, {**taken, option: value})
            except (ValueError, TypeError) as error:
                self.refused[lever] = str(error)
            else:
                taken[option] = value
                self.refused.pop(lever, None)
        return taken

    def _all_valid(self, core: PolicyState, guard: Guard, given: dict[str, Any]) -> bool:
        """Return whether the guard accepts them together: one may mean nothing without another."""
        try:
            OptionChange(core).add(guard, OPERATOR, checked(core.name, guard, given))
        except (ValueError, TypeError):
            return False
        return True

    def faults(self) -> dict[str, str]:
        """Return the orders that hold and that this process can't obey, and why."""
        found = {lever: why for lever, why in self.refused.items() if self._state.holding(lever)}
        for lever, flip in list(self._state.flips.items()):
            if flip.kind not in (OPTION, KEY) or not self._state.holding(lever):
                continue
            for core in registry.named(flip.name):
                if flip.kind == KEY:
                    if core.keys is None:
                        found[lever] = f"{core.name} has no keys in this process"
                    continue
                if not PolicyState.active:
                    found[lever] = WHY
                    continue
                try:
                    guard_named(core.name, core.guards, lever.split("/")[2].partition(".")[0])
                except ValueError as error:
                    found[lever] = str(error)
        return found
