"""The slot of a `with` block, lent to one call at a time of those that its body makes.

A context manager holds a slot from its entry to its exit. Were there no more of them, a call in the
block would be refused for what its own block holds: so it runs on the block's.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Final

from .call import Call
from .policy_state import PolicyState


class Lease:
    """What a block lends, in the context that it was entered in."""

    __slots__ = ("_borrower", "_core", "_open", "_outer")

    def __init__(self, core: PolicyState) -> None:
        self._core = core
        self._open = True
        self._outer = _current.get()
        self._borrower: weakref.ref[Call] | None = None
        _current.set(self)

    def end(self) -> None:
        """Lend nothing any more; the block is left."""
        self._open = False
        if _current.get() is self:
            _current.set(self._outer)
        self._outer = None

    def lends(self, call: Call) -> bool:
        """Lend the slot to a call, where it is lent to no other; under the lock of its policy."""
        lent = None if self._borrower is None else self._borrower()
        if not self._open or self._core is not call.core or (lent is not None and not lent.counted):
            return False
        self._borrower = weakref.ref(call)
        return True


_current: Final[ContextVar[Lease | None]] = ContextVar("resilient-lease", default=None)


def is_lent() -> bool:
    """Return whether the code running now is in a block that lends its slot."""
    return _current.get() is not None


def borrows(call: Call) -> bool:
    """Return whether a call that finds no slot runs on that of a block round it."""
    lease = _current.get()
    while lease is not None:
        if lease.lends(call):
            return True
        lease = lease._outer
    return False
