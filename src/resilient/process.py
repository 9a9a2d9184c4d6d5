"""The order of what this package does when the process forks, and when it ends.

Each part registers its own steps under a place in this order, when it is imported or wired; some
are imported late, or never. Nobody else calls `os.register_at_fork` or `atexit.register`.
"""

from __future__ import annotations

import atexit
import os
from collections.abc import Callable
from functools import partial
from typing import Final

Step = Callable[[], object]

# After a fork, in the parent as in the child, from the first to the last; before it from the last
# to the first. So no lock is held that an import may need, and no import is kept waiting that work
# on files needs. Whoever takes a lock takes it in the order of files, imports, flags, policies.
FORK: Final = (
    "registry",  # its lock
    "policies",  # their locks, workers and calls
    "flags",  # the lock of what is known of them; the follower
    "imports",  # those that other threads are in the middle of
    "files",  # work on files that processes share
    "pages",  # the parent's page, which the child lets go of
    "scrapes",  # what was added up over scrapes
)
# Before what the application has registered earlier than the part; in this order among themselves.
EXIT: Final = (
    "log",  # events that were kept back, before `logging` shuts down
    "pages",  # the last look at this process: it tells of the follower too
    "flags",  # the follower's goodbye
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
    """Take steps at each fork.

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
    """Take a step when the process ends.

    Raises:
        ValueError: there is no such place.
    """
    _check(place, EXIT)
    _at_exit.setdefault(place, []).append(step)
    for earlier in reversed(EXIT[: EXIT.index(place) + 1]):  # what is registered last comes first
        for each in _at_exit.get(earlier, ()):
            atexit.unregister(each)
            atexit.register(each)


def _check(place: str, places: tuple[str, ...]) -> None:
    if place not in places:
        raise ValueError(f"there is no place {place!r}; there are {', '.join(places)}")


def _register() -> None:
    """Register each place by itself: where a step raises, Python takes the others all the same."""
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
