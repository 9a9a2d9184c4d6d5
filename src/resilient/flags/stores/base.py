"""The protocol of a store of flips, which third parties can implement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from ...errors import StoreError
from ..flip import Flip


class UnknownOutcomeError(StoreError):
    """The store did not answer in time: it may or may not have recorded the flip."""


class ReadOnlyStoreError(StoreError):
    """This process can't write the store; the message says how to change its levers."""


class ConflictError(StoreError):
    """Somebody else has flipped the lever meanwhile.

    Attributes:
        now: the flip that came first.
    """

    now: Flip

    def __init__(self, now: Flip) -> None:
        super().__init__(f"{now.lever} was set to {now.value!r} meanwhile, by {now.by}")
        self.now = now


class Reading:
    """The contents of a store at one instant.

    Attributes:
        incarnation: identifies the store's contents; a store that lost everything has another one.
            ``""`` if nothing was ever written.
        version: the version of the newest flip, 0 if there is none.
        now: the time by the store's clock, in seconds since 1970.
        flips: the newest of every lever; None if the caller has them all already.
        whole: a lever without a flip here has been let go. Only a store that others write, such as
            a file, sets it.
        unread: levers whose record is invalid, and why; the other records hold all the same.
        born: when these contents began, by the store's clock; 0 if that is long ago or unknown. A
            young store may not know every process yet.
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
        """Describe in words what could not be read."""
        return [f"{what} can't be read: {why}" for what, why in self.unread.items()]


class Process:
    """A process that follows the store, as the store knows it.

    Attributes:
        id: unique for all time.
        host: the host's name.
        pid: its process id there.
        program: what it runs, such as ``"gunicorn"``.
        applied: the version of the newest flip that it has applied.
        seen: the time of its last heartbeat, by the store's clock.
        about: what it declares, and the values of its levers.
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
        """Return what identifies the process to people."""
        return {"host": self.host, "pid": self.pid, "program": self.program}


class Store(Protocol):
    """Where flips live. Each method may raise `StoreError`, and returns within about a second.

    One thread at a time uses a store. A forked child opens its own.
    """

    writable: bool  # whether it accepts flips and registers processes

    def read(self, incarnation: str, version: int) -> Reading:
        """Return the contents; without flips if incarnation and version have not changed."""
        ...

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        """Record a flip and its log entry in one step; return it as it was recorded.

        Args:
            flip: the order; the store sets its version and times.
            lasts: seconds until it ends by itself, or None.
            expected: the version that the lever must have, 0 for none; None for any.

        Returns:
            The flip. If its `request` was recorded before, the recorded flip.

        Raises:
            ConflictError: the lever has another version.
            UnknownOutcomeError: the store did not answer.
            ReadOnlyStoreError: the store is read-only.
        """
        ...

    def restore(self, flips: list[Flip]) -> None:
        """Put lost flips back, each unless the store has a newer one of its lever."""
        ...

    def log(self, lever: str | None, most: int) -> list[Flip]:
        """Return the newest flips ever made, of one lever or of all, newest first."""
        ...

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        """Add entries to the journal, plain data with ``at``, and keep the newest `most` of all."""
        ...

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        """Return the entries since a time, the newest `most` of them, oldest first."""
        ...

    def beat(self, process: Process, *, about: bool) -> None:
        """Record that a process lives and what it has applied; with `about`, also its report."""
        ...

    def processes(self) -> tuple[list[Process], float]:
        """Return every process that has not deregistered, and the time by the store's clock."""
        ...

    def leave(self, id: str) -> bool:
        """Deregister a process; return whether it was known."""
        ...

    def hint(self, seconds: float) -> bool:
        """Wait so long, or less if something may have changed; return whether it may."""
        ...

    def close(self) -> None:
        """Close connections and files."""
        ...
