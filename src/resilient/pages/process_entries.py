"""What a process exports of itself, besides its policies."""

from __future__ import annotations

import sys
from typing import Any, Final

from ..admin.keys import summed
from ..admin.registry import registry
from ..admin.summary import answer_of, cover, switches
from ..engine.policy_state import PolicyState
from ..events import bus
from ..metric_types import Metric, Sample
from ..telemetry.exemplars import told
from ..telemetry.flag_samples import OF_FLAGS, measure_flags, measure_orders, measure_store
from ..telemetry.schema import RowSchema, layout
from ..validation import clean
from .format import Entry

_POLICIES: Final = Metric("policies", "gauge", "Policies that exist.", over="max")
_BROKEN: Final = Metric(
    "listener_errors_total", "counter", "Listeners of events that raised, and were removed."
)
_DROPPED: Final = Metric(
    "events_dropped_total", "counter", "Events dropped because too many waited to be delivered."
)
_BUILD: Final = Metric(
    "build_info", "gauge", "Always 1: the version in use.", "version", over="max"
)
_ACTIVE: Final = Metric(
    "active", "gauge", "0 where a process protects no call: set_active(False), RESILIENT_DISABLED.",
    over="min",
)  # fmt: skip
OF_PROCESSES: Final[tuple[Metric, ...]] = (*OF_FLAGS, _POLICIES, _BROKEN, _DROPPED, _BUILD, _ACTIVE)

_NAMED: Final = 3  # keys
_PACKAGE: Final = __name__.partition(".")[0]


def own_entries() -> list[Entry]:
    """Return the entries of this process, its flags and its orders, at this instant."""
    version = str(vars(sys.modules[_PACKAGE])["__version__"])
    samples: list[Sample] = [
        (_POLICIES, (), len(registry.cores())),
        (_BROKEN, (), bus.listener_errors),
        (_DROPPED, (), bus.dropped),
        (_BUILD, (version,), 1),
        (_ACTIVE, (), PolicyState.active),
        *measure_store(),
    ]
    return [
        _entry("process", "", samples),
        *(
            _entry("flag", flag.name, found, {"owner": flag.owner, "impact": flag.impact})
            for flag, found in measure_flags()
        ),
        *(_entry("order", name, found) for name, found in measure_orders()),
    ]


def _entry(
    kind: str, name: str, samples: list[Sample], about: dict[str, str] | None = None
) -> Entry:
    tail = tuple((metric, labels) for metric, labels, _ in samples)
    row = [float(value) for _, _, value in samples]
    return Entry(kind, name, about or {}, layout(words=None, tail=tail), row)


def changing(core: PolicyState) -> dict[str, bool | list[str]]:
    """Return what a policy's entry says that changes: views that answer, worst keys, new traces."""
    keys, traces = summed(core, _NAMED), told(core)
    worst: list[dict[str, Any]] = [] if keys is None else keys["worst"]
    said = [f"{clean(row['key'])} {row['state']}" for row in worst if row["state"] != "closed"]
    found: dict[str, bool | list[str]] = {**cover(core)}
    if keys is not None:
        found["keys"] = said
    if traces:
        found["traces"] = traces
    return found


def entry_of(core: PolicyState, found: RowSchema, row: list[float], since: float) -> Entry:
    """Return a policy's entry; `since` says which policies are the oldest."""
    about: dict[str, Any] = {
        "owner": core.owner, "tier": core.tier, "impact": core.impact, "since": since,
        "fallback": answer_of(core),
    }  # fmt: skip
    about |= changing(core)
    about |= switches(core)  # a nested table would cost the garbage collector three times as much
    return Entry("policy", core.name, about, found, row)
