"""A store's one connection to its SQLite file, and its behaviour at a fork or on a read-only disk.

SQLite notes in the memory of the process which locks on a file it has. A forked child inherits that
memory and not the locks, so it must neither use nor close what its parent had open, nor open the
same file again: that can corrupt the file. See `resilient.flags.fork_exclusion`.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, Final
from urllib.parse import quote

from ...errors import StoreError
from ..fork_exclusion import undisturbed

BUSY: Final = 0.5  # seconds that one statement waits for another process's transaction

Identity = tuple[int, int]  # device and inode

# Never collected, even at interpreter exit, where a child would close its parent's connection.
_held: Final[dict[int, sqlite3.Connection]] = {}
_untouchable: Final[set[Identity]] = set()  # files in use when this process was forked
with contextlib.suppress(ImportError):  # some builds of Python lack it
    from ctypes import py_object, pythonapi

    pythonapi.Py_IncRef(py_object(_held))


class SQLiteFile:
    """Opens a file on first use, and again after another file has replaced it."""

    def __init__(self, path: str, set_up: Callable[..., bool]) -> None:
        self.path: Final = path
        self.db: sqlite3.Connection | None = None
        self.fresh: bool = False  # opened since the last check
        self._set_up = set_up
        self._identity: Identity | None = None
        self._pid = os.getpid()
        self._user: object = None

    def belongs_to(self, user: object) -> None:
        """Close the file some time after its user is collected."""
        self._user = undisturbed.belongs(self, user)

    def close(self) -> None:
        """Close the file. Caller holds the lock."""
        db = self.db
        if db is not None and self._pid != os.getpid():
            self.inherited()
        elif db is not None:
            db.close()
            self.db = None
            _held.pop(id(db), None)
        undisturbed.closed(self)

    def inherited(self) -> None:
        """In a child: never touch the open connection or the file again."""
        with contextlib.suppress(OSError):
            about = os.stat(self.path)
            _untouchable.add((about.st_dev, about.st_ino))
        if self._identity is not None:
            _untouchable.add(self._identity)
        self.db = None
        undisturbed.closed(self)

    @contextmanager
    def opened(self, *, write: bool) -> Generator[sqlite3.Connection | None]:
        """Yield a connection to the current file, None if there is none to read."""
        try:
            undisturbed.__enter__()
        except TimeoutError as error:
            raise StoreError(f"{self.path}: {error}") from error
        try:
            if write and (why := self.why_read_only()):
                raise ValueError(why)  # before SQLite creates files that lock the owner out
            if not write and self._is_only_read():
                with _unwritten(self.path) as db:
                    yield db if self._set_up(db, write=False) else None
            else:
                yield self._connected(write=write)
        except sqlite3.Error as error:
            self.close()
            raise StoreError(f"{self.path}: {error}") from error
        except (OSError, ValueError, TypeError, OverflowError) as error:
            raise StoreError(f"{self.path}: {error}") from error
        finally:
            undisturbed.__exit__()

    def _connected(self, *, write: bool) -> sqlite3.Connection | None:
        try:
            found = os.stat(self.path)
        except FileNotFoundError:
            self.close()
            if not write:
                return None
            found = None
        identity = None if found is None else (found.st_dev, found.st_ino)
        if identity in _untouchable or (self.db is not None and self._pid != os.getpid()):
            self.close()
            raise ValueError(
                "it was in use at the moment this process was forked, and SQLite can't use it "
                "safely here: restart the process; its flags stay as they are"
            )
        if identity != self._identity:
            self.close()  # another file has replaced the open one
        if self.db is None:
            self._open()
        return self.db

    def _open(self) -> None:
        self._pid, self._identity = os.getpid(), None
        undisturbed.opened(self)  # first: a fork that can't wait may happen during the opening
        try:
            db = sqlite3.connect(
                self.path, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            _held[id(db)] = self.db = db
            db.text_factory = _text
            self._prepare(db)
            about = os.stat(self.path)
        except BaseException:
            self.close()
            raise
        self._identity, self.fresh = (about.st_dev, about.st_ino), True

    def _prepare(self, db: sqlite3.Connection) -> None:
        until = time.monotonic() + BUSY
        while True:
            try:
                self._set_up(db, write=True)
            except sqlite3.OperationalError:
                # The change to WAL does not wait for another process that is making it.
                if time.monotonic() >= until:
                    raise
                time.sleep(0.02)
            else:
                return

    def _is_only_read(self) -> bool:
        """Return whether this user can only read the file, and no process has it open.

        SQLite could then not create its files beside it, or they would belong to this user: users
        who may write the file could not write them.
        """
        if self.db is not None or not self.why_read_only() or os.path.exists(f"{self.path}-shm"):
            return False
        if os.path.exists(f"{self.path}-wal"):
            raise ValueError("its log is to be taken in first, by a user that may write it")
        return True

    def why_read_only(self) -> str:
        """Return why this user can't write the file, "" if it can be written or does not exist."""
        if not os.path.exists(self.path):
            return ""
        needed = [self.path]
        if self.db is None and not os.path.exists(f"{self.path}-wal"):
            needed.append(os.path.dirname(self.path))  # SQLite would create its log there
        for each in needed:
            if not os.access(each, os.W_OK):
                return f"{each} can be read by this user, and not written"
        return ""


@contextmanager
def _unwritten(path: str) -> Generator[sqlite3.Connection]:
    """Yield a connection to a file that no process writes; raise if one wrote it meanwhile."""
    before = _signs(path)
    if before[:2] in _untouchable:
        raise ValueError("it was in use at the moment this process was forked")
    db = sqlite3.connect(
        f"file:{quote(path)}?immutable=1", uri=True, timeout=BUSY, isolation_level=None,
        check_same_thread=False,
    )  # fmt: skip
    try:
        db.text_factory = _text
        yield db
    finally:
        db.close()
    if _signs(path) != before:
        raise ValueError("it was written while it was read; it is read again")


def _signs(path: str) -> tuple[Any, ...]:
    about = os.stat(path)
    if os.path.exists(f"{path}-journal"):
        raise ValueError("it is being written")
    beside = os.path.exists(f"{path}-wal")
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns, beside


def _text(raw: bytes) -> str:
    """Decode a text of the file, even if it is not UTF-8: one bad row must not block the others."""
    return raw.decode(errors="replace")
