"""Lend the slot of a `with` block to the calls that its body makes, one at a time.

A context manager holds a slot from its entry to its exit. If no other slot is free, a call in the
block would be refused because of the slot that its own block holds, so it runs on that slot.
"""

from __future__ import annotations

import weakref
from contextvars import ContextVar
from typing import Final

from .call import Call
from .policy_state import PolicyState


class Lease:
    """The slot that a block lends, in the context in which it was entered."""

    __slots__ = ("_borrower", "_core", "_open", "_outer")

    def __init__(self, core: PolicyState) -> None:
        self._core = core
        self._open = True
        self._outer = _current.get()
        self._borrower: weakref.ref[Call] | None = None
        _current.set(self)

    def end(self) -> None:
        """Stop lending: the block has been exited."""
        self._open = False
        if _current.get() is self:
            _current.set(self._outer)
        self._outer = None

    def lends(self, call: Call) -> bool:
        """Lend the slot to a call, unless another has it. The caller holds the policy's lock."""
        lent = None if self._borrower is None else self._borrower()
        if not self._open or self._core is not call.core or (lent is not None and not lent.counted):
            return False
        self._borrower = weakref.ref(call)
        return True


_current: Final[ContextVar[Lease | None]] = ContextVar("resilient-lease", default=None)


def is_lent() -> bool:
    """Return True if the running code is in a block that lends its slot."""
    return _current.get() is not None


def borrows(call: Call) -> bool:
    """Return True if a call that finds no slot may run on that of an enclosing block."""
    lease = _current.get()
    while lease is not None:
        if lease.lends(call):
            return True
        lease = lease._outer
    return False
