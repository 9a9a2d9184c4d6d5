"""The fast path of three guards and more: tickets come back once, wherever the stack ends."""

from __future__ import annotations

import itertools
from typing import Any, ClassVar

import pytest

from resilient import Policy, RefusedError, fallback
from resilient.engine.call import Call
from resilient.engine.stops import TURNED
from resilient.guards.base import REFUSE, Guard
from resilient.guards.facets import Admission

_numbers = itertools.count()


class Counting(Admission):
    """Gives tickets, and fails to take one back where it is told so: as at the end of the stack."""

    kind: ClassVar[str] = "counting"
    unique: ClassVar[bool] = False

    def __init__(self, *, full: bool = False) -> None:
        super().__init__()
        self.full, self.why, self.short = full, "full", False
        self.back: list[int] = []
        self.asked = 0

    def admit(self, now: float) -> int:
        self.asked += 1
        return REFUSE if self.full else 7

    def settle(self, ticket: int, *_: Any) -> None:
        if self.short:
            self.short = False
            raise RecursionError
        self.back.append(ticket)


def nothing() -> str:
    """Return no text."""
    return ""


def made(*guards: Guard) -> Policy:
    """Return a policy that has been called once."""
    shop = Policy(f"fast-{next(_numbers)}", fallback(value="less"), *guards)
    assert shop.call(str) in ("", "less")
    return shop


def test_a_refusal_of_the_innermost_of_three_is_answered_on_the_fast_path() -> None:
    """With a fallback that looks at no error, no call of the interpreter is made for it."""
    outer, middle, inner = Counting(), Counting(), Counting(full=True)
    shop = made(outer, middle, inner)
    plan = shop._sync_pipeline(str)
    assert plan.enter(shop._core.now()) is TURNED
    assert outer.back == middle.back == [7, 7]
    assert shop.snapshot()["in_flight"] == 0


def test_the_stack_ends_while_tickets_are_given_back() -> None:
    """What was given back is not given back again, and what was not, is."""
    outer, middle, inner = Counting(), Counting(), Counting(full=True)
    shop = made(outer, middle, inner)  # refused once: the next refusal is no news
    for guard in (outer, middle, inner):
        guard.back.clear()
    outer.short = True
    with pytest.raises(RecursionError):
        shop._sync_pipeline(str).enter(shop._core.now())
    assert (outer.back, middle.back) == ([], [7])
    shop._core.flush()
    assert (outer.back, middle.back) == ([7], [7])


@pytest.mark.parametrize("number", [1, 2, 3, 4])
@pytest.mark.parametrize("answered", [False, True])
def test_a_refusal_asks_each_guard_once(number: int, answered: bool) -> None:
    """The interpreter goes on from the guard that refused; those outside get their tickets back."""
    outer = [Counting() for _ in range(number - 1)]
    inner = Counting()
    answers = [fallback(lambda error: str(error), with_error=True)] if answered else []
    shop = Policy(f"fast-{next(_numbers)}", *answers, *outer, inner)
    guarded = shop(nothing)
    assert guarded() == ""
    inner.full = True
    for guard in (*outer, inner):
        guard.asked, guard.back = 0, []
    if answered:
        assert "refused by its counting (full)" in guarded()
    else:
        with pytest.raises(RefusedError):
            guarded()
    assert [guard.asked for guard in (*outer, inner)] == [1] * number
    assert [guard.back for guard in outer] == [[7]] * (number - 1)
    assert inner.back == []
    assert shop.snapshot()["in_flight"] == 0
    assert shop.snapshot()["calls"]["refused"] == 1


@pytest.mark.parametrize("number", [1, 2, 3])
def test_the_stack_ends_before_the_interpreter_has_a_refused_call(
    number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the guards outside the refusal gave comes back where the interpreter can't begin."""
    outer = [Counting() for _ in range(number - 1)]
    inner = Counting()
    shop = Policy(f"fast-{next(_numbers)}", *outer, inner)
    guarded = shop(nothing)
    assert guarded() == ""
    inner.full = True
    for guard in (*outer, inner):
        guard.back = []

    def short(*_: object) -> None:
        raise RecursionError

    with monkeypatch.context() as patched:
        patched.setattr(Call, "stopped", short)
        with pytest.raises(RecursionError):
            guarded()
    shop._core.flush()
    assert [guard.back for guard in outer] == [[7]] * (number - 1)
    assert inner.back == []
    assert shop.snapshot()["in_flight"] == 0
