"""The pages of a host's processes in one directory: read, added up, and folded when their owner
has died.

A dead page's counters are added to the page of the departed, exactly once, by whoever comes first.
The moment is the rename of the new page of the departed, which names the pages it has taken in:
one that is still there after a crash is neither counted nor folded again.
"""

from __future__ import annotations

import contextlib
import fcntl
import mmap
import os
import time
from pathlib import Path
from typing import Any, Final

from ..flags.local_copy import check_private, make_private
from ..rows import add, counters
from .form import (
    BEAT,
    DEPARTED,
    HEADER,
    LEFT,
    SEQUENCE,
    SUFFIX,
    USED,
    Entry,
    Place,
    about_of,
    departed,
    places,
)

_TRIES: Final = 20  # readings that may be spoilt by a fold or a move before one is taken as it is
_PAUSE: Final = 0.001
_AT_ONCE: Final = 64  # pages folded in one step: a header has room for so many names
MOST: Final = 10_000  # policies that the page of the departed names; the rest are added up
OTHER: Final = "_other"  # under this name

Whole = dict[tuple[str, str], list[Entry]]


class Process:
    """What the page of a process says, at one reading."""

    __slots__ = ("about", "alive", "beat", "entries", "left", "name")

    def __init__(
        self, name: str, about: dict[str, Any], *, alive: bool, beat: float, left: bool
    ) -> None:
        self.name: str = name
        self.about: dict[str, Any] = about  # pid, id, program, started, version
        self.alive: bool = alive
        self.beat: float = beat
        self.left: bool = left
        self.entries: list[Entry] = []


