"""The policies of this process, by name."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable
from types import CodeType
from typing import Any, Final

from .clock import Clock
from .drive.core import Core
from .events import Listener, bus
from .showing import snapshot_of

_IMPORTLIB: Final = "<frozen importlib._bootstrap>"
_PACKAGE: Final = __name__.rpartition(".")[0]


class Place:
    """Where in the code a policy was made."""

    __slots__ = ("code", "importing", "line")

    def __init__(self, code: CodeType, line: int, importing: bool) -> None:
        self.code: CodeType = code
        self.line: int = line
        self.importing: bool = importing  # while a module was being imported

    @staticmethod
    def depth() -> int:
        """Return the stacklevel, as `warnings.warn` counts, of the first caller outside."""
        level, frame = 1, sys._getframe(1)
        while frame.f_back is not None and _is_ours(frame.f_globals):
            level, frame = level + 1, frame.f_back
        return level

    @classmethod
    def here(cls) -> Place:
        """Return the place of the first caller outside this package."""
        frame = sys._getframe(1)
        while frame.f_back is not None and _is_ours(frame.f_globals):
            frame = frame.f_back
        code, line = frame.f_code, frame.f_lineno
        importing, above = False, frame.f_back
        while above is not None and not importing:
            importing = above.f_code.co_filename == _IMPORTLIB
            above = above.f_back
        return cls(code, line, importing)

    def reloads(self, other: Place) -> bool:
        """Tell whether this is the other place again, compiled anew by a reload."""
        return self.code is not other.code and str(self) == str(other)

    def __str__(self) -> str:
        return f"{self.code.co_filename}:{self.line} in {self.code.co_qualname}"


def _is_ours(names: dict[str, Any]) -> bool:
    module = str(names.get("__name__", ""))
    return module == _PACKAGE or module.startswith(_PACKAGE + ".")


class _Entry:
    __slots__ = ("core", "place", "strong")

    def __init__(self, core: weakref.ref[Core], place: Place, strong: Core | None) -> None:
        self.core = core
        self.place = place
        self.strong = strong


class Registry:
    """Named policies, looked at and listened to: `resilient.registry` is the one there is."""

    def __init__(self) -> None:
        self.clock: Clock | None = None  # given to policies that are made without one
        self.patches: Callable[[], list[dict[str, Any]]] = list  # set by `resilient.patching`
        self.on_made: Callable[[Core, Place], None] | None = None  # for the testing plugin
        self._lock = threading.Lock()
        self._entries: dict[str, _Entry] = {}
        self._numbers: dict[str, int] = {}
        self._freed: dict[str, list[int]] = {}
        self._places: dict[
            tuple[str, str], tuple[str, int]
        ] = {}  # of anonymous policies, by base and place

    # -- for applications ---------------------------------------------

    def snapshot(self) -> dict[str, Any]:
        """Return every policy's options, state and counts as plain data.

        Returns:
            ``{"policies": {name: {...}}, "patches": [{...}]}`` of str, int, float, bool, None, list
            and dict. Each policy is consistent in itself. A patch has ``target``, ``policy`` and
            ``state``; see `resilient.patch`.

        Example:
            >>> import resilient
            >>> sorted(resilient.registry.snapshot())
            ['patches', 'policies']
        """
        return {
            "policies": {core.name: snapshot_of(core, core.guards) for core in self.cores()},
            "patches": self.patches(),
        }

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Call listener with every `Event` of every policy from now on.

        Args:
            listener: a plain function of one `Event`. It runs in the thread of some guarded call,
                outside all locks, and all other events wait for it, so it should be quick.
                One that raises is logged once and removed.

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
        return sorted(core.name for core in self.cores())

    # -- for the rest of the package ---------------------------------------------

    def cores(self) -> list[Core]:
        """Return the living cores, in the order of their making."""
        # One step, and no lock: a signal handler may make a policy in the middle of it.
        found = [entry.core() for entry in list(self._entries.values())]
        return [core for core in found if core is not None]

    def made(self, core: Core) -> None:
        """Tell the testing plugin of a policy that is complete."""
        entry = self._entries.get(core.name)
        if self.on_made is not None and entry is not None:
            self.on_made(core, entry.place)

    def find(self, name: str) -> Core:
        """Return the core of a policy by name.

        Raises:
            LookupError: there is none; the message has the nearest name.
        """
        entry = self._entries.get(name)
        core = entry.core() if entry is not None else None
        if core is None:
            import difflib

            near = difflib.get_close_matches(str(name), self.names(), n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise LookupError(f"no policy is named {name!r}{hint}")
        return core

    def add(self, core: Core, place: Place) -> None:
        """Register a policy under its own name."""
        with self._lock:
            if self._taken(core.name, place):
                there = self._entries[core.name].place
                raise ValueError(
                    f"a policy named {core.name!r} exists already, made at {there}; this one "
                    f"is made at {place}. Share the one policy, or choose another name"
                )
            self._entries[core.name] = _Entry(weakref.ref(core), place, core)

    def add_anonymous(self, core: Core, base: str, place: Place) -> str:
        """Register a policy under a name made from base, for as long as it lives."""
        base = _cleaned(base)
        with self._lock:
            name, number, at = base, 1, (base, str(place))
            if self._taken(name, place):
                name, number = self._places.get(at, (base, 1))  # a reload keeps its number too
            if self._taken(name, place):
                freed = self._freed.get(base)
                if freed:
                    number = min(freed)
                    freed.remove(number)
                else:
                    number = self._numbers[base] = self._numbers.get(base, 1) + 1
                name = f"{base}#{number}"
            self._places[at] = name, number
            ref = weakref.ref(core, lambda dead: self._died(dead, name, base, number))
            self._entries[name] = _Entry(ref, place, None)
        core.anonymous = True
        return name

    def _taken(self, name: str, place: Place) -> bool:
        entry = self._entries.get(name)
        return entry is not None and entry.core() is not None and not place.reloads(entry.place)

    def remove(self, name: str) -> None:
        """Forget a policy; whoever holds it can go on using it."""
        with self._lock:
            self._entries.pop(name, None)

    def reset_lock(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.Lock()

    def _died(self, dead: weakref.ref[Core], name: str, base: str, number: int) -> None:
        # Runs in a finalizer, perhaps of a thread that holds the lock: dict operations are enough.
        entry = self._entries.get(name)
        if entry is None or entry.core is not dead:
            return
        self._entries.pop(name, None)
        at = base, str(entry.place)
        if self._places.get(at) == (name, number):
            self._places.pop(at, None)
        if number > 1:
            self._freed.setdefault(base, []).append(number)


def _cleaned(name: str) -> str:
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "._-<>:") else "_" for c in name)
    return (kept if kept[:1].isalnum() or kept[:1] == "_" else "_" + kept)[:90]


registry: Registry = Registry()
