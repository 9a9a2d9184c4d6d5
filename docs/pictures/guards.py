"""Draws a diagram for each page of ``docs/guards``: ``python docs/pictures/guards.py``.

What guards do in them is what real ones did on a manual clock, or in a simulation: times, waits,
shares and limits are measured, and defaults are read from the guards.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from pathlib import Path

from guard_diagrams.canvas import Picture
from guard_diagrams.draw_flow import concurrency_limit, rate_limit, throttle
from guard_diagrams.draw_repeats import hedge, last_good, retry
from guard_diagrams.draw_slots import bulkhead, timeout
from guard_diagrams.draw_states import breaker, fallback, kill_switch

FOLDER = Path(__file__).with_name("guards")
PICTURES: dict[str, Callable[[], Picture]] = {
    "bulkhead": bulkhead,
    "circuit-breaker": breaker,
    "concurrency-limit": concurrency_limit,
    "fallback": fallback,
    "hedge": hedge,
    "kill-switch": kill_switch,
    "last-good": last_good,
    "rate-limit": rate_limit,
    "retry": retry,
    "throttle": throttle,
    "timeout": timeout,
}


def main(folder: Path) -> None:
    """Draw all of them into a folder."""
    logging.getLogger("resilient").setLevel(logging.CRITICAL)  # guards that refuse are no news here
    folder.mkdir(exist_ok=True)
    for name, draw in PICTURES.items():
        (folder / f"{name}.svg").write_text(draw().svg(), encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else FOLDER)
