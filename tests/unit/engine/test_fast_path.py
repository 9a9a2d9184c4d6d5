"""The fast path of three guards and more: tickets come back once, wherever the stack ends."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import pytest

from resilient import Policy, fallback
from resilient.drive.turned import TURNED
from resilient.guards.base import REFUSE, Guard

_numbers = itertools.count()


class Counting(Guard):
    """Gives tickets, and fails to take one back where it is told so: as at the end of the stack."""

    kind: ClassVar[str] = "counting"
    unique: ClassVar[bool] = False

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.full, self.why, self.short = full, "full", False
        self.back: list[int] = []

    def before(self, now: float) -> int:
        return REFUSE if self.full else 7

    def after(self, ticket: int, *_: Any) -> None:
        if self.short:
            self.short = False
            raise RecursionError
        self.back.append(ticket)


def made(*guards: Guard) -> Policy:
    """Return a policy that has been called once."""
    shop = Policy(f"fast-{next(_numbers)}", fallback(value="less"), *guards)
    assert shop.call(str) in ("", "less")
    return shop


def test_a_refusal_of_the_innermost_of_three_is_answered_on_the_fast_path() -> None:
    """With a fallback that looks at no error, no call of the interpreter is made for it."""
    outer, middle, inner = Counting(), Counting(), Counting(full=True)
    shop = made(outer, middle, inner)
    plan = shop._sync_plan(str)
    assert plan.enter(shop._core.now()) is TURNED
    assert outer.back == middle.back == [7, 7]
    assert shop.snapshot()["in_flight"] == 0


def test_the_stack_ends_while_tickets_are_given_back() -> None:
    """What was given back is not given back again, and what was not, is."""
    outer, middle, inner = Counting(), Counting(), Counting()
    shop = made(outer, middle, inner)
    for guard in (outer, middle, inner):
        guard.back.clear()
    inner.full = outer.short = True
    with pytest.raises(RecursionError):
        shop._sync_plan(str).enter(shop._core.now())
    assert (outer.back, middle.back) == ([], [7])
    shop._core.flush()
    assert (outer.back, middle.back) == ([7], [7])
