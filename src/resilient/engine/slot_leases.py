"""Lend the slot of a `with` block to the calls that its body makes, one at a time.

A context manager holds a slot from its entry to its exit. If no other slot is free, a call in the
block would be refused because of the slot that its own block holds, so it runs on that slot.
"""

from __future__ import annotations

import weakref
from typing import cast

from .call import Call
from .lent_slots import lent
from .policy_state import PolicyState


class Lease:
    """The slot that a block lends, in the context in which it was entered."""

    __slots__ = ("_borrower", "_core", "_open", "_outer")

    def __init__(self, core: PolicyState) -> None:
        self._core = core
        self._open = True
        self._outer: Lease | None = cast("Lease | None", lent.get())
        self._borrower: weakref.ref[Call] | None = None
        lent.set(self)

    def end(self) -> None:
        """Stop lending: the block has been exited."""
        self._open = False
        if lent.get() is self:
            lent.set(self._outer)
        self._outer = None

    def lends(self, call: Call) -> bool:
        """Lend the slot to a call, unless another has it. The caller holds the policy's lock."""
        borrower = None if self._borrower is None else self._borrower()
        is_taken = borrower is not None and not borrower.counted
        if not self._open or self._core is not call.core or is_taken:
            return False
        self._borrower = weakref.ref(call)
        return True


def borrows(call: Call) -> bool:
    """Return True if a call that finds no slot may run on that of an enclosing block."""
    lease = cast("Lease | None", lent.get())
    while lease is not None:
        if lease.lends(call):
            return True
        lease = lease._outer
    return False
