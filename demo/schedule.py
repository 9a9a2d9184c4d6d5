"""What happens to the upstream, and when."""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Mode = Literal["healthy", "slow", "failing", "dead"]

FULL_LENGTH: Final = 24.0  # seconds; any other length stretches or squeezes everything below
HANG: Final = 6.0  # seconds that a slow upstream takes for an answer
_PLAN: Final[tuple[tuple[str, Mode, float], ...]] = (
    ("healthy", "healthy", 4.0),
    ("slow", "slow", 4.0),
    ("failing", "failing", 3.5),
    ("dead", "dead", 3.5),
    ("healthy again", "healthy", 9.0),
)


class Phase(NamedTuple):
    """A time in which the upstream behaves in one way; in seconds since the start of the run."""

    name: str
    mode: Mode
    start: float
    end: float


def phases(seconds: float) -> list[Phase]:
    """Return the phases of a run of so many seconds."""
    planned: list[Phase] = []
    at = 0.0
    for name, mode, length in _PLAN:
        end = at + length * seconds / FULL_LENGTH
        planned.append(Phase(name, mode, at, end))
        at = end
    return planned


def begun(planned: list[Phase], starts: list[float], end: float) -> list[Phase]:
    """Return the phases that have begun, from the moments at which they really did."""
    ends = [*starts[1:], end]
    return [
        phase._replace(start=start, end=stop)
        for phase, start, stop in zip(planned, starts, ends, strict=False)
    ]
