"""What a store of flips is: a small protocol that anybody can implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ...errors import StoreError
from ..flip import Flip


class UnknownOutcomeError(StoreError):
    """The store did not answer in time: whether the flip was recorded is not known."""


class ReadOnlyStoreError(StoreError):
    """The store can't be written from here; the message says how its levers are changed."""


class ConflictError(StoreError):
    """Somebody else has flipped the lever meanwhile.

    Attributes:
        now: the flip that came before.
    """

    now: Flip

    def __init__(self, now: Flip) -> None:
        super().__init__(f"{now.lever} was set to {now.value!r} meanwhile, by {now.by}")
        self.now = now


class Reading:
    """What a store said at one instant.

    Attributes:
        incarnation: names this life of the store; a store that lost everything has another one.
            ``""`` where nothing was ever written.
        version: that of the newest flip, 0 where there is none.
        now: the time by the store's clock, in seconds since 1970.
        flips: the newest of every lever; None where the caller has them all already.
        whole: what is not among the flips has been let go: only of a store that is written by
            other means, such as a file.
        unread: levers whose record is none, and why: the others hold all the same.
        born: when this life of the store began, by its clock; 0 where that is long ago or not
            known. In a young one not every process has been heard of yet.
    """

    __slots__ = ("born", "flips", "incarnation", "now", "unread", "version", "whole")

    def __init__(
        self,
        *,
        incarnation: str,
        version: int,
        now: float,
        flips: list[Flip] | None,
        whole: bool = False,
        born: float = 0.0,
        unread: Mapping[str, str] | None = None,
    ) -> None:
        self.unread: Mapping[str, str] = {} if unread is None else unread
        self.born: float = born
        self.incarnation: str = incarnation
        self.version: int = version
        self.now: float = now
        self.flips: list[Flip] | None = flips
        self.whole: bool = whole

    def faults(self) -> list[str]:
        """Return in words what could not be read."""
        return [f"{what} can't be read: {why}" for what, why in self.unread.items()]


class Process:
    """A process that follows the store, as the store knows it.

    Attributes:
        id: unique for ever.
        host: the host's name.
        pid: its process id there.
        program: what it runs, such as ``"gunicorn"``.
        applied: the version of the newest flip that it has applied.
        seen: when it was last heard of, by the store's clock.
        about: what it declares, and what its levers are at.
    """

    __slots__ = ("about", "applied", "host", "id", "pid", "program", "seen")

    def __init__(
        self,
        id: str,
        *,
        host: str = "",
        pid: int = 0,
        program: str = "",
        applied: int = 0,
        seen: float = 0.0,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        self.id: str = id
        self.host: str = host
        self.pid: int = pid
        self.program: str = program
        self.applied: int = applied
        self.seen: float = seen
        self.about: Mapping[str, Any] = about or {}

    def who(self) -> dict[str, Any]:
        """Return what tells people which process it is."""
        return {"host": self.host, "pid": self.pid, "program": self.program}


class Store(Protocol):
    """Where flips live. Each method may raise `StoreError`, and ends within about a second.

    One thread at a time uses a store. A forked child opens its own.
    """

    writable: bool  # flips can be made through it, and processes known by it

    def read(self, incarnation: str, version: int) -> Reading:
        """Return what is there; without the flips where both are still those."""
        ...

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        """Record a flip, and its entry in the log, in one step; return it as it was recorded.

        Args:
            flip: what is ordered; the store gives it its version and times.
            lasts: seconds until it ends by itself, or None.
            expected: the version that the lever must be at, 0 for none; None for any.

        Returns:
            The flip. One that was recorded already, by its `request`, is returned as it is there.

        Raises:
            ConflictError: the lever is at another version.
            UnknownOutcomeError: there was no answer.
            ReadOnlyStoreError: nothing can be written.
        """
        ...

    def restore(self, flips: list[Flip]) -> None:
        """Give back what the store has lost: each flip, unless it has a newer one of the lever."""
        ...

    def log(self, lever: str | None, most: int) -> list[Flip]:
        """Return the newest flips ever made, of one lever or of all, newest first."""
        ...

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        """Add entries to the journal, plain data with ``at``, and keep the newest of all."""
        ...

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        """Return the entries from a time on, the newest at most, oldest first."""
        ...

    def beat(self, process: Process, *, about: bool) -> None:
        """Note that a process is alive, and what it has applied; with `about`, also that."""
        ...

    def processes(self) -> tuple[list[Process], float]:
        """Return every process that has not left, and the time by the store's clock."""
        ...

    def leave(self, id: str) -> bool:
        """Forget a process; return whether it was known."""
        ...

    def hint(self, seconds: float) -> bool:
        """Wait so long, or shorter where there is a sign that something has changed."""
        ...

    def close(self) -> None:
        """Let go of what it holds."""
        ...
