"""A flag as the code reads it, kept right by whoever knows (`resilient.flags.state`).

The least method ``__bool__`` that Python can call costs as much as any call; an object of a class
that has none is true, in C, for an eighth of that. So a flag that is on, and of whose reads nobody
needs to know, is of a class without; any other is of a class with one. `make bench` shows both.
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
    """Return seconds on a clock that no change of the date moves, and that a suspend does not stop.

    Elsewhere than on Linux it is the monotonic one, which may stand still meanwhile.
    """
    return time.monotonic() if BOOT_CLOCK is None else time.clock_gettime(BOOT_CLOCK)


BOOT_CLOCK: Final[int | None] = getattr(time, "CLOCK_BOOTTIME", None)


class Flag:
    """A declared kill switch, made by `resilient.flag`: on unless somebody has turned it off.

    ``if FLAG:`` reads it, without I/O, lock or look-up. It says the same in every thread and task
    of the process, and follows the store while the process runs. Pickled, it is its name: the
    process that reads the pickle must declare it too.

    Attributes:
        name: what operators see.
        owner: the team to call, or ``""``.
        impact: what the customer sees while it is off, or ``""``.
        review: the day from which on it is reported as due for a review, or None.
        default: what it says while nobody has flipped it.
    """

    __slots__ = (
        "__weakref__", "changes", "default", "due", "fresh", "impact", "name", "off_reads",
        "owner", "place", "review", "seen", "state", "watchers", "why",
    )  # fmt: skip
    on_first_read: ClassVar[Callable[[Flag], None] | None] = None  # set by the floor that follows

    def __init__(self, name: str) -> None:
        self.name: str = name
        self.owner: str = ""
        self.impact: str = ""
        self.review: date | None = None
        self.default: bool = True
        self.place: Any = None
        self.state: bool = True  # what it says
        self.why: str = ""  # why it is off, in words for an error
        self.due: float | None = None  # when its flip ends, by `since_boot`
        self.fresh: bool = True  # nobody has read it yet, in this process
        self.seen: Callable[[Flag, bool], None] | None = None  # told of every read, by tests
        self.off_reads: int = 0
        self.changes: int = 0
        self.watchers: dict[int, KeyedRef[int, Any]] = {}  # policies with a kill switch of it

    if TYPE_CHECKING:

        def __bool__(self) -> bool: ...

    def settle(self) -> None:
        """Let reads be short, or long."""
        short = self.state and not self.fresh and self.seen is None
        self.__class__ = cast("Any", Flag if short else AskedFlag)

    def policies(self) -> list[Any]:
        """Return the policies that it switches, which have to look at their gates anew."""
        found = [ref() for ref in list(self.watchers.values())]
        return [core for core in found if core is not None]

    def left(self) -> float | None:
        """Return the seconds until its flip ends, None where it has no end."""
        return None if self.due is None else max(0.0, self.due - since_boot())

    def watch(self, core: Any) -> None:
        """Have a policy look at its gate whenever this changes, for as long as it lives."""
        watchers = self.watchers
        watchers[id(core)] = KeyedRef(core, lambda ref: watchers.pop(ref.key, None), id(core))

    def __repr__(self) -> str:
        return f"<flag {self.name}: {'on' if self.state else 'off'}>"

    def __copy__(self) -> Flag:
        return self

    def __deepcopy__(self, memo: object) -> Flag:
        return self

    def __call__(self, *_: object, **__: object) -> NoReturn:
        """Refuse to be used as a decorator or function: a common slip."""
        raise TypeError(
            f"the flag {self.name} can't be called: write `if {self.name.upper()}:`, or "
            "@kill_switch(...) with the flag in it"
        )


class AskedFlag(Flag):
    """A flag that is off, or that has to take note of its reads."""

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
