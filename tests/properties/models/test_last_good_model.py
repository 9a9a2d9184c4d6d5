"""The last good answer against a naive model: a list of what was kept, the newest last."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import Policy, last_good, registry
from resilient.guards.last_good.memory import Memory
from resilient.testing import ManualClock

KEYS = st.sampled_from(["a", "b", "c", "d", "e", 1, 1.0, True, ("a",), (1,), (True,)])
AGES = st.sampled_from([1.0, 5.0, 60.0])
STEPS = st.sampled_from([0.0, 0.5, 1.0, 4.0, 61.0])
MOST = st.integers(1, 4)


class LastGoodMachine(RuleBasedStateMachine):
    """Drives a policy with a last good answer, and the list."""

    @initialize(max_age=AGES, most=MOST)
    def build(self, max_age: float, most: int) -> None:
        self.clock, self.max_age, self.most = ManualClock(), max_age, most
        self.of = Policy(
            "last-good-model", last_good(max_age=max_age, max_entries=most), clock=self.clock
        )
        self.kept: list[tuple[str, int, float]] = []
        self.given = self.number = 0

    def teardown(self) -> None:
        if hasattr(self, "of"):
            registry.remove(self.of.name)

    def find(self, key: object) -> int:
        """What is guarded: it fails where there is no number."""
        if not self.number:
            raise ConnectionError
        return self.number

    @rule(seconds=STEPS)
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)

    @rule(key=KEYS, number=st.integers(1, 1000))
    def succeed(self, key: object, number: int) -> None:
        now, self.number = self.clock.now(), number
        assert self.of.call(self.find, key) == number
        others = [each for each in self.kept if each[0] != repr(key)]
        kept = [*others, (repr(key), number, now)][-self.most :]
        self.kept = [each for each in kept if now - each[2] <= self.max_age]

    @rule(key=KEYS)
    def fail(self, key: object) -> None:
        self.number, now = 0, self.clock.now()
        found = self.of.try_call(self.find, key)
        known = [each for each in self.kept if each[0] == repr(key)]
        if known and now - known[0][2] <= self.max_age:
            assert (found.value, found.stale_for) == (known[0][1], now - known[0][2])
            assert found.served == "degraded"
            self.given += 1
        else:
            assert (found.value, found.served, found.stale_for) == (None, "error", None)

    @rule(max_age=AGES, most=MOST)
    def update(self, max_age: float, most: int) -> None:
        self.of.update(last_good={"max_age": max_age, "max_entries": most})
        self.max_age, self.most = max_age, most

    @invariant()
    def it_shows_what_there_is(self) -> None:
        if hasattr(self, "of"):
            told = self.of.snapshot()["guards"][0]
            assert (told["entries"], told["answers"]["given"]) == (len(self.kept), self.given)


TestLastGood = LastGoodMachine.TestCase


@given(st.lists(st.tuples(st.sampled_from("abcdef"), MOST), max_size=60))
def test_the_memory_holds_what_was_set_last(steps: list[tuple[str, int]]) -> None:
    memory, order = Memory(3), list[Any]()
    for key, memory.most in steps:
        memory[key] = (key, 0.0)
        order = [*(each for each in order if each != key), key][-memory.most :]
        assert len(memory) == len(order)
        assert all(memory.get(each) == (each, 0.0) for each in order)
