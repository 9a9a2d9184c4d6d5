"""The keys of a policy: which ones have guards of their own, as long as they need them."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, Final

from .key_states import Key, KeyState, Owner, revision_of

OVERFLOW: Final = "(overflow)"
LONGEST: Final = 200  # characters of a key
LOOKED_AT: Final = 128  # keys, for one that may be forgotten, when another one comes

Saved = tuple[list[Any], int, int, dict[Any, float]]


class KeyTable:
    """All keys of one policy.

    At most `max_keys` have guards of their own. Another one takes the place of one that is closed
    and empty, the longest unused of those looked at first; where there is none, it shares the
    guards of `overflow`.

    Attributes:
        states: by key; the next one to be looked at first.
        overflow: what further keys share.
        overflowed: calls that did.
        forced: keys whose own state is forced; those need no place.
        forgotten: keys that have given up their place.
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

    def made(self, text: str) -> KeyState:
        """Return a new state for a key, which is not added yet."""
        core = self.core
        return KeyState(core, core.guards, Key(text, core.outbox))

    def all(self) -> list[KeyState]:
        """Return the states of all keys, and the shared one."""
        return [*list(self.states.values()), self.overflow]

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

    def entered(self, fresh: KeyState, now: float) -> KeyState:
        """Return the state of a key that is forced: it is added even where there is no room."""
        text = fresh.key.text
        if text == OVERFLOW:
            return self.overflow
        known = self.states.get(text)
        return self._add(text, fresh, now) if known is None else known

    def _overflow(self) -> KeyState:
        self.overflowed += 1
        self.overflow.users.append(None)
        self.overflow.seen = 3
        return self.overflow

    def saved(self) -> Saved:
        """Return which keys there are, how they are forced, and what was counted; for tests."""
        keys = [(state, state.key) for state in self.states.values()]
        forced = [(state, key.forced, key.forced_why, key.until) for state, key in keys]
        return forced, self.overflowed, self.forgotten, dict(self.past)

    def restore(self, saved: Saved | None) -> None:
        """Have the keys again that `saved` returned; under the lock."""
        forced, self.overflowed, self.forgotten, past = saved or ([], 0, 0, {})
        self.past = dict(past)
        for state in self.states.values():
            state.usual = False
        self.states.clear()
        self.forced = sum(was is not None for _, was, _, _ in forced)
        for state, was, why, until in forced:
            key, state.usual = state.key, True
            if key.forced != was:
                state.made = {}
            key.forced, key.forced_why, key.until = was, why, until
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
