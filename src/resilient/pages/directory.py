"""The pages of a host's processes in one directory: read, add up, and fold the dead ones.

The first process that comes folds a dead page: it adds the counters to the page of the departed,
exactly once. The rename of the new page of the departed is the decisive moment. That page names the
pages that were folded: one that still exists after a crash is neither counted nor folded again.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Final

from ..flags.private_files import check_private, make_private
from .format import DEPARTED, SUFFIX, Entry, departed
from .merge import bounded, summed
from .reader import FLAGS, Departed, Reader

_TRIES: Final = 20  # reads that a fold may disturb before one is accepted
_AT_ONCE: Final = 64  # pages folded in one step: a header has room for so many names
_CROWD: Final = 16  # pages
_LEFT_AFTER: Final = 60.0  # seconds after which a temporary file counts as left behind
_PASSING: Final = {errno.EMFILE, errno.ENFILE, errno.ENOMEM}  # errors that may pass soon
_BROKEN: Final = "departed.broken"
_WRITTEN: Final = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC

WRONG: Final = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    OverflowError,
    RecursionError,
)  # what a broken page may lead to


class Directory:
    """The pages in a directory. Used by one thread at a time."""

    def __init__(self, path: Path, own: str = "") -> None:
        self.path: Path = path
        self.own: str = own  # the name of the page that this process writes
        self.faults: dict[str, str] = {}  # pages that can't be read, and why
        self._readers: dict[str, Reader] = {}
        self._departed = Departed(path / DEPARTED)
        self._lock: int | None = None

    def prepare(self) -> None:
        """Create the directory, for this user alone.

        Raises:
            OSError: it can't be created.
            ValueError: another user owns it, or everybody may write there.
        """
        make_private(self.path)

    def crowded(self) -> bool:
        """Return True if short-lived processes have left many pages behind."""
        return sum(1 for name in os.listdir(self.path) if name.endswith(SUFFIX)) > _CROWD

    # -- reading ---------------------------------------------

    def read(self) -> tuple[list[Reader], list[Entry]]:
        """Return the pages of all other processes, and the entries of the departed.

        Raises:
            OSError: the directory can't be read.
            ValueError: another user owns it, or everybody may write there.
        """
        check_private(self.path)
        found: list[Reader] = []
        for _ in range(_TRIES):
            self.faults = {}
            self._read_departed()
            before = self._departed.identity
            found = self._read_pages()
            if self._departed.now() == before:
                break
        self._count_broken()
        return found, list(self._departed.entries)

    def _read_departed(self) -> None:
        try:
            self._departed.read()
        except WRONG as error:
            # Folded pages may be gone already: without their counts, counters would fall.
            if isinstance(error, OSError) and error.errno in _PASSING:
                raise
            self.faults[DEPARTED] = str(error)

    def _read_pages(self, *, alive: bool = True) -> list[Reader]:
        """Read the pages; only those of dead processes if alive is False."""
        names = {name for name in os.listdir(self.path) if name.endswith(SUFFIX)}
        names -= {DEPARTED, self.own} | self._departed.taken
        readers = {
            name: self._readers.get(name) or Reader(self.path / name) for name in sorted(names)
        }
        for name in list(readers):
            try:
                if alive or not readers[name].is_owned():
                    readers[name].read()
                else:
                    del readers[name]
            except FileNotFoundError:  # folded just now
                del readers[name]
            except WRONG as error:  # the entries of the last reading stay: counts must not fall
                self.faults[name] = str(error)
        self._readers = readers
        return list(readers.values())

    def _count_broken(self) -> None:
        for name in os.listdir(self.path):
            if name.startswith(_BROKEN):
                self.faults[name] = "set aside, because it can't be read"

    # -- folding ---------------------------------------------

    def fold(self) -> list[Reader]:
        """Fold the dead pages into that of the departed, unless another process is doing so.

        Returns:
            The pages that were folded.

        Raises:
            OSError: the directory can't be written.
        """
        check_private(self.path)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        self._lock = fd = os.open(self.path, flags)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._fold()
        except BlockingIOError:
            return []
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)
            self._lock = None
            os.close(fd)

    def _fold(self) -> list[Reader]:
        self._clear_aside()
        self.faults = {}
        try:
            self._departed.read()
        except OSError:  # may pass
            return []
        except WRONG:  # kept for inspection
            os.rename(self.path / DEPARTED, self.path / f"{_BROKEN}-{time.time_ns()}")
            self._departed.read()
        for name in self._departed.taken:
            (self.path / name).unlink(missing_ok=True)
        pages = self._read_pages(alive=False)
        dead = [page for page in pages if page.path.name not in self.faults]
        left = self._departed.entries
        for first in range(0, len(dead), _AT_ONCE):
            some = dead[first : first + _AT_ONCE]
            kept = (entry for page in some for entry in page.entries if entry.kind != "order")
            left = summed([*left, *(entry.kept() for entry in kept)])
            names = [page.path.name for page in some]
            self._write(bounded(left), names)
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        return dead

    def _write(self, whole: list[Entry], names: list[str]) -> None:
        aside = self.path / f"{DEPARTED}.new"
        fd = os.open(aside, _WRITTEN, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(departed(whole, {"folded": names, "rows": len(whole)}))
            os.rename(aside, self.path / DEPARTED)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def _clear_aside(self) -> None:
        """Remove the files of processes that died while they created a page."""
        for path in self.path.glob(f"*{SUFFIX}.new"):
            with contextlib.suppress(OSError):
                if time.time() - path.lstat().st_mtime < _LEFT_AFTER:
                    continue
                fd = os.open(path, FLAGS)
                try:
                    fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    path.unlink(missing_ok=True)
                finally:
                    os.close(fd)

    def forked(self) -> None:
        """Release, in a child, the lock of a fold that the parent is doing."""
        fd, self._lock = self._lock, None
        if fd is not None:
            os.close(fd)


def living(page: Reader) -> list[Entry]:
    """Return the entries of a page; for a dead process only what outlives it."""
    return page.entries if page.alive else [e.kept() for e in page.entries if e.kind != "order"]
