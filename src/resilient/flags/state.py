"""What this process knows of every lever, and the values of its flags that follow from it."""

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
from .reasons import LET_GO, Source, flipped, why
from .snapshot import Snapshot


class State:
    """The flips that hold, what overrides them, and the values of the declared flags.

    A test's override wins over the environment, that over a provider of OpenFeature, that over the
    store, that over what is declared.
    """

    def __init__(self, flags: Flags, now: Callable[[], float] | None = None) -> None:
        self.flags: Final = flags
        # This clock runs during a suspend, so that a flip ends when it said.
        self.now: Callable[[], float] = since_boot if now is None else now
        self._event_now: Callable[[], float] = time.monotonic if now is None else now
        self.flips: dict[str, Flip] = {}  # the newest of each lever, also those that have ended
        self.version: int = 0  # of the newest flip that was merged
        self.changes: int = 0  # rises whenever the value of a lever may have changed
        self.life: int = 0  # rises whenever everything is forgotten
        self.fresh: bool = True  # no code has read a flag yet
        self.isolated: bool = False  # ignore environment and store: for tests
        self.all_off: bool = False  # every flag without an override is off: for tests
        self.watcher: Callable[[Flag, bool], None] | None = None  # called at every read: for tests
        self._outside: tuple[dict[str, Flip], dict[str, float], int] = {}, {}, 0
        self.table: dict[str, bool] = {}
        self.overrides: dict[str, bool] = {}
        self.held: dict[str, str] = {}  # why a provider holds a flag off, by its name
        self._ends: dict[str, float] = {}  # by lever, on the clock of `now`: future ends only
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
        """Merge flips from a store or a copy; return those that are new.

        Args:
            read: the flips.
            store_now: the time by the clock that dates their ends.
            whole: the flips are complete, whatever their versions: others have been let go.
            life: the value of `life` when the reading began; one of an earlier life is dropped.
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
        """Raise the versions of read flips so that they outrank known ones with another value."""
        for flip in read:
            known = self.flips.get(flip.lever)
            if known is not None and known.version >= flip.version and known.value != flip.value:
                flip.version = known.version + 1
        return read

    def _amiss(self) -> set[str]:
        """Return the levers whose flag has a stale value, because an update was interrupted."""
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
        """Return the flip that a lever obeys now, None if what is declared holds."""
        flip = self.flips.get(lever)
        if flip is None or flip.value == RELEASED:
            return None
        if flip.until is not None and (flip.due is None or flip.due <= self.now()):
            return None
        return flip

    # -- what flags say ---------------------------------------------

    def says(self, flag: Flag) -> tuple[bool, Source, Flip | None]:
        """Return the value of a flag, what decides it, and by which flip."""
        if flag.name in self.overrides:
            return self.overrides[flag.name], "test", None
        return self.says_untested(flag)

    def says_untested(self, flag: Flag) -> tuple[bool, Source, Flip | None]:
        """Return the same without regard to a test's override."""
        if self.all_off:
            return False, "test", None
        if not self.isolated and self.flags.is_pinned(flag.name):
            return False, "environment", None
        if not self.isolated and flag.name in self.held:
            return False, "provider", None
        flip = self.holding(lever_of(FLAG, flag.name))
        if flip is not None:
            return flip.value == ON, "store", flip
        return flag.default, "declared", None

    def snapshot(self) -> Snapshot:
        """Return the values of all flags at this instant."""
        return Snapshot(self.flags, self.table)

    def override(self, name: str, on: bool | None) -> bool | None:
        """Override the value of a flag; None ends the override. Return the previous override."""
        with self._lock:
            before = self.overrides.pop(name, None)
            if on is not None:
                self.overrides[name] = on
            moved = self._publish({lever_of(FLAG, name)}, quiet=True)
        _regate(moved)
        return before

    def hold(self, name: str, why: str | None, let_go: str = LET_GO) -> None:
        """Have a provider of OpenFeature hold a flag off; where why is None, let it go."""
        with self._lock:
            if self.held.get(name) == why:
                return
            if why is None:
                del self.held[name]
            else:  # in place: who reads meanwhile must not find it let go
                self.held[name] = why
            moved = self._publish({lever_of(FLAG, name)}, let_go=let_go)
        _regate(moved)
        bus.deliver()

    def isolate(self, on: bool) -> None:
        """Ignore environment and store, or stop ignoring them."""
        with self._lock:
            if on != self.isolated:
                before = self.flips, self._ends, self.version
                self.flips, self._ends, self.version = self._outside
                self._outside = before
            self.isolated = on
            moved = self._publish_all()
        _regate(moved)

    def set_all_off(self, on: bool) -> None:
        """Turn off every flag that no override turns on; or stop doing so."""
        with self._lock:
            self.all_off = on
            moved = self._publish_all()
        _regate(moved)

    def watch(self, watcher: Callable[[Flag, bool], None] | None) -> None:
        """Set or remove the function that is called with every read."""
        with self._lock:
            self.watcher = watcher
            for flag in self.flags.all():
                flag.seen = watcher
            moved = self._publish_all()
        _regate(moved)

    def forget(self) -> None:
        """Forget all levers."""
        with self._lock:
            self.flips, self._ends, self.version = {}, {}, 0
            self.life += 1
            moved = self._publish_all()
        _regate(moved)

    def keep(self) -> tuple[dict[str, Flip], dict[str, float], int]:
        """Return the known flips, for `put_back`."""
        with self._lock:
            return self.flips.copy(), self._ends.copy(), self.version

    def put_back(self, kept: tuple[dict[str, Flip], dict[str, float], int]) -> None:
        """Restore the flips that `keep` returned."""
        with self._lock:
            self.flips, self._ends, self.version = kept[0].copy(), kept[1].copy(), kept[2]
            names = set(self.flags.names())
            self.table = {name: on for name, on in self.table.items() if name in names}
            moved = self._publish_all()
        _regate(moved)

    def read(self, fresh: bool) -> None:
        """Mark every flag as read, or as unread in a new process."""
        with self._lock:
            self.fresh = fresh
            for flag in self.flags.all():
                flag.fresh = fresh
                flag.settle()

    def declared(self, flag: Flag) -> None:
        """Set the value of a new flag."""
        with self._lock:
            flag.seen, flag.fresh = self.watcher, self.fresh
            moved = self._publish({lever_of(FLAG, flag.name)}, quiet=True)
        _regate(moved)

    def _publish_all(self) -> list[PolicyState]:
        return self._publish({lever_of(FLAG, flag.name) for flag in self.flags.all()}, quiet=True)

    def _publish(
        self, levers: set[str], *, quiet: bool = False, let_go: str = LET_GO
    ) -> list[PolicyState]:
        """Update the flags of these levers. Caller holds the lock.

        Returns the policies whose gates the caller must refresh once it has released the lock: a
        thread that holds a policy's lock may wait for this one.
        """
        self.changes += 1
        moved: list[PolicyState] = []
        said: dict[str, bool] = {}
        flags = [self.flags.find(name_of(each)) for each in levers if each.startswith(FLAG + "/")]
        for flag in flags:
            if flag is None:
                continue
            on, source, flip = self.says(flag)
            held = self.held.get(flag.name, "")
            news = flag.state != on and not quiet
            if news:
                flag.changes += 1
                bus.enqueue(flipped(flag, on, flip, source, self._event_now(), held, let_go))
            flag.due = None if flip is None or flip.until is None else flip.due
            flag.why = why(flag, source, flip, held)
            said[flag.name] = flag.state = on
            flag.settle()
            moved += flag.policies()
        self.table = {**self.table, **said}  # last: a signal handler may have changed it meanwhile
        return moved

    # -- the process ---------------------------------------------

    def before_fork(self) -> None:
        """Wait until no thread is in the middle of a change."""
        self._lock.acquire()

    def after_fork(self) -> None:
        """Release the lock, in the parent."""
        self._lock.release()

    def reset_lock(self) -> None:
        """Replace the lock, in a forked child."""
        self._lock = threading.RLock()


def _regate(policies: list[PolicyState]) -> None:
    for core in policies:
        core.refresh_gate()
