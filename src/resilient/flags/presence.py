"""Which processes follow a store on this host: each holds a file lock for as long as it lives.

A process id proves little: the system reuses it, and each container has its own. A lock that can
be taken proves that its process has ended, however it ended.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from pathlib import Path
from typing import Final
from uuid import uuid4

from .filesystems import network_file_system
from .fork_exclusion import undisturbed
from .private_files import make_private, opened
from .stores.base import Process

_DIRECTORY: Final = "processes"
_LOOKED_AT: Final = os.O_RDWR | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
_STALE: Final = 60.0  # seconds after which an unnamed file has no owner


class Presence:
    """This process's lock among those of its host, and the check of the others."""

    def __init__(self, directory: Path | None) -> None:
        # Over a network a lock may hold on one host only; there it would prove nothing.
        local = directory is not None and not network_file_system(directory)
        self._directory = directory / _DIRECTORY if local and directory is not None else None
        self._fd: int | None = None
        self.id: str = uuid4().hex

    def process(self) -> Process:
        """Return the record of this process for the store."""
        program = os.path.basename(sys.argv[0] if sys.argv else "") or "python"
        shown = "".join(c for c in program if c.isprintable())[:100]
        return Process(self.id, host=socket.gethostname(), pid=os.getpid(), program=shown)

    def enter(self) -> None:
        """Take the lock that shows that this process lives.

        Raises:
            OSError: it can't be taken, so that nobody can prove this process dead.
            ValueError: the directory is not safe.
        """
        if self._directory is None or self._fd is not None:
            return
        import fcntl

        # Lock it before it gets the name that others look for: they would take it for a dead one's.
        fresh = f".{self.id}"
        make_private(self._directory.parent)
        with undisturbed, opened(self._directory, make=True) as inside:
            fd = inside.open(fresh, os.O_RDWR | os.O_CREAT | os.O_EXCL)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                inside.rename(fresh, self._name(self.id))
            except BaseException:
                os.close(fd)
                raise
            self._fd = fd

    def leave(self) -> None:
        """Release the lock."""
        if self._directory is None or self._fd is None:
            return
        self._remove(self.id)
        self.drop()

    def drop(self) -> None:
        """Close the lock's file but leave it in place: in a forked child it is the parent's."""
        fd, self._fd = self._fd, None
        if fd is not None:
            with contextlib.suppress(OSError):
                os.close(fd)

    def is_dead(self, id: str) -> bool:
        """Return whether a process of this host is proved to have ended."""
        if self._directory is None or id == self.id:
            return False
        try:
            import fcntl

            with undisturbed:
                # Follow no link. The directory may belong to the user whose process this checks.
                fd = os.open(self._directory / self._name(id), _LOOKED_AT)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    fcntl.flock(fd, fcntl.LOCK_UN)
                finally:
                    os.close(fd)
        except (ImportError, OSError, ValueError):
            return False
        return True

    def buried(self, id: str) -> None:
        """Remove the lock file of a dead process, once the store has forgotten it."""
        self._remove(id)

    def _remove(self, name: str, *, older: float = 0.0) -> None:
        """Remove a file, if this user owns the directory."""
        if self._directory is None:
            return
        with contextlib.suppress(OSError, ValueError), opened(self._directory, make=False) as there:
            self._name(name.removeprefix("."))
            if older == 0.0 or time.time() - there.stat(name).st_mtime > older:
                there.remove(name)

    def dead(self) -> list[str]:
        """Return the ids of this host's processes that ended without deregistering."""
        try:
            names = [] if self._directory is None else os.listdir(self._directory)
        except OSError:
            return []
        for name in names:
            if name.startswith("."):  # its process was killed before the file had its name
                self._remove(name, older=_STALE)
        return [name for name in names if name.isalnum() and self.is_dead(name)]

    def _name(self, id: str) -> str:
        if not id.isalnum():
            raise ValueError(f"no process has the id {id!r}")
        return id
