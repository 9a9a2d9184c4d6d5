"""The guards that one key of a policy has for itself, and what operators see of it."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from math import inf
from typing import Any, Final, Protocol, TypeVar, TypeVarTuple

from ..clock import Clock
from ..events import Event
from ..guards.attached import Attached, Home
from ..guards.base import Guard, Waiter
from ..guards.facets import Jitters, Peered, Stateful
from ..guards.per_key import PerKey
from .outbox import Outbox

Args = TypeVarTuple("Args")
T = TypeVar("T")


ORDERED: Final = 4


class Owner(Home, Protocol):
    """The state of a policy, as its keys know it."""

    clock: Clock | None
    forced: str | None
    outbox: Outbox
    uncalled: bool

    @property
    def holds_lock(self) -> Callable[[], bool]:
        """A function that returns True if this thread holds the lock."""
        ...

    def begin(self) -> None:
        """Run the first-call setup of this process."""
        ...


class Key:
    """What operators see of a key. It refers to no guard, so that one without calls is freed.

    Attributes:
        text: its name.
        refused: how many calls of it were refused.
        running: calls of it that outlive their frames, such as streams, or that took their time.
        forced: its own forced state, or None.
        forced_why: the reason of it.
        until: when that ends by itself.
    """

    __slots__ = ("_outbox", "forced", "forced_why", "refused", "running", "text", "until")

    def __init__(self, text: str, outbox: Outbox) -> None:
        self.text: str = text
        self.refused: int = 0
        self.running: int = 0
        self.forced: str | None = None
        self.forced_why: str = ""
        self.until: float = inf
        self._outbox = outbox

    def emit(self, item: Event | Waiter | Callable[[], object]) -> None:
        """Accept what a guard of the key hands to the policy."""
        if isinstance(item, Event):
            item.key = self.text
        self._outbox.emit(item)

    def left(self, now: float) -> float | None:
        """Return the seconds until its forced state ends by itself; None if it does not."""
        return max(0.0, self.until - now) if self.until < inf else None


class KeyHome:
    """The policy, as a guard of one key knows it."""

    __slots__ = ("__weakref__", "_core", "guards", "name")

    def __init__(self, core: Owner, text: str, guards: tuple[Guard, ...]) -> None:
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
        seen: 3 after a call: one bit for the next look for one to forget, one for the metrics; the
            bit `ORDERED` until the first call of one that an order has made.
        made: by what was decorated, the function that calls go through.
        samples: its numbers at the last look, for `telemetry`.
    """

    __slots__ = (
        "guards", "home", "key", "made", "own", "revision", "samples", "seen", "users", "usual",
    )  # fmt: skip

    def __init__(self, core: Owner, guards: tuple[Guard, ...], key: Key) -> None:
        self.key: Key = key
        self.revision: int = revision_of(guards)
        self.guards: tuple[Guard, ...] = tuple(
            guard.anew() if isinstance(guard, PerKey) else guard for guard in guards
        )
        self.own: list[PerKey] = [
            new for new, old in zip(self.guards, guards, strict=True)
            if new is not old and isinstance(new, PerKey)
        ]  # fmt: skip
        self.home: KeyHome = KeyHome(core, key.text, self.guards)
        for guard in self.own:
            guard._policy_name = core.name
            guard.emit = key.emit
            if isinstance(guard, Attached):
                guard.attach(self.home)
            if isinstance(guard, Peered):
                guard.meet(self.guards)
            if core.clock is not None and isinstance(guard, Jitters):
                guard.jitter(False)
        self.users: list[None] = []
        self.usual: bool = True
        self.seen: int = 3
        self.made: dict[Hashable, Any] = {}
        self.samples: Any = None

    def is_idle(self, now: float) -> bool:
        """Return whether it may be forgotten; under the lock."""
        if self.users or self.key.running or self.key.forced is not None:
            return False
        return all(guard.at_rest(now) for guard in self.own)

    def stateful(self) -> list[Stateful]:
        """Return its own guards that have a state."""
        return [guard for guard in self.own if isinstance(guard, Stateful)]

    @property
    def state(self) -> str:
        """Its forced state, else that of the guard which has one."""
        states = (guard.state for guard in self.stateful())
        return self.key.forced or next((state for state in states if state), "closed")


def revision_of(guards: tuple[Guard, ...]) -> int:
    """Return a number that rises whenever options of guards are changed."""
    return sum(guard._revision for guard in guards)
