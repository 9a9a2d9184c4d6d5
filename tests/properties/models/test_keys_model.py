"""The keys of a policy against a model that keeps every key, and looks at all of them each time."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from resilient import Policy
from resilient.guards.facets import Admission
from resilient.guards.per_key import PerKey

KEYS = st.sampled_from("abcdefgh")


class Marked(Admission, PerKey):
    """Lets all calls in, and remembers a mark that the test makes."""

    kind = "marked"
    mark = False

    def admit(self, now: float) -> int:
        return 0

    def at_rest(self, now: float) -> bool:
        return not self.mark


@dataclass
class Naive:
    """One key with guards of its own."""

    blocks: int = 0
    marked: bool = False
    forced: bool = False
    called: bool = False

    @property
    def is_idle(self) -> bool:
        return not (self.blocks or self.marked or self.forced)


class Keys(RuleBasedStateMachine):
    """Calls, blocks, marks and orders, on a policy with few places."""

    @initialize(places=st.integers(1, 5))
    def begin(self, places: int) -> None:
        self.policy = Policy(f"keys-{id(self)}", Marked())
        self.keyed = self.policy.keyed(lambda key, *_: key, max_keys=places)
        self.table = self.keyed._table
        self.places = places
        self.naive: dict[str, Naive] = {}
        self.blocks: list[tuple[Naive | None, Any]] = []
        self.overflowed = self.forgotten = 0

    def taken(self, key: str) -> Naive | None:
        """Return the model's key, after a call has taken it; None where it shares guards."""
        if key in self.naive:
            self.naive[key].called = True
            return self.naive[key]
        idle = {each for each, mine in self.naive.items() if mine.is_idle}
        over = sum(not mine.forced for mine in self.naive.values()) - self.places + 1
        gone = set(self.naive) - set(self.table.states)
        assert len(gone) == max(0, min(over, len(idle))), "no more give up their place than needed"
        assert gone <= idle
        for each in gone:
            del self.naive[each]
            self.forgotten += 1
        if len(gone) < over:
            self.overflowed += 1
            return None
        mine = self.naive[key] = Naive(called=True)
        return mine

    @rule(key=KEYS)
    def call(self, key: str) -> None:
        end = self.keyed.try_call(len, key)
        mine = self.taken(key)
        assert (end.error is not None) == (mine is not None and mine.forced)

    @rule(key=KEYS)
    def open_block(self, key: str) -> None:
        block = self.keyed.block(key)
        refused = False
        try:
            block.__enter__()
        except Exception:
            refused = True
        mine = self.taken(key)
        assert refused == (mine is not None and mine.forced)
        if not refused:
            self.blocks.append((mine, block))
        if mine is not None:
            mine.blocks += not refused

    @rule(number=st.integers(0, 20))
    def close_block(self, number: int) -> None:
        if self.blocks:
            mine, block = self.blocks.pop(number % len(self.blocks))
            block.__exit__(None, None, None)
            if mine is not None:
                mine.blocks -= 1

    @rule(key=KEYS, mark=st.booleans())
    def leave_a_mark(self, key: str, mark: bool) -> None:
        if key in self.naive:
            self.naive[key].marked = mark
            guard: Any = self.table.states[key].own[0]
            guard.mark = mark

    @rule(key=KEYS)
    def force(self, key: str) -> None:
        self.keyed.force_open(key, "by the model")
        self.naive.setdefault(key, Naive()).forced = True

    @rule(key=KEYS)
    def release(self, key: str) -> None:
        self.keyed.release(key)
        mine = self.naive.get(key)
        if mine is not None and mine.forced:
            mine.forced = False
            if mine.is_idle and not mine.called:
                del self.naive[key]
                self.forgotten += 1

    @invariant()
    def same(self) -> None:
        if not hasattr(self, "table"):
            return
        assert set(self.table.states) == set(self.naive)
        assert self.table.overflowed == self.overflowed
        assert self.table.forgotten == self.forgotten
        for key, mine in self.naive.items():
            assert self.table.states[key].key.running == mine.blocks
            assert self.table.states[key].users == []
            assert self.table.states[key].key.forced == ("forced_open" if mine.forced else None)
        shared = [block for mine, block in self.blocks if mine is None]
        assert self.table.overflow.key.running == len(shared)

    def teardown(self) -> None:
        for _, block in getattr(self, "blocks", []):
            with contextlib.suppress(Exception):
                block.__exit__(None, None, None)
        if hasattr(self, "policy"):
            self.policy.drop()


TestKeys = Keys.TestCase
TestKeys.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
