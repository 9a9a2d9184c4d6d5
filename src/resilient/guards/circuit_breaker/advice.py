"""What of a circuit breaker can't work as it seems to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..advising import Advises, Seen
from ..base import Guard
from ..facets import Slots, TimeLimit
from .trip_rules import counted


class BreakerAdvice(Advises):
    """The part of a circuit breaker that gives advice."""

    def doubts(self, guards: tuple[Guard, ...]) -> str:
        slots = [guard.slots() for guard in guards if isinstance(guard, Slots)]
        threaded = any(isinstance(guard, TimeLimit) and guard.sync == "thread" for guard in guards)
        return _few_slots(min(slots), self.options()) if slots and threaded else ""

    @classmethod
    def advise(cls, seen: Seen) -> list[str]:
        options = seen.options("circuit_breaker")
        found = [_volume(seen, options)]
        slots = seen.options("bulkhead").get("max_concurrent")
        if isinstance(slots, int) and seen.options("timeout").get("sync") == "thread":
            found.append(_few_slots(slots, options))
        return [text for text in found if text]


def _volume(seen: Seen, options: Mapping[str, Any]) -> str:
    """Return which rule alone acts at this volume, or ""."""
    window, least = options.get("window"), options.get("minimum_calls")
    threshold = options.get("failure_threshold")
    if not isinstance(window, (int, float)) or not isinstance(least, int):
        return ""
    volume = seen.rate * window
    if volume >= least:
        return ""
    rest = (
        "it can't open" if threshold is None
        else f"it goes by failure_threshold={threshold} in a row alone"
    )  # fmt: skip
    return (
        f"{volume:.1f} calls of a process come in its window of {window:g} s, and its failure_rate "
        f"counts from minimum_calls={least} on: {rest}"
    )


def _few_slots(slots: int, options: Mapping[str, Any]) -> str:
    """Return why a circuit stays closed where all calls hang on worker threads, or ""."""
    counts = {name: options.get(name) for name in ("failure_threshold", "minimum_calls")}
    known = {name: count for name, count in counts.items() if isinstance(count, int)}
    if options.get("slow_call_duration") is not None or not known or slots >= min(known.values()):
        return ""
    least = ", ".join(f"{name}={count}" for name, count in known.items())
    return (
        f"a call that hangs on a worker thread keeps its slot after its timeout: all "
        f"{counted(slots, 'slot')} give {counted(slots, 'failure')} and no more, fewer than "
        f"{least}; the circuit stays closed while they hang"
    )
