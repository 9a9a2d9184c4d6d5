"""The policies of this process, by name."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from ..clock import Clock
from ..engine.policy_state import PolicyState
from ..events import Listener, bus
from ..place import Place
from ..process import at_fork
from ..validation import did_you_mean

# What `get` returns: that class is in a higher package, and users read this name.
Policy = TypeVar("Policy")


class _Entry:
    __slots__ = ("core", "place", "strong")

    def __init__(
        self, core: weakref.ref[PolicyState], place: Place, strong: PolicyState | None
    ) -> None:
        self.core = core
        self.place = place
        self.strong = strong


class Registry(Generic[Policy]):
    """The policies of this process by name; `resilient.registry` is the only instance."""

    def __init__(self) -> None:
        self.clock: Clock | None = None  # given to policies that are made without one
        # Set by `resilient.policy.patching`.
        self.patches: Callable[[], list[dict[str, Any]]] = list
        self.rebuild: Callable[[PolicyState], Policy]  # set by `resilient.policy.lookup`
        # Called for each new policy, by the testing plugin.
        self.on_made: Callable[[PolicyState, Place], None] | None = None
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        # By code that was loaded again, oldest first.
        self._replaced: list[weakref.ref[PolicyState]] = []
        self._numbers: dict[str, int] = {}
        self._freed: dict[str, list[int]] = {}

    # -- for applications ---------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return the options, state and counts of every policy as plain data.

        Returns:
            ``{"policies": {name: {...}}, "patches": [{...}]}`` of str, int, float, bool, None, list
            and dict. Each policy is consistent in itself; a policy that replaced others which still
            live, because its module was reloaded, has theirs in ``replaced``. A patch has
            ``target``, ``policy`` and ``state``; see `resilient.patch`.

        Example:
            >>> import resilient
            >>> sorted(resilient.registry.snapshot())
            ['patches', 'policies']
        """
        return {
            "policies": {core.name: self._shown(core) for core in self.cores()},
            "patches": self.patches(),
        }

    def _shown(self, core: PolicyState) -> dict[str, Any]:
        from .describe import snapshot_of

        shown = snapshot_of(core, core.guards)
        older = [each for each in self.named(core.name) if each is not core]
        if older:
            shown["replaced"] = [snapshot_of(each, each.guards) for each in older]
        return shown

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call listener with every `Event` of every policy from now on.

        Args:
            listener: a plain function of one `Event`. It runs in the thread of a guarded call,
                outside all locks, and all other events wait for it, so it should be quick.
                A listener that raises is logged once and removed.

        Returns:
            A function that ends the subscription.

        Raises:
            TypeError: listener is not a plain callable.

        Example:
            >>> import resilient
            >>> unsubscribe = resilient.registry.subscribe(print)
            >>> unsubscribe()
        """
        return bus.subscribe(listener)

    def names(self) -> list[str]:
        """Return the names of all policies, sorted."""
        return sorted({core.name for core in self.cores()})

    def get(self, name: str) -> Policy:
        """Return a policy by its name: the same object, as long as it exists.

        Args:
            name: the name that `Policy` was given, or that was made from the function's.

        Raises:
            LookupError: no policy has that name; the message suggests the nearest.

        Example:
            >>> import resilient
            >>> coats = resilient.Policy("coats", resilient.bulkhead(3))
            >>> resilient.registry.get("coats") is coats
            True
        """
        core = self.find(name)
        policy: Policy | None = None if core.policy is None else core.policy()
        return self.rebuild(core) if policy is None else policy

    # -- for the rest of the package ---------------------------------------------

    def cores(self) -> list[PolicyState]:
        """Return all living states in the order of creation; replaced ones come first."""
        # Atomic and without a lock: a signal handler may create a policy in the middle of it.
        found = [ref() for ref in list(self._replaced)]
        found += [entry.core() for entry in list(self._entries.values())]
        return [core for core in found if core is not None]

    def knows(self, core: PolicyState) -> bool:
        """Return whether a policy is what its name stands for."""
        entry = self._entries.get(core.name)
        return entry is not None and entry.core() is core

    def named(self, name: str) -> list[PolicyState]:
        """Return the living states of a name; the one that the name now stands for is last."""
        return [core for core in self.cores() if core.name == name]

    def made(self, core: PolicyState) -> None:
        """Report a complete policy to the testing plugin."""
        entry = self._entries.get(core.name)
        if self.on_made is not None and entry is not None:
            self.on_made(core, entry.place)

    def find(self, name: str) -> PolicyState:
        """Return the state of a policy by its name.

        Raises:
            LookupError: there is none; the message suggests the nearest name.
        """
        entry = self._entries.get(name)
        core = entry.core() if entry is not None else None
        if core is None:
            raise LookupError(f"no policy is named {name!r}{did_you_mean(name, self.names())}")
        return core

    def add(self, core: PolicyState, place: Place) -> PolicyState:
        """Register a policy under its own name.

        Returns:
            The state that the name stands for: the older one if a function declares it again.

        Raises:
            ValueError: the name belongs to another declaration.
        """
        with self._lock:
            entry = self._entries.get(core.name)
            older = None if entry is None else entry.core()
            if entry is not None and older is not None:
                relation = place.relation(entry.place)
                if relation == "again":
                    return older
                if relation != "anew":
                    raise ValueError(
                        f"a policy named {core.name!r} exists already, made at {entry.place}; this "
                        f"one is made at {place}. Share the one policy, or choose another name"
                    )
            self._enter(core.name, _Entry(weakref.ref(core), place, core))
        return core

    def _enter(self, name: str, entry: _Entry) -> None:
        """Assign a name to a policy; keep an older one of that name while anybody uses it."""
        older = self._entries.pop(name, None)
        self._replaced = [ref for ref in self._replaced if ref() is not None]
        if older is not None and older.core() is not None:
            self._replaced.append(older.core)
        self._entries[name] = entry

    def add_anonymous(self, core: PolicyState, base: str, place: Place) -> str:
        """Register a policy under a name made from base, for as long as it lives.

        Policies of code that is loaded again get their names again in the same order.
        """
        base = _cleaned(base)
        with self._lock:
            number = 1
            if self._is_taken(base, place):
                number = self._number(base, place)
            name = base if number == 1 else f"{base}#{number}"
            ref = weakref.ref(core, lambda dead: self._died(dead, name, base, number))
            self._enter(name, _Entry(ref, place, None))
        core.anonymous = True
        return name

    def _number(self, base: str, place: Place) -> int:
        if not place.repeats:  # perhaps code that was loaded again
            for number in range(2, self._numbers.get(base, 1) + 1):
                entry = self._entries.get(f"{base}#{number}")
                if entry is not None and not self._is_taken(f"{base}#{number}", place):
                    return number
        freed = self._freed.get(base)
        if freed:
            number = min(freed)
            freed.remove(number)
            return number
        number = self._numbers[base] = self._numbers.get(base, 1) + 1
        return number

    def _is_taken(self, name: str, place: Place) -> bool:
        entry = self._entries.get(name)
        if entry is None or entry.core() is None:
            return False
        return place.repeats or place.relation(entry.place) != "anew"

    def remove(self, name: str) -> None:
        """Forget a policy; code that refers to it can go on using it."""
        with self._lock:
            self._entries.pop(name, None)
            older = [ref for ref in self._replaced if (core := ref()) and core.name != name]
            self._replaced = older

    def drop(self, core: PolicyState) -> None:
        """Forget a policy for good: its name becomes free, and its metrics end."""
        with self._lock:
            entry = self._entries.get(core.name)
            if entry is not None and entry.core() is core:
                del self._entries[core.name]
            self._replaced = [ref for ref in self._replaced if ref() not in (None, core)]
        core.dropped = True

    def __reduce__(self) -> str:
        return "registry"  # copies of an object that refers to it share the one registry

    def reset_lock(self) -> None:
        """Renew the lock, in a forked child."""
        self._lock = threading.Lock()

    def _died(self, dead: weakref.ref[PolicyState], name: str, base: str, number: int) -> None:
        # This runs in a finalizer, perhaps of a thread that holds the lock; so it uses only atomic
        # dict operations.
        entry = self._entries.get(name)
        if entry is None or entry.core is not dead:
            return
        self._entries.pop(name, None)
        if number > 1:
            self._freed.setdefault(base, []).append(number)


def _cleaned(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-<>:") else "_" for c in name)
    return (kept if kept[:1].isalnum() or kept[:1] == "_" else "_" + kept)[:90]


registry: Registry[object] = Registry()
at_fork("registry", in_child=registry.reset_lock)
