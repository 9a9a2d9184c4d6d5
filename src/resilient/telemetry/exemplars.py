"""The newest slow and failed calls of each policy, by their traces: exemplars of OpenMetrics."""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Mapping
from typing import Final
from weakref import WeakKeyDictionary

from ..engine.counters import EDGES
from ..engine.policy_state import PolicyState

_LONGEST: Final = 128  # characters of an exemplar's labels, by the standard

Kept = dict[int, tuple[Mapping[str, str], float, float]]  # by bucket: labels, seconds, and time

_kept: Final[WeakKeyDictionary[PolicyState, Kept]] = WeakKeyDictionary()


def note(core: PolicyState, labels: Mapping[str, str] | None, seconds: float) -> None:
    """Keep a call's trace as the newest in the bucket of its duration."""
    if labels and sum(len(k) + len(v) for k, v in labels.items()) <= _LONGEST:
        kept = _kept.setdefault(core, {})
        kept[bisect_left(EDGES, seconds)] = labels, seconds, time.time()


def all_of_them() -> dict[str, Kept]:
    """Return the exemplars of this process, by policy and bucket."""
    return {core.name: dict(kept) for core, kept in list(_kept.items())}
