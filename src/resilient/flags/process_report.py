"""The report of a process to the store: what it declares, and the values of its levers."""

from __future__ import annotations

from typing import Any

from ..admin.keys import summed
from ..admin.registry import registry
from ..admin.shadows import shadows
from ..admin.summary import Moments, Stacks, cover, switches
from ..engine.policy_state import PolicyState
from ..flag_handle import Flag
from ..guards.facets import Stateful
from ..state_types import why_pure
from .state import State


class ProcessReport:
    """The flags and policies of this process as plain data."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._moments = Moments()

    def told(self) -> dict[str, Any]:
        """Return the current report."""
        stacks = Stacks()
        return {
            "flags": {flag.name: self._flag(flag) for flag in self._state.flags.all()},
            "policies": self._policies(stacks),
            "active": PolicyState.active,
            "core": why_pure or "compiled",
            "stacks": stacks.told,
            "unmatched": self._state.flags.unmatched(),
        }

    def _flag(self, flag: Flag) -> dict[str, Any]:
        _, source, _ = self._state.says(flag)
        return {
            "on": flag.state,
            "source": source,
            "default": flag.default,
            "owner": flag.owner,
            "impact": flag.impact,
            "review": None if flag.review is None else flag.review.isoformat(),
        }

    def _policies(self, stacks: Stacks) -> dict[str, Any]:
        patched: dict[str, dict[str, str]] = {}
        for row in registry.patches():
            patched.setdefault(row["policy"], {})[row["target"]] = row["state"]
        return {
            core.name: {
                "patches": patched.get(core.name, {}),
                "state": core.state,
                "why": core.why,
                "forced": core.forced,
                "owner": core.owner,
                "tier": core.tier,
                "impact": core.impact,
                "since": self._moments.since(core),
                "circuit": any(isinstance(g, Stateful) and g.state for g in core.guards),
                **switches(core),
                **cover(core),
                "stack": stacks.number_of(core),
                **shadows(core),
                **({} if core.keys is None else {"keys": summed(core)}),
            }
            for core in registry.cores()
        }
