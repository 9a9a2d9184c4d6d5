"""The keys of a policy: for each, the guards that it has for itself, as long as it needs them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from math import inf
from typing import TYPE_CHECKING, Any, Final, TypeVar, TypeVarTuple

from ..events import Event
from ..guards.attached import Attached
from ..guards.base import Guard, Waiter
from ..guards.facets import Peered, Stateful
from ..guards.per_key import PerKey
from .outbox import Outbox

if TYPE_CHECKING:
    from .policy_state import PolicyState

OVERFLOW: Final = "(overflow)"
LONGEST: Final = 200  # characters of a key
LOOKED_AT: Final = 128  # keys, for one that may be forgotten, when another one comes

Args = TypeVarTuple("Args")
T = TypeVar("T")
Saved = tuple[list[Any], int, int, dict[Any, float]]


class Key:
    """What operators see of a key. It refers to no guard, so that one without calls is freed.

    Attributes:
        text: its name.
        refused: how many calls of it were refused.
    """

    __slots__ = ("_outbox", "refused", "text")

    def __init__(self, text: str, outbox: Outbox) -> None:
        self.text: str = text
        self.refused: int = 0
        self._outbox = outbox

    def emit(self, item: Event | Waiter | Callable[[], object]) -> None:
        """Accept what a guard of the key hands to the policy."""
        if isinstance(item, Event):
            item.key = self.text
        self._outbox.emit(item)


class KeyHome:
    """The policy, as a guard of one key knows it."""

    __slots__ = ("__weakref__", "_core", "guards", "name")

    def __init__(self, core: PolicyState, text: str, guards: tuple[Guard, ...]) -> None:
        self._core = core
        self.name: str = f"{core.name}[{text}]"
        self.guards: tuple[Guard, ...] = guards

    def now(self) -> float:
        """Return the time by the policy's clock."""
        return self._core.now()

    def locked(self, step: Callable[[*Args], T], *args: *Args) -> T:
        """Run a step under the policy's lock."""
        return self._core.locked(step, *args)

    def refresh_gate(self) -> None:
        """Ask the switches again whether calls have to ask them."""
        self._core.refresh_gate()

    def ask_fleet(self, guard: Guard) -> None:
        """Have another thread ask the store of the fleet."""
        self._core.ask_fleet(guard)


class KeyState:
    """The guards of one key, and who uses them.

    Attributes:
        key: its name.
        guards: those of the policy, with its own in place of those that each key has.
        own: its own.
        users: an item for each call that runs, appended and popped without a lock.
        usual: whether a call may take it without a look: it is neither forgotten nor forced.
        seen: 3 after a call: one bit for the next look for one to forget, one for the metrics.
        made: by what was decorated, the function that calls go through.
        forced: its own forced state, or None.
        why: the reason of it.
        until: when that ends by itself.
        samples: its numbers at the last look, for `telemetry`.
    """

    __slots__ = (
        "forced", "guards", "home", "key", "made", "own", "revision", "samples", "seen", "until",
        "users", "usual", "why",
    )  # fmt: skip

    def __init__(self, core: PolicyState, guards: tuple[Guard, ...], key: Key) -> None:
        self.key: Key = key
        self.revision: int = revision_of(guards)
        self.guards: tuple[Guard, ...] = tuple(
            guard.anew() if isinstance(guard, PerKey) else guard for guard in guards
        )
        self.own: list[PerKey] = [
            new for new, old in zip(self.guards, guards, strict=True)
            if new is not old and isinstance(new, PerKey)
        ]  # fmt: skip
        self.home = KeyHome(core, key.text, self.guards)
        for guard in self.own:
            guard._policy_name = core.name
            guard.emit = key.emit
            if isinstance(guard, Attached):
                guard.attach(self.home)
            if isinstance(guard, Peered):
                guard.meet(self.guards)
            if core.clock is not None and isinstance(guard, Stateful):
                guard.jitter(False)
        self.users: list[None] = []
        self.usual: bool = True
        self.seen: int = 3
        self.made: dict[Hashable, Any] = {}
        self.forced: str | None = None
        self.why: str = ""
        self.until: float = inf
        self.samples: Any = None

    def is_idle(self, now: float) -> bool:
        """Return whether it may be forgotten; under the lock."""
        if self.users or self.forced is not None:
            return False
        return all(guard.at_rest(now) for guard in self.own)

    def stateful(self) -> list[Stateful]:
        """Return its own guards that have a state."""
        return [guard for guard in self.own if isinstance(guard, Stateful)]

    @property
    def state(self) -> str:
        """Its forced state, else that of the guard which has one."""
        states = (guard.state for guard in self.stateful())
        return self.forced or next((state for state in states if state), "closed")


def revision_of(guards: tuple[Guard, ...]) -> int:
    """Return a number that rises whenever options of guards are changed."""
    return sum(guard._revision for guard in guards)


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

    def __init__(self, core: PolicyState, max_keys: int) -> None:
        self.core: PolicyState = core
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
        forced = [(state, state.forced, state.why, state.until) for state in self.states.values()]
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
            if state.forced != was:
                state.made = {}
            state.forced, state.why, state.until, state.usual = was, why, until, True
            self.states[state.key.text] = state

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
