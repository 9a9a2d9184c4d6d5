"""The newest slow and failed calls of each policy, by their traces: exemplars of OpenMetrics."""

from __future__ import annotations

import re
import time
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Final
from weakref import WeakKeyDictionary

from ..engine.counters import EDGES
from ..engine.policy_state import PolicyState

MOST: Final = 4  # that a process tells of a policy
_LONGEST: Final = 128  # characters of an exemplar's labels, by the standard
_TEXT: Final = re.compile(
    r"(?P<bucket>\d{1,2}) (?P<seconds>\d{1,9}(?:\.\d{1,20})?(?:e-?\d{1,2})?) "
    r"(?P<at>\d{1,12}\.\d{3})(?P<labels>(?: [a-z_]{1,40}=[0-9a-zA-Z_.:-]{1,100}){1,4})",
    re.ASCII,
)

Kept = dict[int, tuple[Mapping[str, str], float, float]]  # by bucket: labels, seconds, and time

_kept: Final[WeakKeyDictionary[PolicyState, Kept]] = WeakKeyDictionary()


def note(core: PolicyState, labels: Mapping[str, str] | None, seconds: float) -> None:
    """Keep a call's trace as the newest in the bucket of its duration."""
    if labels and _length(labels) <= _LONGEST:
        kept = _kept.setdefault(core, {})
        kept[bisect_left(EDGES, seconds)] = labels, seconds, time.time()


def all_of_them() -> dict[str, Kept]:
    """Return the exemplars of this process, by policy and bucket."""
    return {core.name: dict(kept) for core, kept in list(_kept.items())}


def is_traced(core: PolicyState) -> bool:
    """Return whether a policy has exemplars."""
    return core in _kept


def told(core: PolicyState) -> list[str]:
    """Return the newest exemplars of a policy as texts, for the other processes of the host."""
    kept = sorted(dict(_kept.get(core, {})).items(), key=lambda item: -item[1][2])[:MOST]
    return [
        " ".join([f"{bucket} {seconds!r} {at:.3f}", *(f"{k}={v}" for k, v in labels.items())])
        for bucket, (labels, seconds, at) in sorted(kept)
    ]


def with_told(own: Kept, texts: Iterable[str]) -> Kept:
    """Return exemplars with those of other processes, the newest of each bucket.

    A text that is none is passed over: whoever may write a page may have written it.
    """
    found = dict(own)
    for text in texts:
        match = _TEXT.fullmatch(text)
        if match is None:
            continue
        bucket, at = int(match["bucket"]), float(match["at"])
        labels = dict(pair.split("=") for pair in match["labels"].split())
        if _length(labels) <= _LONGEST and (bucket not in found or found[bucket][2] < at):
            found[bucket] = labels, float(match["seconds"]), at
    return found


def _length(labels: Mapping[str, str]) -> int:
    return sum(len(name) + len(value) for name, value in labels.items())
