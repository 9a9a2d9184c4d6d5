"""What flags show as metrics, without a word about Prometheus."""

from __future__ import annotations

from typing import Final

from ..measures import Metric, Sample
from .flips import FLAG, lever_of
from .here import here

MAX_FLAGS: Final = 1000  # flags with series of their own, in the order of declaration

_ENABLED: Final = Metric(
    "flag_enabled", "gauge", "1 while the flag is on in every process.", "flag", over="min"
)
_STANDS: Final = Metric(
    "flag_processes", "gauge", "Processes in which the flag says this.", "flag", "state"
)
_CHANGES: Final = Metric(
    "flag_changes_total", "counter", "Times the flag came to say something else.", "flag"
)
_OFF_CALLS: Final = Metric(
    "flag_off_calls_total", "counter", "Reads of the flag, and calls, that found it off.", "flag"
)
_EXPIRES: Final = Metric(
    "flag_expires_timestamp_seconds",
    "gauge",
    "When the flag's flip ends by itself.",
    "flag",
    over="max",
)
_AGE: Final = Metric(
    "flag_sync_age_seconds",
    "gauge",
    "Seconds since this process last read the store, of the process that is worst off.",
    over="max",
)
_WORDS: Final = (("on", True), ("off", False))
_FLAGS: Final = Metric("flags", "gauge", "Flags that are declared.", over="max")
OF_FLAGS: Final[tuple[Metric, ...]] = (
    _ENABLED,
    _STANDS,
    _CHANGES,
    _OFF_CALLS,
    _EXPIRES,
    _AGE,
    _FLAGS,
)


def measure_flags() -> list[Sample]:
    """Return all samples of flags at this instant."""
    state, follower, flags = here.state, here.follower, here.flags.all()
    samples: list[Sample] = [(_FLAGS, (), len(flags))]
    for flag in flags[:MAX_FLAGS]:
        label = (flag.name,)
        samples.append((_ENABLED, label, float(flag.state)))
        samples += [(_STANDS, (flag.name, word), flag.state is on) for word, on in _WORDS]
        samples.append((_CHANGES, label, flag.changes))
        samples.append((_OFF_CALLS, label, flag.off_reads))
        flip = state.holding(lever_of(FLAG, flag.name))
        if flip is not None and flip.until is not None:
            samples.append((_EXPIRES, label, flip.until))
    if follower is not None and not here.in_memory:
        samples.append((_AGE, (), max(0.0, state.now() - follower.synced_at)))
    return samples
