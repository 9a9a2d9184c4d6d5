"""What this process knows of every lever, and what its flags say because of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable
from typing import Final

from ..engine.policy_state import PolicyState
from ..events import bus
from ..flag_handle import Flag, since_boot
from .boot_clock import boot
from .declarations import Flags
from .flip import FLAG, ON, RELEASED, Flip, lever_of, name_of, newer
from .reasons import Source, flipped, why
from .snapshot import Snapshot


class State:
    """Flips that hold, what goes over them, and what the declared flags say.

    A test's override goes over the environment, that over the store, that over what is declared.
    """

    def __init__(self, flags: Flags, now: Callable[[], float] | None = None) -> None:
        self.flags: Final = flags
        # A flip ends when it said, also where the host was suspended meanwhile.
        self.now: Callable[[], float] = since_boot if now is None else now
        self._event_now: Callable[[], float] = time.monotonic if now is None else now
        self.flips: dict[str, Flip] = {}  # the newest of each lever, also those that have ended
        self.version: int = 0  # of the newest flip that has been taken in
        self.changes: int = 0  # of what is known here: rises whenever a lever may say otherwise
        self.life: int = 0  # rises whenever everything is forgotten
        self.fresh: bool = True  # nobody has read a flag yet
        self.isolated: bool = False  # nothing from outside counts: for tests
        self.all_off: bool = False  # every flag is off that no override says on: for tests
        self.watcher: Callable[[Flag, bool], None] | None = None  # told of every read: for tests
        self._outside: tuple[dict[str, Flip], dict[str, float], int] = {}, {}, 0
        self.table: dict[str, bool] = {}
        self.overrides: dict[str, bool] = {}
        self._ends: dict[str, float] = {}  # by lever, on the clock of `now`: those yet to come
        self._lock = threading.RLock()  # a signal handler may flip a flag

    # -- what is known ---------------------------------------------

    def adopt(
        self,
        read: Iterable[Flip],
        store_now: float,
        *,
        whole: bool = False,
        life: int | None = None,
    ) -> list[Flip]:
        """Take in flips that a store or a copy has; return those that are news.

        Args:
            read: the flips.
            store_now: the time by the clock that their ends are told in.
            whole: they are all there is, whatever their versions: the rest has been let go.
            life: what `life` was when the reading began; one of an earlier life is not taken in.
        """
        with self._lock:
            if life is not None and life != self.life:
                return []
            read = list(read)
            if whole:
                read = [*self._raised(read), *self._let_go(read)]
            news = newer(self.flips, read)
            now = self.now()
            for flip in news:
                self._ends.pop(flip.lever, None)
                if flip.until is not None:
                    if flip.boot != boot() or flip.due is None:
                        flip.boot, flip.due = boot(), now + max(0.0, flip.until - store_now)
                    self._ends[flip.lever] = flip.due
                self.flips[flip.lever] = flip
                self.version = max(self.version, flip.version)
            moved = self._publish({flip.lever for flip in news} | self._amiss())
        _regate(moved)
        bus.deliver()
        return news

    def _raised(self, read: list[Flip]) -> list[Flip]:
        """Let what was read go over what is known, where it says otherwise."""
        for flip in read:
            known = self.flips.get(flip.lever)
            if known is not None and known.version >= flip.version and known.value != flip.value:
                flip.version = known.version + 1
        return read

    def _amiss(self) -> set[str]:
        """Return the levers of flags that do not say what they should: a change was broken off."""
        return {
            lever_of(FLAG, flag.name)
            for flag in self.flags.all()
            if flag.state != self.says(flag)[0]
        }

    def _let_go(self, read: list[Flip]) -> list[Flip]:
        there = {flip.lever for flip in read}
        version = max((flip.version for flip in read), default=self.version + 1)
        return [
            Flip(lever, RELEASED, version=max(version, flip.version + 1), reason="no longer there")
            for lever, flip in self.flips.items()
            if lever not in there and flip.value != RELEASED
        ]

    def expire(self) -> list[str]:
        """End the flips whose time is up; return their levers."""
        now = self.now()
        with self._lock:
            ended = [lever for lever, end in self._ends.items() if end <= now]
            moved = self._publish(set(ended)) if ended else []
            for lever in ended:
                del self._ends[lever]
        _regate(moved)
        bus.deliver()
        return ended

    def next_end(self) -> float | None:
        """Return when the next flip ends, on the clock of `now`."""
        with self._lock:
            return min(self._ends.values(), default=None)

    def holding(self, lever: str) -> Flip | None:
        """Return the flip that a lever obeys now, None where what is declared holds."""
        flip = self.flips.get(lever)
        if flip is None or flip.value == RELEASED:
            return None
        if flip.until is not None and (flip.due is None or flip.due <= self.now()):
            return None
        return flip

    # -- what flags say ---------------------------------------------

    def says(self, flag: Flag) -> tuple[bool, Source, Flip | None]:
        """Return what a flag says, who decides it, and by which flip."""
        if flag.name in self.overrides:
            return self.overrides[flag.name], "test", None
        return self.says_untested(flag)

    def says_untested(self, flag: Flag) -> tuple[bool, Source, Flip | None]:
        """Return the same, but for what a test has set."""
        if self.all_off:
            return False, "test", None
        if not self.isolated and self.flags.is_pinned(flag.name):
            return False, "environment", None
        flip = self.holding(lever_of(FLAG, flag.name))
        if flip is not None:
            return flip.value == ON, "store", flip
        return flag.default, "declared", None

    def snapshot(self) -> Snapshot:
        """Return what all flags say at this instant."""
        return Snapshot(self.flags, self.table)

    def override(self, name: str, on: bool | None) -> bool | None:
        """Have a flag say something, whatever else is known; None ends it. Return what was."""
        with self._lock:
            before = self.overrides.pop(name, None)
            if on is not None:
                self.overrides[name] = on
            moved = self._publish({lever_of(FLAG, name)}, quiet=True)
        _regate(moved)
        return before

    def isolate(self, on: bool) -> None:
        """Let nothing from outside count, environment and store alike, or let it count again."""
        with self._lock:
            if on != self.isolated:
                before = self.flips, self._ends, self.version
                self.flips, self._ends, self.version = self._outside
                self._outside = before
            self.isolated = on
            moved = self._publish_all()
        _regate(moved)

    def set_all_off(self, on: bool) -> None:
        """Turn every flag off, but those that an override says are on."""
        with self._lock:
            self.all_off = on
            moved = self._publish_all()
        _regate(moved)

    def watch(self, watcher: Callable[[Flag, bool], None] | None) -> None:
        """Tell somebody of every read from now on, or nobody."""
        with self._lock:
            self.watcher = watcher
            for flag in self.flags.all():
                flag.seen = watcher
            moved = self._publish_all()
        _regate(moved)

    def forget(self) -> None:
        """Know nothing of any lever any more."""
        with self._lock:
            self.flips, self._ends, self.version = {}, {}, 0
            self.life += 1
            moved = self._publish_all()
        _regate(moved)

    def keep(self) -> tuple[dict[str, Flip], dict[str, float], int]:
        """Return the flips that are known, for `put_back`."""
        with self._lock:
            return self.flips.copy(), self._ends.copy(), self.version

    def put_back(self, kept: tuple[dict[str, Flip], dict[str, float], int]) -> None:
        """Know what was known when it was kept."""
        with self._lock:
            self.flips, self._ends, self.version = kept[0].copy(), kept[1].copy(), kept[2]
            names = set(self.flags.names())
            self.table = {name: on for name, on in self.table.items() if name in names}
            moved = self._publish_all()
        _regate(moved)

    def read(self, fresh: bool) -> None:
        """Mark every flag as read, or as unread in a process that has just begun."""
        with self._lock:
            self.fresh = fresh
            for flag in self.flags.all():
                flag.fresh = fresh
                flag.settle()

    def declared(self, flag: Flag) -> None:
        """Let a flag that is new say what is known of it."""
        with self._lock:
            flag.seen, flag.fresh = self.watcher, self.fresh
            moved = self._publish({lever_of(FLAG, flag.name)}, quiet=True)
        _regate(moved)

    def _publish_all(self) -> list[PolicyState]:
        return self._publish({lever_of(FLAG, flag.name) for flag in self.flags.all()}, quiet=True)

    def _publish(self, levers: set[str], *, quiet: bool = False) -> list[PolicyState]:
        """Have the flags of these levers say what is known; under the lock.

        Returns the policies that have to look at their gates anew, once the lock is released:
        whoever holds a policy's lock may come to want this one.
        """
        self.changes += 1
        moved: list[PolicyState] = []
        said: dict[str, bool] = {}
        flags = [self.flags.find(name_of(each)) for each in levers if each.startswith(FLAG + "/")]
        for flag in flags:
            if flag is None:
                continue
            on, source, flip = self.says(flag)
            news = flag.state != on and not quiet
            if news:
                flag.changes += 1
                bus.enqueue(flipped(flag, on, flip, source, self._event_now()))
            flag.due = None if flip is None or flip.until is None else flip.due
            flag.why = why(flag, source, flip)
            said[flag.name] = flag.state = on
            flag.settle()
            moved += flag.policies()
        self.table = {**self.table, **said}  # last: a signal handler may have been here meanwhile
        return moved

    # -- the process ---------------------------------------------

    def before_fork(self) -> None:
        """Let no thread be caught in the middle of a change."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Go on, in the parent."""
        self._lock.release()

    def reset_lock(self) -> None:
        """Make the lock anew, in a forked child."""
        self._lock = threading.RLock()


def _regate(policies: list[PolicyState]) -> None:
    for core in policies:
        core.refresh_gate()
