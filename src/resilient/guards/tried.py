"""What a guard that asks again is told of the attempts of one call. Provisional."""

from __future__ import annotations

from math import inf
from typing import Any


class Tried:
    """The attempts of one call so far; all of them failed.

    Attributes:
        attempts: how many have ended, the newest too.
        elapsed: seconds since the first of them was let in.
        left: seconds until the tightest time limit round the guard is up; infinite without one.
        hint: what the guard's own `hint` returned of the newest; None where it raised.
        refuser: the kind of a guard further in that would refuse the next attempt; "" if none.
        refuses_for: for how many seconds it will.
        once: why the call must not be repeated, for a method of a wrapped client that nobody said
            to be idempotent; "" if it may.
        inside: the policy whose attempt the call is a part of; "" if of none.
    """

    __slots__ = ("attempts", "elapsed", "hint", "inside", "left", "once", "refuser", "refuses_for")

    def __init__(self, attempts: int, hint: Any = None) -> None:
        self.attempts: int = attempts
        self.elapsed: float = 0.0
        self.left: float = inf
        self.hint: Any = hint
        self.refuser: str = ""
        self.refuses_for: float = 0.0
        self.inside: str = ""
        self.once: str = ""
