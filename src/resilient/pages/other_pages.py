"""The pages of a host's other processes, as this one reads and folds them."""

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

PATIENCE: Final = 10.0  # seconds that a scrape waits for whoever is at work
_BRIEFLY: Final = 1.0  # seconds that the thread does


class OtherPages:
    """What the other processes show.

    Args:
        path: returns the directory, None where there is none.
        own: returns the name of this process's page, "" where it has none.
        complain: is told what is wrong.
    """

    def __init__(
        self,
        path: Callable[[], Path | None],
        own: Callable[[], str],
        complain: Callable[[Exception], None],
    ) -> None:
        self.dead: bool = False  # there are dead pages, to be folded at the next look
        self.alive: int = 1  # processes, this one too
        self._path = path
        self._own = own
        self._complain = complain
        self._lock = threading.RLock()  # never taken by who has that of the records
        self._directory: Directory | None = None
        self._folder: Directory | None = None  # while the thread folds
        self._entries: list[Entry] = []  # their rows, as they were last read

    def begin(self, directory: Directory) -> None:
        """Read a directory, in which this process has a page."""
        self._directory = directory

    # -- reading ---------------------------------------------

    def rows(self) -> tuple[list[Entry], int]:
        """Return their rows, and how many pages can't be read; nobody may see less than before."""
        with held(self._lock, PATIENCE) as mine:
            return self._read() if mine else (self._entries, 1)

    def warm(self) -> None:
        """Read them once, so that the first scrape has less to do."""
        with held(self._lock, _BRIEFLY) as mine:
            if mine:
                self._read()

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
        alone = int(not own)  # it could not open a page
        return entries, alone + len(directory.faults)

    # -- folding ---------------------------------------------

    def _taken_in(self, directory: Directory, own: str) -> bool:
        """Have the dead pages folded: by the thread at its next look, or here where there is none.

        It is not woken: it would run beside this scrape.
        """
        if not own:
            return self._folded(directory)
        self.dead = True
        return False

    def fold(self) -> None:
        """Fold, in a directory of its own: nobody who reads waits for that."""
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
        """Fold dead pages where there are many: other processes may live for moments too.

        Args:
            thread: may be folding, and is waited for.
            patience: for how many seconds.
        """
        with contextlib.suppress(OSError, RuntimeError):  # the latter: it is this very thread
            if self._directory is None or not self._directory.crowded():
                return
            if thread is not None:
                thread.join(patience)
            self.fold()

    def forked(self) -> None:
        """Let go, in a child, of what the parent is at."""
        self._lock = threading.RLock()
        directories = self._directory, self._folder
        self._directory = self._folder = None
        self._entries, self.alive = [], 1
        for directory in directories:
            if directory is not None:
                directory.forked()
