"""Random operations on several blocks, against a naive model of what is counted."""

from __future__ import annotations

import contextvars
from collections import Counter
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import resilient
from resilient import BulkheadFullError, Policy, bulkhead, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import counts, part, policy

LIMIT, SLOTS = 10.0, 3

operations = st.one_of(
    st.just(("enter", None)),
    st.tuples(
        st.sampled_from(["fail", "ignore", "leave", "leave", "raise", "exit", "spare"]),
        st.integers(0, 9),
    ),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 4.0, 10.0])),
)


class Spared(Exception):
    """Says nothing about the dependency."""


class Open:
    """One block that was entered in a context of its own, as a task's would be."""

    def __init__(self, shop: Policy, context: contextvars.Context, until: float) -> None:
        self.context, self.until = context, until
        self.binds = True  # and not the limit of a block round it, which is up as early
        self.block: Any = shop.block()
        self.word = ""

    def leave(self, error: BaseException | None) -> None:
        given = (None, None, None) if error is None else (type(error), error, None)
        assert not self.context.run(self.block.__exit__, *given)


class Model:
    """What the policy is to show."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.full = self.error = self.callers = self.used = self.late = self.spoken = 0

    def left(self, opened: Open, how: str, now: float) -> None:
        self.used -= 1
        if how == "exit":
            self.calls["cancelled"] += 1
            return
        outcome = {"leave": "success", "raise": "failure", "spare": "ignored"}[how]
        self.calls[opened.word or outcome] += 1
        failed = how != "leave" or opened.word == "failure"
        callers = failed and (opened.word or outcome) == "ignored"
        self.error += failed and not callers
        self.callers += callers
        self.full += not failed
        if how == "leave" and opened.binds and now >= opened.until:
            self.late += not opened.word
            self.spoken += bool(opened.word)

    def agrees(self, shop: Policy) -> None:
        shown = shop.snapshot()
        assert counts(shop) == {word: number for word, number in self.calls.items() if number}
        assert shown["in_flight"] == part(shop, "bulkhead")["used"] == self.used
        assert shown["served"] == {
            "full": self.full,
            "degraded": 0,
            "error": self.error,
            "caller_error": self.callers,
        }
        assert shown["timeouts"] == 0
        assert self.late <= shown["late_values"] <= self.late + self.spoken


ERRORS: dict[str, type[BaseException] | None] = {
    "leave": None, "raise": OSError, "spare": Spared, "exit": KeyboardInterrupt,
}  # fmt: skip


@pytest.mark.parametrize("nested", [False, True], ids=["side by side", "nested"])
def test_counts_are_exact_after_every_operation(nested: bool) -> None:
    """Calls, served, in flight and slots, whatever is done, and the context is as it was."""

    @given(plan=st.lists(operations, min_size=3, max_size=25))
    def run(plan: list[tuple[str, Any]]) -> None:
        clock, model, opened = ManualClock(), Model(), []
        shop = policy(
            circuit_breaker(metrics_only=True, ignore=Spared), bulkhead(SLOTS),
            timeout(LIMIT, sync="cooperative"), clock=clock,
        )  # fmt: skip
        shared = contextvars.copy_context()
        for op, what in plan:
            if op == "advance":
                clock.advance(what)
            elif op == "enter":
                _enter(shop, shared if nested else contextvars.copy_context(), clock, model, opened)
            elif opened:
                place = -1 if nested else what % len(opened)
                one = opened[place]
                if op == "fail":
                    one.block.fail("empty answer")
                    one.word = "failure"
                elif op == "ignore":
                    one.block.ignore()
                    one.word = "ignored"
                else:
                    kind = ERRORS[op]
                    del opened[place]
                    model.left(one, op, clock.now())
                    one.leave(None if kind is None else kind("end"))
            model.agrees(shop)
            if nested:
                left = min((one.until for one in opened), default=None)
                told = shared.run(resilient.remaining)
                assert told == (None if left is None else max(0.0, left - clock.now()))
        while opened:
            one = opened.pop()
            model.left(one, "leave", clock.now())
            one.leave(None)
        model.agrees(shop)
        assert shared.run(resilient.remaining) is None
        assert model.used == 0

    run()


def _enter(
    shop: Policy,
    context: contextvars.Context,
    clock: ManualClock,
    model: Model,
    opened: list[Open],
) -> None:
    one = Open(shop, context, clock.now() + LIMIT)
    left = context.run(resilient.remaining)
    late, one.binds = left == 0, left is None or left > LIMIT
    try:
        entered = context.run(one.block.__enter__)
    except BulkheadFullError:
        assert model.used == SLOTS
        model.calls["refused"] += 1
        model.error += 1
    except resilient.CallTimeoutError:
        assert late, "it had time left"
        model.calls["cancelled"] += 1
    else:
        assert model.used < SLOTS
        assert not late, "it was entered with no time left"
        one.block = entered
        model.used += 1
        opened.append(one)
