"""Keeping a policy's state, and putting it back."""

from __future__ import annotations

import copy
from typing import Any, Final

from ..drive.core import BUSY, Core
from ..guards.base import Guard
from ..updating import DECLARED, renewed

_COUNTS: Final = (
    "abandoned_total", "buckets", "caller_errors", "counts", "degraded", "duration_sum", "errors",
    "extra_full", "fallback_failures", "late_values", "peak", "peak_before", "peak_until", "quick",
    "refusals", "refused_at", "timeouts", "unwell", "wait_buckets", "wait_sum",
)  # fmt: skip


class Keep:
    """One policy's state and counts at one instant. Calls in flight are not part of it."""

    def __init__(self, core: Core) -> None:
        self._core = core
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                self._counts = {name: copy.copy(getattr(core, name)) for name in _COUNTS}
                self._forced = core.forced, core.forced_why, core.until
                self._guards: list[tuple[Guard, dict[str, Any], Any]] = [
                    (guard, guard.save(), guard.layers) for guard in core.all_guards()
                ]
            finally:
                core.gate = gate
        core.flush_after(gate)

    def put_back(self, *, counts: bool = True) -> None:
        """Set the policy as it was.

        Args:
            counts: also the counts, not the state alone. Default True.
        """
        core, now = self._core, self._core.now()
        moved = [
            (guard, renewed(guard, layers or {DECLARED: (guard.layers or {}).get(DECLARED, {})}))
            for guard, _, layers in self._guards
            if guard.layers is not layers
        ]
        with core.lock:
            gate = core.gate
            core.gate = gate | BUSY
            try:
                core.forced, core.forced_why, core.until = self._forced
                gate = core.settle()
                for guard, fresh in moved:
                    guard.adopt(fresh, now)
                for guard in core.all_guards():
                    guard.retuned()
                for guard, saved, layers in self._guards:
                    guard.layers = layers
                    guard.restore(saved)
                if counts:
                    for name, value in self._counts.items():
                        setattr(core, name, copy.copy(value))
            finally:
                core.gate = gate
        core.arm()
        core.flush_after(gate)
