"""What a guard that keeps values is told of a call, and what it answers with. Provisional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..clock import Clock, epoch


class Asked:
    """What a call asked for, and when.

    Attributes:
        fn: the function that the policy guards; a bound method where `call` was given one. Of a
            wrapped client it has the name of the method, and takes any arguments.
        args: its positional arguments, as its caller gave them; with the object of a method.
        kwargs: its arguments by name.
        owner: the object of a wrapped client whose method it is, which args lack; else None.
        handed_out: its owner was handed out by another call, on which what it returns may depend,
            such as a cursor; not one that the client holds itself.
        writes: it is known to change something: a POST of a wrapped client.
        now: the policy's clock, in seconds.
    """

    __slots__ = ("_clock", "args", "fn", "handed_out", "kwargs", "now", "owner", "writes")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        now: float,
        owner: object = None,
        writes: bool = False,
        handed_out: bool = False,
        clock: Clock | None = None,
    ) -> None:
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args
        self.kwargs: dict[str, Any] = kwargs
        self.owner: object = owner
        self.writes: bool = writes
        self.handed_out: bool = handed_out
        self.now: float = now
        self._clock = clock

    def epoch(self) -> float:
        """Return the time on which processes agree, in seconds since 1970; a manual clock's own."""
        return epoch(self._clock)


class Stale:
    """An answer from before: a value, and how many seconds old it is."""

    __slots__ = ("age", "value")

    def __init__(self, value: Any, age: float) -> None:
        self.value: Any = value
        self.age: float = age
