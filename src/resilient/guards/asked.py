"""What a guard that keeps values is told of a call, and what it answers with. Provisional."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


class Asked:
    """What a call asked for, and when.

    Attributes:
        fn: the function that the policy guards; a bound method where a client's method is.
        args: its positional arguments, as its caller gave them; with the object of a method.
        kwargs: its arguments by name.
        skip: how many leading parameters of fn are not in args: those of a client's proxy.
        now: the policy's clock, in seconds.
    """

    __slots__ = ("args", "fn", "kwargs", "now", "skip")

    def __init__(
        self,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        skip: int,
        now: float,
    ) -> None:
        self.fn: Callable[..., Any] = fn
        self.args: tuple[Any, ...] = args[skip:] if skip else args
        self.kwargs: dict[str, Any] = kwargs
        self.skip: int = skip
        self.now: float = now


class Stale:
    """An answer from before: a value, and how many seconds old it is."""

    __slots__ = ("age", "value")

    def __init__(self, value: Any, age: float) -> None:
        self.value: Any = value
        self.age: float = age
