"""The keys of a policy: which ones have guards of their own, as long as they need them."""

from __future__ import annotations

import weakref
from collections import OrderedDict
from itertools import count
from math import inf
from typing import Any, Final

from ..guards.facets import Changeable, Peered
from ..guards.per_key import PerKey
from .key_states import ORDERED, Key, KeyState, Owner, revision_of

_numbers: Final = count(1)
OVERFLOW: Final = "(overflow)"
LONGEST: Final = 200  # characters of a key
LOOKED_AT: Final = 128  # keys, for one that may be forgotten, when another one comes

Saved = tuple[list[Any], tuple[int, int, int], dict[Any, float]]


class KeyTable:
    """All keys of one policy.

    At most `max_keys` have guards of their own. Another one takes the place of one that is closed
    and empty, of those that had no call since the last look if there is one (Corbato, "A paging
    experiment with the Multics system", 1968); where none is, it shares the guards of `overflow`.

    Attributes:
        states: by key; the next one to be looked at first.
        overflow: what further keys share.
        overflowed: calls that did.
        forced: keys whose own state is forced; those need no place.
        forgotten: keys that have given up their place.
        due: when the first forced state of a key ends by itself.
    """

    def __init__(self, core: Owner, max_keys: int) -> None:
        self.core: Owner = core
        self.max_keys: int = max_keys
        self.states: OrderedDict[str, KeyState] = OrderedDict()
        self.overflow: KeyState = self.made(OVERFLOW)
        self.overflowed: int = 0
        self.forced: int = 0
        self.forgotten: int = 0
        self.past: dict[tuple[Any, tuple[str, ...]], float] = {}  # counts of those forgotten
        self.due: float = inf
        self._sites: dict[int, Any] = {}  # what was decorated, weakly, by its number

    def made(self, text: str) -> KeyState:
        """Return a new state for a key, which is not added yet."""
        core = self.core
        return KeyState(core, core.guards, Key(text, core.outbox))

    def all(self) -> list[KeyState]:
        """Return the states of all keys, and the shared one."""
        return [*list(self.states.values()), self.overflow]

    def used(self) -> list[KeyState]:
        """Return the states of all keys, and the shared one if calls have shared it."""
        return self.all() if self.overflowed else list(self.states.values())

    def site(self, owner: Any) -> int:
        """Return a number for what is made for each key, as long as its owner lives."""
        number = next(_numbers)

        def gone(_: object) -> None:
            self._sites.pop(number, None)
            for state in self.all():
                state.made.pop(number, None)

        self._sites[number] = weakref.ref(owner, gone)
        return number

    def measured(self) -> tuple[list[KeyState], dict[Any, float]]:
        """Return the states of all keys, and the counts of those forgotten before; under the lock.

        What is forgotten from now on is in the first alone.
        """
        return self.used(), dict(self.past)

    def follow(self) -> None:
        """Have each key's guards take over the options of the policy's, one key after the other."""
        for state in self.all():
            state.seen |= 2
            for place, guard in enumerate(self.core.guards):
                while isinstance(guard, PerKey) and not self.core.locked(
                    self._follow, state, place, guard, guard.anew(), self.core.now()
                ):
                    pass

    def _follow(
        self, state: KeyState, place: int, guard: PerKey, fresh: PerKey, now: float
    ) -> bool:
        """Take over a guard's options; return False where they have changed meanwhile."""
        if fresh._revision != guard._revision:
            return False
        own = state.guards[place]
        if own._revision != guard._revision or own._layers is not guard._layers:
            if isinstance(own, Changeable):
                own.take_over(fresh, now)
            own._layers, own._revision = guard._layers, guard._revision
            state.revision = revision_of(state.guards)
            for other in state.own:
                if isinstance(other, Peered):
                    other.peers_changed()
        return True

    def in_child(self) -> None:
        """Begin the counts anew in a forked child, and drop the calls of other threads."""
        self.past, self.overflowed, self.forgotten = {}, 0, 0
        for state in self.all():
            state.users = []  # what this thread calls pops from the list that it has
            state.usual = False  # its next call begins as the first one in this process
            state.samples = None
            state.key.refused = state.key.running = 0

    # -- calls ---------------------------------------------

    def take_overflow(self) -> KeyState:
        """Return the shared state, for a call whose key can't be known."""
        return self.core.locked(self._overflow)

    def look(self, text: str) -> KeyState:
        """Return the state of a key for a call, which pops its `users` at its end."""
        core = self.core
        if core.holds_lock():  # a finalizer's call in our bookkeeping, which will be refused
            self.overflow.users.append(None)
            return self.overflow
        if core.uncalled:  # orders for keys come before their first calls
            core.begin()
        found = core.locked(self._find, text, core.now())
        while found is None:
            found = core.locked(self._enter, text, self.made(text))
        return found

    def _find(self, text: str, now: float) -> KeyState | None:
        """Return the state of a key, the shared one, or None where the key may get its own."""
        state = self.states.get(text)
        if state is None:
            return None if self._has_room(now) else self._overflow()
        state.users.append(None)
        state.seen, state.usual = 3, True
        return state

    def _enter(self, text: str, fresh: KeyState) -> KeyState | None:
        """Add the state of a new key, if it still may; None if its options are old by now."""
        now = self.core.now()
        found = self._find(text, now)
        if found is None and fresh.revision == revision_of(self.core.guards):
            found = self._add(text, fresh, now)
            found.users.append(None)
        return found

    def _add(self, text: str, fresh: KeyState, now: float) -> KeyState:
        self.states[text] = fresh
        forced = self.core.forced
        for guard in fresh.stateful() if forced is not None else ():
            guard.force(forced, now)
        return fresh

    def entered(self, fresh: KeyState, now: float) -> KeyState | None:
        """Return the state of a key that is forced: it is added even where there is no room.

        None where the options of a fresh one are old by now.
        """
        known = self.states.get(fresh.key.text)
        if known is not None:
            return known
        if fresh.revision != revision_of(self.core.guards):
            return None
        fresh.seen |= ORDERED
        return self._add(fresh.key.text, fresh, now)

    def leave(self, state: KeyState, now: float) -> None:
        """Forget a key that was released, and had no call: a misspelt one is not half-open."""
        known = self.states.get(state.key.text) is state
        if known and state.seen & ORDERED and state.is_idle(now):
            self._forget(state.key.text, state, now)

    def _overflow(self) -> KeyState:
        self.overflowed += 1
        self.overflow.users.append(None)
        self.overflow.seen = 3
        return self.overflow

    def saved(self) -> Saved:
        """Return which keys there are, how they are forced, and what was counted; for tests."""
        keys = [(state, state.key) for state in self.states.values()]
        known = [(state, key.forced, key.forced_why, key.until, key.refused) for state, key in keys]
        counts = self.overflowed, self.forgotten, self.overflow.key.refused
        return known, counts, dict(self.past)

    def restore(self, saved: Saved | None) -> None:
        """Have the keys again that `saved` returned; under the lock."""
        known, counts, past = saved or ([], (0, 0, 0), {})
        self.overflowed, self.forgotten, self.overflow.key.refused = counts
        self.past = dict(past)
        for state in self.states.values():
            state.usual = False
        self.states.clear()
        self.forced, self.due = 0, inf
        for state, forced, why, until, refused in known:
            key, state.usual, state.made = state.key, True, {}
            key.forced, key.forced_why, key.until, key.refused = forced, why, until, refused
            self.forced += forced is not None
            self.due = min(self.due, until)
            self.states[key.text] = state

    # -- room ---------------------------------------------

    def _has_room(self, now: float) -> bool:
        """Return whether there is a free place, perhaps after a key was forgotten."""
        while len(self.states) - self.forced >= self.max_keys:
            if not self._make_room(now):
                return False
        return True

    def _make_room(self, now: float) -> bool:
        """Forget a key that is idle, if one is found."""
        second: str | None = None
        for _ in range(min(len(self.states), LOOKED_AT)):
            text = next(iter(self.states))
            state = self.states[text]
            self.states.move_to_end(text)
            if not state.is_idle(now):
                continue
            if not state.seen & 1 and self._forget(text, state, now):
                return True
            state.seen &= ~1
            second = second or text
        return second is not None and self._forget(second, self.states[second], now)

    def _forget(self, text: str, state: KeyState, now: float) -> bool:
        """Give up the place of a key, unless a call takes it at this moment."""
        state.usual = False
        if state.users:  # a call appends itself first, and then looks whether it is usual
            state.usual = True
            return False
        del self.states[text]
        self.forgotten += 1
        for guard in state.own:
            for metric, labels, value in guard.measure(now):
                if metric.kind == "counter" and value:
                    known = self.past.get((metric, labels), 0.0)
                    self.past[metric, labels] = known + value
        return True
