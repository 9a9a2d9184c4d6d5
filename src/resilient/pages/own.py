"""What a process shows of itself, besides its policies."""

from __future__ import annotations

import sys
from typing import Final

from ..events import bus
from ..flags.flag_metrics import OF_FLAGS, measure_flags
from ..measures import Metric, Sample
from ..registry import registry

_POLICIES: Final = Metric("policies", "gauge", "Policies that exist.", over="max")
_BROKEN: Final = Metric("listener_errors_total", "counter", "Listeners that raised.")
_DROPPED: Final = Metric("events_dropped_total", "counter", "Events too many to be delivered.")
_BUILD: Final = Metric(
    "build_info", "gauge", "Always 1; the version in use.", "version", over="max"
)
OF_PROCESSES: Final[tuple[Metric, ...]] = (*OF_FLAGS, _POLICIES, _BROKEN, _DROPPED, _BUILD)

_PACKAGE: Final = __name__.partition(".")[0]


def process_samples() -> list[Sample]:
    """Return what this process shows of itself at this instant."""
    version = str(vars(sys.modules[_PACKAGE])["__version__"])
    return [
        (_POLICIES, (), len(registry.cores())),
        (_BROKEN, (), bus.listener_errors),
        (_DROPPED, (), bus.dropped),
        (_BUILD, (version,), 1),
        *measure_flags(),
    ]
