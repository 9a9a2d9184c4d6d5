"""The metrics of flags, independent of Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from math import nan
from typing import TYPE_CHECKING, Final

from ..admin.registry import registry
from ..flags.flip import FLAG, FORCED, KEY, OPTION, Flip, lever_of
from ..flags.reasons import HOLDS
from ..flags.runtime import here
from ..metric_types import Metric, Sample

if TYPE_CHECKING:
    from datetime import date

    from ..flag_handle import Flag


MAX_FLAGS: Final = 1000  # flags with series of their own, in the order of declaration

_WITH: Final = "with a flag"
_TIMED: Final = "while a timed flip holds"
_ORDERED: Final = "while an order of a store holds"
_STORE: Final = "with a store, from the first read of a flag or call of a policy on"

_ENABLED: Final = Metric(
    "flag_enabled", "gauge", "1 while the flag is on in every process.",
    over="min", present=_WITH,
)  # fmt: skip
_STANDS: Final = Metric(
    "flag_processes", "gauge", "Processes in which the flag is on, and off.", "state",
    present=_WITH,
)  # fmt: skip
_HELD: Final = Metric(
    "flag_held_processes", "gauge",
    "Processes in which an environment variable or a provider holds the flag off.", present=_WITH,
)  # fmt: skip
_CHANGES: Final = Metric(
    "flag_changes_total", "counter", "Times that the flag came to say something else, in each.",
    present=_WITH,
)  # fmt: skip
_OFF_CALLS: Final = Metric(
    "flag_off_calls_total", "counter", "Reads of the flag, and calls, that found it off.",
    present=_WITH,
)  # fmt: skip
_SINCE: Final = Metric(
    "flag_flipped_timestamp_seconds", "gauge", "When the flip that holds was made.",
    over="max", present="while a flip holds",
)  # fmt: skip
_EXPIRES: Final = Metric(
    "flag_expires_timestamp_seconds", "gauge", "When the flag's flip ends by itself.",
    over="max", present=_TIMED,
)  # fmt: skip
_REVIEW: Final = Metric(
    "flag_review_timestamp_seconds", "gauge", "The day from which on the flag is due for a review.",
    over="max", present="with `review=`",
)  # fmt: skip
_FORCED_SINCE: Final = Metric(
    "override_since_timestamp_seconds", "gauge", "When the order for a policy was made.",
    "kind", over="max", present=_ORDERED,
)  # fmt: skip
_FORCED_UNTIL: Final = Metric(
    "override_expires_timestamp_seconds", "gauge", "When the order for a policy ends by itself.",
    "kind", over="max", present="while a timed order of a store holds",
)  # fmt: skip
_AGE: Final = Metric(
    "flag_sync_age_seconds", "gauge", "Seconds since the process worst off last read the store.",
    over="max", present=_STORE,
)  # fmt: skip
_FLAGS: Final = Metric(
    "flags", "gauge", "Flags that are declared; the first 1,000 have series of their own.",
    over="max",
)  # fmt: skip
OF_FLAG: Final = (_ENABLED, _STANDS, _HELD, _CHANGES, _OFF_CALLS, _SINCE, _EXPIRES, _REVIEW)
OF_ORDER: Final = (_FORCED_SINCE, _FORCED_UNTIL)
OF_FLAGS: Final[tuple[Metric, ...]] = (
    *OF_FLAG, *OF_ORDER, _AGE, _FLAGS,
)  # fmt: skip
_WORDS: Final = (("on", True), ("off", False))


def measure_flags() -> Iterator[tuple[Flag, list[Sample]]]:
    """Yield each flag, and its samples at this instant."""
    state = here.state
    for flag in here.flags.all()[:MAX_FLAGS]:
        flip = state.holding(lever_of(FLAG, flag.name))
        until = None if flip is None else flip.until
        yield (
            flag,
            [
                (_ENABLED, (), flag.state),
                *((_STANDS, (word,), flag.state is on) for word, on in _WORDS),
                (_HELD, (), state.says(flag)[1] in HOLDS),
                (_CHANGES, (), flag.changes),
                (_OFF_CALLS, (), flag.off_reads),
                (_SINCE, (), nan if flip is None else flip.at),
                (_EXPIRES, (), nan if until is None else until),
                (_REVIEW, (), nan if flag.review is None else _midnight(flag.review)),
            ],
        )


def measure_store() -> list[Sample]:
    """Return the samples that concern all flags, and those of their store."""
    samples: list[Sample] = [(_FLAGS, (), len(here.flags.all()))]
    if here.follower is not None and not here.in_memory:
        age = here.state.now() - here.follower.synced_at
        samples.append((_AGE, (), max(0.0, age)))
    return samples


def measure_orders() -> Iterator[tuple[str, list[Sample]]]:
    """Yield the name of each policy under an order, with the times of its beginning and end."""
    state = here.state
    there = set(registry.names()) if state.flips else set[str]()
    found: dict[str, dict[str, list[Flip]]] = {}
    for lever, flip in list(state.flips.items()):
        if flip.kind in (FORCED, OPTION, KEY) and flip.name in there and state.holding(lever):
            kind = {FORCED: str(flip.value), KEY: "keys"}.get(flip.kind, "options")
            found.setdefault(flip.name, {}).setdefault(kind, []).append(flip)
    for name, kinds in found.items():
        samples: list[Sample] = []
        for kind, flips in kinds.items():
            ends = [nan if flip.until is None else flip.until for flip in flips]
            samples.append((_FORCED_SINCE, (kind,), min(flip.at for flip in flips)))
            samples.append((_FORCED_UNTIL, (kind,), max(ends)))
        yield name, samples


def _midnight(day: date) -> float:
    return (day.toordinal() - _EPOCH) * 86400.0


_EPOCH: Final = 719163  # 1 January 1970 as an ordinal