class _Open:
    """A page of another process, mapped for as long as it is there."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            self.identity = _identity(os.fstat(self.fd))
            self._map()
            self.about = about_of(self.content)
        except BaseException:
            os.close(self.fd)
            raise
        self._begin()

    def _map(self) -> None:
        size = os.fstat(self.fd).st_size
        if size < HEADER:
            raise ValueError("not a page: too short")
        self.content = memoryview(mmap.mmap(self.fd, size, access=mmap.ACCESS_READ))
        self.numbers = self.content[: size // 8 * 8].cast("d")
        self.whole = self.content[:HEADER].cast("q")

    def _begin(self) -> None:
        self._sequence = self.whole[SEQUENCE]
        self._known = HEADER
        self._layouts: list[Any] = []
        self._places: list[Place] = []

    def alive(self) -> bool:
        """Tell whether its owner holds the lock."""
        try:
            fcntl.flock(self.fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        fcntl.flock(self.fd, fcntl.LOCK_UN)
        return False

    def read(self) -> list[Entry]:
        """Return all rows as they are now; again, where the owner moved one meanwhile."""
        for _ in range(_TRIES):
            before = self.whole[SEQUENCE]
            if before != self._sequence:
                self._begin()
            used = self.whole[USED]
            if used > len(self.content):
                self._map()
            stop = min(used, len(self.content))
            self._places += places(self.content, self._known, stop, self._layouts)
            self._known = max(self._known, stop)
            entries = [place.read(self.numbers) for place in self._places]
            if before % 2 == 0 and self.whole[SEQUENCE] == before:
                return entries
            time.sleep(_PAUSE)
        return entries

    def close(self) -> None:
        os.close(self.fd)


class Directory:
    """The pages in a directory. One thread at a time uses it."""

    def __init__(self, path: Path, own: str = "") -> None:
        self.path: Path = path
        self.own: str = own  # the name of the page that this process writes
        self.faults: dict[str, str] = {}  # pages that can't be read, and why
        self._open: dict[str, _Open] = {}

    def prepare(self) -> None:
        """Make the directory, for this user alone.

        Raises:
            OSError: it can't be made.
            ValueError: it is somebody else's, or everybody may write there.
        """
        make_private(self.path)

    # -- reading ---------------------------------------------

    def read(self) -> tuple[list[Process], list[Entry]]:
        """Return what every other page says, and what the departed have left.

        Raises:
            OSError: the directory can't be read.
            ValueError: it is somebody else's, or everybody may write there.
        """
        check_private(self.path)
        for _ in range(_TRIES):
            before = self._departed_identity()
            taken, left = self._departed()
            found = [self._process(name, page) for name, page in self._pages(taken)]
            if self._departed_identity() == before:
                break
        return [each for each in found if each is not None], left

    def _process(self, name: str, page: _Open) -> Process | None:
        alive = page.alive()  # before it is read: what it counts after dying is nothing
        try:
            entries = page.read()
        except (OSError, ValueError) as error:
            self.faults[name] = str(error)
            return None
        floats = page.content[:HEADER].cast("d")
        left = bool(page.whole[LEFT])
        process = Process(name, page.about, alive=alive, beat=floats[BEAT], left=left)
        process.entries = entries if alive else [_kept(entry) for entry in entries]
        return process

    def _pages(self, taken: set[str]) -> list[tuple[str, _Open]]:
        names = {name for name in os.listdir(self.path) if name.endswith(SUFFIX)}
        names -= {DEPARTED, self.own} | taken
        for name in set(self._open) - names:
            self._open.pop(name).close()
        self.faults = {name: why for name, why in self.faults.items() if name in names}
        for name in sorted(names - set(self._open)):
            try:
                self._open[name] = _Open(self.path / name)
            except FileNotFoundError:  # folded a moment ago
                continue
            except (OSError, ValueError) as error:
                self.faults[name] = str(error)
        return [(name, self._open[name]) for name in sorted(names) if name in self._open]

    def _departed_identity(self) -> tuple[int, ...] | None:
        try:
            return _identity(os.stat(self.path / DEPARTED))
        except FileNotFoundError:
            return None

    def _departed(self) -> tuple[set[str], list[Entry]]:
        """Return which pages the departed's has taken in, and its rows."""
        try:
            page = _Open(self.path / DEPARTED)
        except FileNotFoundError:
            return set(), []
        except (OSError, ValueError) as error:
            self.faults[DEPARTED] = str(error)
            return set(), []
        try:
            return {str(name) for name in page.about.get("folded", ())}, page.read()
        finally:
            page.close()

    # -- folding ---------------------------------------------

    def fold(self) -> list[Process]:
        """Take the dead pages into that of the departed, unless another process is at it.

        Returns:
            The processes that died.

        Raises:
            OSError: the directory can't be written.
        """
        fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return self._fold()
        except BlockingIOError:
            return []
        finally:
            with contextlib.suppress(OSError):
                fcntl.flock(fd, fcntl.LOCK_UN)  # a forked child may have it too
            os.close(fd)

    def _fold(self) -> list[Process]:
        taken, left = self._departed()
        if DEPARTED in self.faults:
            return []  # nothing may be lost: somebody has to look at it
        for name in taken:
            (self.path / name).unlink(missing_ok=True)
        self._clear_aside()
        dead = [
            process
            for name, page in self._pages(taken)
            if not page.alive() and (process := self._process(name, page)) is not None
        ]
        for first in range(0, len(dead), _AT_ONCE):
            some = dead[first : first + _AT_ONCE]
            left = summed([*left, *(entry for each in some for entry in each.entries)])
            names = [each.name for each in some]
            self._write(left, names)
            for name in names:
                (self.path / name).unlink(missing_ok=True)
        return dead

    def _write(self, whole: list[Entry], names: list[str]) -> None:
        aside = self.path / f"{DEPARTED}.new"
        fd = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        try:
            with open(fd, "wb") as file:
                file.write(departed(bounded(whole), {"folded": names}))
            os.rename(aside, self.path / DEPARTED)
        except BaseException:
            aside.unlink(missing_ok=True)
            raise

    def _clear_aside(self) -> None:
        """Remove what processes left that died while they made a page."""
        for path in self.path.glob(f"*{SUFFIX}.new"):
            with contextlib.suppress(OSError):
                fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
                try:
                    old = time.time() - os.fstat(fd).st_mtime > 60
                    fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
                    if old:
                        path.unlink(missing_ok=True)
                finally:
                    os.close(fd)

    def close(self) -> None:
        """Let go of all pages."""
        for page in self._open.values():
            page.close()
        self._open.clear()


def _identity(about: os.stat_result) -> tuple[int, ...]:
    return about.st_dev, about.st_ino, about.st_mtime_ns, about.st_size


def _kept(entry: Entry) -> Entry:
    row = counters(entry.layout, entry.row)
    return Entry(entry.kind, entry.name, entry.about, entry.layout, row)


def summed(entries: list[Entry]) -> list[Entry]:
    """Return one entry for each name, in the order in which they come."""
    by_name: Whole = {}
    for entry in entries:
        by_name.setdefault((entry.kind, entry.name), []).append(entry)
    found: list[Entry] = []
    for (kind, name), same in by_name.items():
        layout, row = add([(each.layout, each.row) for each in same])
        found.append(Entry(kind, name, same[-1].about, layout, row))
    return found


def bounded(entries: list[Entry]) -> list[Entry]:
    """Return the entries, those beyond the most that are kept by name added up in one."""
    if len(entries) <= MOST:
        return entries
    kept = [entry for entry in entries if entry.name != OTHER]
    rest = [entry for entry in entries if entry.name == OTHER] + kept[MOST - 1 :]
    layout, row = add([(entry.layout, entry.row) for entry in rest])
    return [*kept[: MOST - 1], Entry("policy", OTHER, {}, layout, row)]
