"""Read the page of a process; no file stays open between two readings.

The file is read and never mapped: if somebody truncates a mapped file, access to it kills the
process. A number that is written meanwhile is read as it was or as it is, since all numbers have 8
bytes and are aligned; a reading during which a record was moved is discarded.
"""

from __future__ import annotations

import fcntl
import os
import stat
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, cast

from .format import (
    BEAT,
    HEADER,
    LARGEST,
    LEFT,
    SEQUENCE,
    SUFFIX,
    USED,
    Entry,
    Place,
    about_of,
    hidden,
    places,
)
from .running import process_identity

# Never block, as opening a pipe would; follow no link, which would be a file read twice.
FLAGS: Final = os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC

_TRIES: Final = 20  # readings that a move may disturb before one is accepted
_PAUSE: Final = 0.001
_OVERDUE: Final = 10.0  # seconds without a beat after which a process writes its page no more


class Reader:
    """A page as it was last read; `read` updates it.

    Attributes:
        about: the owner's description of itself: ``pid``, ``id``, ``program``, ``started``.
        alive: whether the owner holds its lock.
        left: whether the owner has closed it.
        beat: when the owner was last alive, on the monotonic clock.
        entries: its rows.
    """

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.about: dict[str, Any] = {}
        self.alive: bool = False
        self.left: bool = False
        self.beat: float = 0.0
        self.entries: list[Entry] = []
        self._begin(-1)

    def _begin(self, sequence: int) -> None:
        self._sequence = sequence
        self._known = HEADER
        self._layouts: list[Any] = []
        self._places: list[Place] = []

    def read(self) -> None:
        """Read the page as it is now; read again if the owner moved a record meanwhile.

        Raises:
            OSError: it can't be read.
            ValueError: it is no page, or has another version.
        """
        with _opened(self.path) as fd:
            self.alive = _is_locked(fd)  # before reading: a process counts nothing after its death
            for _ in range(_TRIES):
                content = _content(fd)
                if not self.about:
                    self.about = about_of(content)
                if self._read(content, lambda: _header(fd)):
                    return
                self._begin(-1)  # read it all: the owner is moving records, or died while it did
                time.sleep(_PAUSE)

    def is_owned(self) -> bool:
        """Return True if the owner lives: it holds its lock, or lost it a moment ago.

        An application may close all files that it does not know. The owner sees that at its next
        beat, and opens another page; if this one were folded before, its counts would count twice.

        Raises:
            OSError: it can't be opened.
            ValueError: it is no page.
        """
        with _opened(self.path) as fd:
            return _is_locked(fd) or _is_running(_header(fd))

    def _read(self, content: memoryview, after: Callable[[], memoryview]) -> bool:
        """Read the entries; return True if no record was moved meanwhile."""
        whole = content[:HEADER].cast("q")
        before = whole[SEQUENCE]
        anew = before != self._sequence
        if anew:
            self._begin(before)
        stop = min(whole[USED], len(content))
        passed = hidden(whole)
        self._places += places(content, self._known, stop, self._layouts, passed)
        self._known = max(self._known, stop)
        raws = [bytes(content[place.start : place.stop]) for place in self._places]
        still = bool(before % 2 == 0 and after().cast("q")[SEQUENCE] == before)
        if still or anew:  # else another thread may be adding up these entries
            for place, raw in zip(self._places, raws, strict=True):
                place.take(raw)
            self.entries = list[Entry](self._places)
        self.beat = content[:HEADER].cast("d")[BEAT]
        self.left = bool(whole[LEFT])
        return still


class Departed:
    """The page of the departed: never changed, only replaced, and kept until then."""

    def __init__(self, path: Path) -> None:
        self.path: Path = path
        self.identity: tuple[int, ...] | None = None
        self.taken: frozenset[str] = frozenset()  # the pages that it folded last
        self.entries: list[Entry] = []

    def now(self) -> tuple[int, ...] | None:
        """Return an identity that differs for each such page."""
        try:
            about = os.lstat(self.path)
        except FileNotFoundError:
            return None
        return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size

    def read(self) -> None:
        """Read it, if it was replaced.

        Raises:
            OSError: it can't be read.
            ValueError: it is incomplete.
        """
        identity = self.now()
        if identity == self.identity:
            return
        if identity is None:
            self.identity, self.taken, self.entries = None, frozenset(), []
            return
        reader = Reader(self.path)
        with _opened(self.path) as fd:
            content = _content(fd)
            about = about_of(content)
            if content[:HEADER].cast("q")[USED] != os.fstat(fd).st_size:
                raise ValueError("cut short")
            reader._read(content, lambda: content[:HEADER])
        if len(reader.entries) != about.get("rows"):
            raise ValueError("a part of it can't be read")
        self.taken = frozenset(_names(about.get("folded")))
        # A new list: a scrape that has the old one also has the folded pages.
        self.entries = reader.entries
        self.identity = identity


@contextmanager
def _opened(path: Path) -> Generator[int]:
    fd = os.open(path, FLAGS)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise ValueError("not a regular file")
        yield fd
    finally:
        os.close(fd)


def _names(said: object) -> list[str]:
    """Return the valid names of pages. They will be removed, so no name with a path is accepted."""
    listed = cast("list[object]", said) if isinstance(said, list) else []
    return [name for name in map(str, listed) if name.endswith(SUFFIX) and "/" not in name]


def _content(fd: int) -> memoryview:
    """Return the used part of a page.

    Raises:
        OSError: it can't be read.
        ValueError: it is no page, or was truncated.
    """
    tries = _TRIES
    while True:
        said = used = _header(fd).cast("q")[USED]
        size = os.fstat(fd).st_size
        if not HEADER <= used <= LARGEST or used % 8:
            used = size // 8 * 8  # wrong, and read as far as possible
        if used > size:
            raise ValueError(f"cut short: {size:,} bytes are left of {used:,}")
        content = memoryview(_read_all(fd, used))
        if len(content) < used:
            raise ValueError("cut short, a moment ago")
        tries -= 1
        if content[:HEADER].cast("q")[USED] == said or not tries:
            return content  # else a record was moved beyond what was read


def _header(fd: int) -> memoryview:
    content = os.pread(fd, HEADER, 0)
    if len(content) < HEADER:
        raise ValueError("not a page: too short")
    return memoryview(content)


def _read_all(fd: int, size: int) -> bytes:
    content = os.pread(fd, size, 0)
    while len(content) < size:
        more = os.pread(fd, size - len(content), len(content))
        if not more:
            break
        content += more
    return content


def _is_running(head: memoryview) -> bool:
    about = about_of(head)
    pid, born = about.get("pid"), about.get("born")
    if not born or not isinstance(pid, int) or born != process_identity(pid):
        return False
    since = time.monotonic() - head.cast("d")[BEAT]
    return since < _OVERDUE  # else it executes another program now, or is stopped for long


def _is_locked(fd: int) -> bool:
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    fcntl.flock(fd, fcntl.LOCK_UN)
    return False
