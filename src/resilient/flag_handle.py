"""A flag as the code reads it; `resilient.flags.state` keeps it up to date.

The cheapest method ``__bool__`` costs as much as any Python call; an object whose class has none is
true, in C, for an eighth of that. So a flag that is on, and whose reads nobody observes, gets a
class without the method, and any other flag a class with it. `make bench` shows both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final, NoReturn, cast
from weakref import KeyedRef

from .locks import tally

if TYPE_CHECKING:
    from datetime import date


def since_boot() -> float:
    """Return seconds on a clock that ignores changes of the date and does not stop while suspended.

    Except on Linux this is the monotonic clock, which may stop while the system is suspended.
    """
    return time.monotonic() if BOOT_CLOCK is None else time.clock_gettime(BOOT_CLOCK)


BOOT_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Flag:
    """A declared kill switch, made by `resilient.flag`: on unless somebody turned it off.

    ``if FLAG:`` reads it, without I/O, lock or look-up. It has one value in all threads and tasks
    of the process, and follows the store while the process runs. A pickle holds only its name: the
    process that reads the pickle must declare it too.

    Attributes:
        name: the name that operators see.
        owner: the team to call, or ``""``.
        impact: what the customer sees while it is off, or ``""``.
        review: the day from which it is reported as due for a review, or None.
        default: its value while nobody has flipped it.
    """

    __slots__ = (
        "__weakref__", "changes", "default", "due", "fresh", "impact", "name", "off_reads",
        "owner", "place", "review", "seen", "state", "watchers", "why",
    )  # fmt: skip
    on_first_read: ClassVar[Callable[[Flag], None] | None] = None  # set by `startup`

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.owner: str = ""
        self.impact: str = ""
        self.review: date | None = None
        self.default: bool = True
        self.place: Any = None
        self.state: bool = True  # its value
        self.why: str = ""  # why it is off, in words for an error
        self.due: float | None = None  # when its flip ends, by `since_boot`
        self.fresh: bool = True  # not yet read in this process
        self.seen: Callable[[Flag, bool], None] | None = None  # called at every read, by tests
        self.off_reads: int = 0
        self.changes: int = 0
        # Policies with a kill switch of this flag.
        self.watchers: dict[int, KeyedRef[int, Any]] = {}

    if TYPE_CHECKING:

        def __bool__(self) -> bool: ...

    def settle(self) -> None:
        """Choose the class: without ``__bool__`` if nothing needs to see the reads."""
        short = self.state and not self.fresh and self.seen is None
        self.__class__ = cast("Any", Flag if short else AskedFlag)

    def policies(self) -> list[Any]:
        """Return the states of the policies that it switches, whose gates must follow it."""
        found = [ref() for ref in list(self.watchers.values())]
        return [core for core in found if core is not None]

    def left(self) -> float | None:
        """Return the seconds until its flip ends; None if the flip has no end."""
        return None if self.due is None else max(0.0, self.due - since_boot())

    def watch(self, core: Any) -> None:
        """Have a policy update its gate whenever this flag changes, while the policy lives."""
        watchers = self.watchers
        watchers[id(core)] = KeyedRef(core, lambda ref: watchers.pop(ref.key, None), id(core))

    def __repr__(self) -> str:
        return f"<flag {self.name}: {'on' if self.state else 'off'}>"

    def __copy__(self) -> Flag:
        return self

    def __deepcopy__(self, memo: object) -> Flag:
        return self

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Raise: the use of a flag as a decorator or function is a common slip."""
        raise TypeError(
            f"the flag {self.name} can't be called: write `if {self.name.upper()}:`, or "
            "@kill_switch(...) with the flag in it"
        )


class AskedFlag(Flag):
    """A flag that is off, or whose reads are observed."""

    __slots__ = ()
    off_reads: int

    def __bool__(self) -> bool:
        if self.fresh and Flag.on_first_read is not None:
            Flag.on_first_read(self)
        on, seen = self.state, self.seen
        if seen is not None:
            seen(self, on)
        if not on:
            with tally:
                self.off_reads += 1
        return on
