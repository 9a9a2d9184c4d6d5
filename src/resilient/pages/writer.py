"""The page that this process writes: one memory-mapped file that others read.

A page belongs to one process, which opens it after the fork that made it: two processes that add to
one page would lose counts. The owner holds a lock on the file while it lives, so that others
recognise a dead one without its process id, which differs between containers.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
from array import array
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from .format import (
    BEAT,
    FRESH,
    HEADER,
    LARGEST,
    LAYOUT,
    LEFT,
    MAGIC,
    OLD,
    ROW,
    SEGMENT,
    SEQUENCE,
    SUFFIX,
    SWITCH,
    USED,
    Entry,
    filler,
    header,
    record,
    row_text,
)


class FullError(Exception):
    """The page has no room for more, or the disk has none."""


class Slot:
    """The record of one entry: its cells, and its position."""

    __slots__ = ("cells", "entry", "last", "raw", "segment", "size", "start")

    def __init__(self, entry: Entry, cells: memoryview[float], segment: int, start: int, size: int):
        self.entry: Entry = entry
        self.cells: memoryview[float] = cells
        self.segment: int = segment
        self.start: int = start  # in its segment
        self.size: int = size
        self.raw: bytes = b""  # the cells at the last check
        self.last: Entry | None = None


class Page:
    """A page being written. Used by one thread at a time, but for the cells of its slots."""

    def __init__(self, directory: Path, about: dict[str, Any], now: float) -> None:
        self.name: str = f"{about['pid']}-{about['id']}{SUFFIX}"
        self.path: Path = directory / self.name
        self._segments: list[memoryview] = []
        self._numbers: dict[str, int] = {}  # of schemas
        self._free: dict[int, list[tuple[int, int]]] = {}  # by size: segment and start
        self._end = HEADER  # in the last segment
        # Steps in progress; if nobody is at work, not 0 means that one was interrupted.
        self._under_way: int = 0
        aside = directory / f"{self.name}.new"
        self._fd = os.open(aside, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        # Opened twice: a mapping duplicates the descriptor of its file, which a forked child can't
        # close, so that it would keep the lock.
        self._lock = os.open(aside, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        self._identity = _identity(os.fstat(self._fd))
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX)
            self._grow()
            self._segments[0][:HEADER] = header(about, HEADER, now)
            os.rename(aside, self.path)  # visible from now on: locked, and with a header
        except BaseException:
            self.forked()
            aside.unlink(missing_ok=True)
            raise
        first = self._segments[0][:HEADER]
        self._whole: memoryview = first.cast("q")
        self._beat: memoryview[float] = first.cast("d")

    def _grow(self) -> None:
        size = len(self._segments) * SEGMENT
        if size + SEGMENT > LARGEST:
            raise FullError(f"{self.path} is full: it has {size:,} bytes")
        try:
            # Allocate disk space now: a write to a mapping without space kills the process.
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(self._fd, size, SEGMENT)
            else:
                os.pwrite(self._fd, bytes(SEGMENT), size)
            mapped = mmap.mmap(self._fd, SEGMENT, offset=size)
        except (OSError, ValueError) as error:
            raise FullError(f"{self.path}: no room for more: {error}") from error
        self._segments.append(memoryview(mapped))

    # -- records ---------------------------------------------

    def add(self, entry: Entry, *, instead_of: tuple[Slot, ...] = ()) -> Slot:
        """Add a record with an entry's row, and remove up to two others in the same instant.

        Raises:
            FullError: there is no room; nothing has changed.
        """
        number = self._number(entry.layout.text)
        head, size = record(ROW, row_text(entry, number), len(entry.row))
        content = head + array("d", entry.row).tobytes()
        free = self._free.get(size)
        if not free and not instead_of:
            return self._slot(entry, *self._append(content), len(head), size)
        segment, start = free.pop() if free else self._room(size)
        with self._moving():
            self._hide(segment, start, instead_of)
            self._whole[SWITCH] = 1
            self._put(segment, start, content)
            self._whole[SWITCH] = 2 if instead_of else 0  # the decisive moment
            for old in instead_of:
                filling = filler(old.size)
                self._segments[old.segment][old.start : old.start + len(filling)] = filling
                self._free.setdefault(old.size, []).append((old.segment, old.start))
            self._whole[SWITCH] = 0
        return self._slot(entry, segment, start, len(head), size)

    def remove(self, old: Slot) -> None:
        """Remove a record."""
        with self._moving():
            filling = filler(old.size)
            self._segments[old.segment][old.start : old.start + len(filling)] = filling
            self._free.setdefault(old.size, []).append((old.segment, old.start))

    def _hide(self, segment: int, start: int, olds: tuple[Slot, ...]) -> None:
        self._whole[FRESH] = segment * SEGMENT + start
        for place in (0, 1):
            old = olds[place] if place < len(olds) else None
            self._whole[OLD + place] = 0 if old is None else old.segment * SEGMENT + old.start

    def _number(self, text: str) -> int:
        if text not in self._numbers:
            self._append(record(LAYOUT, text, 0)[0])
            self._numbers[text] = len(self._numbers)
        return self._numbers[text]

    def _slot(self, entry: Entry, segment: int, start: int, head: int, size: int) -> Slot:
        cells = self._segments[segment][start + head : start + size].cast("d")
        return Slot(entry, cells, segment, start, size)

    def _append(self, content: bytes) -> tuple[int, int]:
        segment, start = self._room(len(content))
        self._put(segment, start, content)
        return segment, start

    def _room(self, size: int) -> tuple[int, int]:
        """Return where a new record may be written."""
        if size > SEGMENT - HEADER:
            raise FullError(f"{self.path}: a record of {size:,} bytes")
        if self._end + size > SEGMENT:
            self._grow()
            rest = SEGMENT - self._end
            if rest:
                self._segments[-2][self._end : self._end + len(filler(0))] = filler(rest)
            self._end = 0
        return len(self._segments) - 1, self._end

    def _put(self, segment: int, start: int, content: bytes) -> None:
        """Write a record; its head comes last, so that no incomplete record has a head."""
        size = len(content)
        body = len(filler(0))
        self._segments[segment][start + body : start + size] = content[body:]
        self._segments[segment][start : start + body] = content[:body]
        if (segment, start) == (len(self._segments) - 1, self._end):
            self._end += size
            self._whole[USED] = segment * SEGMENT + self._end

    @contextmanager
    def step(self) -> Generator[None]:
        """Run a step that must not be left half done; if interrupted, the page is given up."""
        self._under_way += 1
        try:
            yield
        except FullError:  # before anything was changed
            self._under_way -= 1
            raise
        self._under_way -= 1

    @contextmanager
    def _moving(self) -> Generator[None]:
        with self.step():
            self._whole[SEQUENCE] += 1
            yield
            self._whole[SEQUENCE] += 1

    # -- life ---------------------------------------------

    def beat(self, now: float) -> None:
        """Record that the process is alive."""
        self._beat[BEAT] = now

    def there(self) -> bool:
        """Return True if the file is there, complete and locked, and no step was interrupted."""
        if self._under_way or not (self._holds(self._fd) and self._holds(self._lock)):
            return False
        return os.fstat(self._fd).st_nlink > 0 and not self.is_spoilt()

    def _holds(self, fd: int) -> bool:
        """Return True if a descriptor is still of this file: the application may have closed it."""
        with contextlib.suppress(OSError):
            return _identity(os.fstat(fd)) == self._identity
        return False

    def is_spoilt(self) -> bool:
        """Return True if somebody truncated the file, so that access to it kills the process."""
        try:
            about = os.fstat(self._fd) if self._holds(self._fd) else os.lstat(self.path)
        except OSError:  # gone, with a size that nobody can tell
            return True
        whole = len(self._segments) * SEGMENT
        if _identity(about) != self._identity or about.st_size < whole:
            return True
        return bytes(self._segments[0][: len(MAGIC)]) != MAGIC  # truncated, and then extended again

    def mend(self) -> None:
        """Extend a truncated file, so that writing to it kills nobody; its content is lost.

        Raises:
            OSError: the disk is full.
        """
        if self._holds(self._fd):
            os.ftruncate(self._fd, len(self._segments) * SEGMENT)

    def give_up(self) -> None:
        """Remove the file from its directory: another page has, or will have, its counts."""
        self.path.unlink(missing_ok=True)
        self.forked()

    def leave(self) -> None:
        """Mark the page as closed. The lock ends with the process; then somebody folds the page."""
        self._whole[LEFT] = 1

    def forked(self) -> None:
        """Detach from the parent's page in a child; the parent keeps its lock."""
        for fd in (self._lock, self._fd):
            if self._holds(fd):  # else it may be a file of the application
                os.close(fd)


def _identity(about: os.stat_result) -> tuple[int, int]:
    return about.st_dev, about.st_ino
