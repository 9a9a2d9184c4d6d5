"""The pages of a host's other processes: read them, and fold the dead ones."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from ..locks import held
from .format import Entry

if TYPE_CHECKING:
    from pathlib import Path

    from .directory import Directory

PATIENCE: Final = 10.0  # seconds that a scrape waits for the lock
_MOMENT: Final = 5.0  # seconds


class OtherPages:
    """The entries of the other processes.

    Args:
        path: returns the directory, or None.
        own: returns the name of this process's page, "" if it has none.
        complain: called with each error.
    """

    def __init__(
        self,
        path: Callable[[], Path | None],
        own: Callable[[], str],
        complain: Callable[[Exception], None],
    ) -> None:
        self.dead: bool = False  # there are dead pages; the thread should fold them soon
        self.alive: int = 1  # number of processes, with this one
        self._path = path
        self._own = own
        self._complain = complain
        # Never acquired by a thread that holds the lock of the records.
        self._lock = threading.RLock()
        self._directory: Directory | None = None
        self._folder: Directory | None = None  # while the thread folds
        self._entries: list[Entry] = []  # the rows of the last reading
        self._changed = 0  # when the directory last did, by the file system's clock
        self._since = 0.0  # when this process saw it

    def begin(self, directory: Directory) -> None:
        """Read this directory, in which this process has a page."""
        self._directory = directory

    # -- reading ---------------------------------------------

    def rows(self) -> tuple[list[Entry], int]:
        """Return their rows, never less than before, and the number of unreadable pages."""
        with held(self._lock, PATIENCE) as mine:
            return self._read() if mine else (self._entries, 1)

    def come_or_gone(self, now: float) -> bool:
        """Return True if pages came or went a moment ago; a new one gets its rows by and by."""
        if self._directory is None:
            return False
        try:
            at = os.stat(self._directory.path).st_mtime_ns
        except OSError:
            return False
        if at != self._changed:
            self._changed, self._since = at, now
        return now - self._since < _MOMENT

    def _read(self) -> tuple[list[Entry], int]:
        path = self._path()
        if path is None or (self._directory is None and not os.path.isdir(path)):
            return [], 0
        from .directory import Directory, living

        if self._directory is None or self._directory.path != path:
            self._directory = Directory(path)
        directory, own = self._directory, self._own()
        directory.own = own
        try:
            pages, entries = directory.read()
            if not all(page.alive for page in pages) and self._taken_in(directory, own):
                pages, entries = directory.read()
        except (OSError, ValueError) as error:
            self._complain(error)
            return self._entries, 1 + len(directory.faults)
        for page in pages:
            entries += living(page)
        self._entries, self.alive = entries, 1 + sum(page.alive for page in pages)
        alone = int(not own)  # this process could not open a page
        return entries, alone + len(directory.faults)

    # -- folding ---------------------------------------------

    def _taken_in(self, directory: Directory, own: str) -> bool:
        """Have dead pages folded by the thread; without a thread fold here, and return True.

        This does not wake the thread, which would compete with this scrape.
        """
        if not own:
            return self._folded(directory)
        self.dead = True
        return False

    def fold(self) -> None:
        """Fold, with a Directory of its own, so that no reader waits."""
        own, directory = self._own(), self._directory
        if not own or directory is None:
            return
        from .directory import Directory

        self._folder = Directory(directory.path, own)
        self._folded(self._folder)
        self._folder = None

    def _folded(self, directory: Directory) -> bool:
        try:
            directory.fold()
        except (OSError, ValueError) as error:
            self._complain(error)
            return False
        return True

    def leave_room(self, thread: threading.Thread | None, patience: float) -> None:
        """Fold dead pages if there are many: other processes may be short-lived too.

        Args:
            thread: wait for this thread, which may be folding.
            patience: seconds to wait at most.
        """
        with contextlib.suppress(OSError, RuntimeError):  # RuntimeError: it is this very thread
            if self._directory is None or not self._directory.crowded():
                return
            if thread is not None:
                thread.join(patience)
            self.fold()

    def forked(self) -> None:
        """Drop, in a child, what the parent was doing."""
        self._lock = threading.RLock()
        directories = self._directory, self._folder
        self._directory = self._folder = None
        self._entries, self.alive = [], 1
        for directory in directories:
            if directory is not None:
                directory.forked()
