"""Calls that outlive the frame in which they began: streams and blocks."""

from __future__ import annotations

from typing import ClassVar

from . import settlement
from .call import Call


class DetachedCall(Call):
    """A call that gives everything back when it is collected without having ended."""

    __slots__ = ()
    may_race: ClassVar[bool] = False

    def __del__(self) -> None:
        if getattr(self, "admitted", False) and not self.counted:
            if self.deadline is not None:
                self.deadline.open = False  # it may be in the context of a block that nobody left
            settlement.abort(self)
