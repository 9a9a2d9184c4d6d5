"""Save a policy's state, and restore it."""

from __future__ import annotations

import copy
from typing import Any, Final

from ..admin.options import DECLARED, renewed
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..guards.facets import Changeable, Peered, Restorable

_COUNTS: Final = (
    "abandoned_total", "buckets", "caller_errors", "counts", "degraded", "duration_sum", "errors",
    "full_without_success", "fallback_failures", "late_values", "peak", "peak_before",
    "peak_until", "quick", "refusals", "refused_at", "timeouts", "not_succeeded",
    "wait_buckets", "wait_sum",
)  # fmt: skip


class PolicySnapshot:
    """One policy's state and counts at one instant, without calls in flight."""

    def __init__(self, core: PolicyState) -> None:
        self._core = core
        self._counts: dict[str, Any] = {}
        self._forced: tuple[str | None, str, float]
        self._guards: list[tuple[Guard, dict[str, Any], Any]] = []
        self._keys: Any = None
        core.locked(self._take)

    def _take(self) -> None:
        core = self._core
        self._counts = {name: copy.copy(getattr(core, name)) for name in _COUNTS}
        self._forced = core.forced, core.forced_why, core.until
        self._keys = None if core.keys is None else core.keys.saved()
        self._guards = [(guard, _saved(guard), guard._layers) for guard in core.all_guards()]

    def put_back(self, *, counts: bool = True) -> None:
        """Restore the policy.

        Args:
            counts: restore the counts too, not only the state. Default True.
        """
        core = self._core
        moved = [
            (guard, renewed(guard, layers or {DECLARED: (guard._layers or {}).get(DECLARED, {})}))
            for guard, _, layers in self._guards
            if guard._layers is not layers
        ]
        core.locked(self._put_back, moved, core.now(), counts)
        core.arm()

    def _put_back(self, moved: list[tuple[Guard, Guard]], now: float, counts: bool) -> None:
        core = self._core
        core.forced, core.forced_why, core.until = self._forced
        core.compute_gate()
        if core.keys is not None:
            core.keys.restore(self._keys)
        for guard, fresh in moved:
            if isinstance(guard, Changeable):
                guard.take_over(fresh, now)
        for guard in core.all_guards():
            if isinstance(guard, Peered):
                guard.peers_changed()
        for guard, saved, layers in self._guards:
            guard._layers = layers
            if isinstance(guard, Restorable):
                guard.restore(saved)
        if counts:
            for name, value in self._counts.items():
                setattr(core, name, copy.copy(value))


def _saved(guard: Guard) -> dict[str, Any]:
    return guard.save() if isinstance(guard, Restorable) else {}
