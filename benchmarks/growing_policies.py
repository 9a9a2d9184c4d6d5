"""How the cost of a call grows with the number of policies that live beside the one called."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

from .children import child
from .model import Curve, Spread, require
from .ours import bare, closure, whole
from .timing import interleaved, paired, sync_batch

NUMBERS: Final = (1, 10, 100, 1_000, 10_000)
CALLS: Final = 5_000

Calls = list[Callable[[int], Any]]


def _round_robin(fns: Calls) -> float:
    """Return the seconds a call, where each call is another function's."""
    times = max(1, CALLS // len(fns))
    began = time.process_time()
    for _ in range(times):
        for fn in fns:
            fn(1)
    return (time.process_time() - began) / (times * len(fns))


def _one(fn: Callable[[int], Any]) -> float:
    return sync_batch(fn, CALLS) / CALLS


def run(rounds: int, most: int) -> dict[str, Any]:
    """In a process of its own: make more and more policies, and time calls at each stage."""
    guarded: Calls = []
    plain: Calls = []
    found: dict[str, Any] = {"points": []}
    for number in (each for each in NUMBERS if each <= most):
        while len(guarded) < number:
            guarded.append(whole(f"policy-{len(guarded)}", "cooperative")(bare))
            plain.append(closure(bare))
        require(sum(fn(1) for fn in guarded) == number, "a policy gave a wrong answer")
        jobs = {
            "one": lambda: _one(guarded[0]),
            "one closure": lambda: _one(plain[0]),
            "in turn": lambda: _round_robin(guarded),
            "closures in turn": lambda: _round_robin(plain),
        }
        series = interleaved(jobs, rounds)
        found["points"].append(f"{number:,}")
        for name in jobs:
            found.setdefault(name, []).append(Spread.of(series[name]).median * 1e6)
        for ours, base in (("one", "one closure"), ("in turn", "closures in turn")):
            relative = paired(series, ours, base).median
            found.setdefault(f"{ours}, relative", []).append(relative)
    return found


def curves(rounds: int, quick: bool) -> list[Curve]:
    """Measure 1 to 10,000 living policies: calls of one of them, and of all in turn."""
    found = child("policies", rounds, 1_000 if quick else 10_000)
    return [
        Curve(
            case,
            "policies",
            found["points"],
            {ours: found[ours], base: found[base]},
            ours,
            base,
            found[f"{ours}, relative"],
        )
        for case, ours, base in (
            ("living policies, one is called", "one", "one closure"),
            ("living policies, called in turn", "in turn", "closures in turn"),
        )
    ]
