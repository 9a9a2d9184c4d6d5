"""The source of chance that spreads the times of guards, so that processes do not act in step."""

from __future__ import annotations

from collections.abc import Callable


def source() -> Callable[[], float]:
    """Return a function that draws a random number from 0 to 1."""
    # Here, when the first guard is made: an import during a call could be interrupted.
    import random

    return random.random
