"""What trials print: figures of durations, and which goals are kept."""

from __future__ import annotations

missed: list[str] = []


def goal(kept: bool, what: str) -> None:
    """Print whether a goal was kept, and remember where not."""
    print(f"  {'ok    ' if kept else 'MISSED'} {what}", flush=True)
    if not kept:
        missed.append(what)


def share(values: list[float], part: float) -> float:
    """Return the value that this part of the values does not go over."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, max(0, -(-int(len(ordered) * part * 1000) // 1000) - 1))]


def figures(values: list[float], unit: str = "s", digits: int = 3) -> str:
    """Return the figures of some durations."""
    parts = [("p50", share(values, 0.5)), ("p99", share(values, 0.99)), ("max", max(values))]
    return ", ".join(f"{name} {value:.{digits}f} {unit}" for name, value in parts)
