"""What this package does when the process forks and when it ends, in a fixed order.

Each part registers its steps under a place in this order, when it is imported or wired; some parts
are imported late, or never. No other module calls `os.register_at_fork` or `atexit.register`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from functools import partial
from typing import Final

Step = Callable[[], object]

# The order after a fork, in the parent and in the child; before a fork it is reversed. So this
# thread holds no lock that an import may need, and blocks no import that work on files needs. A
# thread that takes several locks takes them in the order files, imports, flags, policies.
FORK: Final = (
    "registry",  # its lock
    "policies",  # their locks, workers and calls
    "flags",  # their lock, and the follower
    "limits",  # the thread that asks for those of a fleet
    "providers",  # the threads that ask those of OpenFeature
    "imports",  # those that other threads are doing
    "files",  # work on files that processes share
    "pages",  # the child detaches from the parent's page
    "scrapes",  # the totals of past scrapes
)
# A step runs before everything that the application registered earlier; the steps run in this
# order.
EXIT: Final = (
    "log",  # flushes kept-back events before `logging` shuts down
    "pages",  # the last write of this process's page, which includes the follower
    "flags",  # deregisters the follower
)

_at_fork: Final[dict[str, dict[str, Step | None]]] = {}  # by place and moment
_at_exit: Final[dict[str, list[Step]]] = {}  # by place


def at_fork(
    place: str,
    *,
    before: Step | None = None,
    in_parent: Step | None = None,
    in_child: Step | None = None,
) -> None:
    """Run steps at each fork.

    Raises:
        ValueError: there is no such place, or it is taken.
    """
    _check(place, FORK)
    if place in _at_fork:
        raise ValueError(f"the place {place!r} is taken")
    if not _at_fork:
        _register()
    _at_fork[place] = {"before": before, "in_parent": in_parent, "in_child": in_child}


def at_exit(place: str, step: Step) -> None:
    """Run a step when the process ends.

    Raises:
        ValueError: there is no such place.
    """
    _check(place, EXIT)
    _at_exit.setdefault(place, []).append(step)
    for earlier in reversed(EXIT[: EXIT.index(place) + 1]):  # atexit runs the last registered first
        for each in _at_exit.get(earlier, ()):
            atexit.unregister(each)
            atexit.register(each)


def _check(place: str, places: tuple[str, ...]) -> None:
    if place not in places:
        raise ValueError(f"there is no place {place!r}; there are {', '.join(places)}")


def _register() -> None:
    """Register each place by itself: if a step raises, Python still runs the others."""
    if hasattr(os, "register_at_fork"):
        for place in FORK:
            os.register_at_fork(
                before=partial(_take, place, "before"),
                after_in_parent=partial(_take, place, "in_parent"),
                after_in_child=partial(_take, place, "in_child"),
            )


def _take(place: str, moment: str) -> None:
    step = _at_fork.get(place, {}).get(moment)
    if step is not None:
        step()
