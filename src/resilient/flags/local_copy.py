"""The last known state on this host's disk, which outlives the process and the store's outages.

Two lines: a header with a checksum of the second, and the flips. A writer makes a new file, syncs
it and renames it, so readers see the old one or the new one. Truncated or altered ones are refused.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Any, Final

from ..validation import clean
from .flip import Flip, flip_of, newer
from .fork_exclusion import undisturbed
from .private_files import Inside, check_owned, opened

LARGEST: Final = 8 * 2**20
_MAGIC: Final = "resilient-flips 1"
_NAME: Final = "flips"
_UNWAITING: Final = getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_CLOEXEC", 0)
_WRONG: Final = OSError, ValueError, TypeError, LookupError, RecursionError, OverflowError


class CopyError(Exception):
    """The local copy can't be read or written; the message says why."""


class Copy:
    """The contents of a copy: the flips, and which incarnation of which store they come from."""

    def __init__(self, incarnation: str, flips: list[Flip], at: float) -> None:
        self.incarnation: str = incarnation
        self.flips: list[Flip] = flips
        self.at: float = at  # when it was written, in seconds since 1970
        self.unread: list[str] = []  # levers of a later version, or invalid records, and why


class LocalCopy:
    """The copy in a directory; the processes of this host that follow one store share it."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path = directory
        self.path: Path = directory / _NAME

    def load(self) -> Copy | None:
        """Return the copy, None if there is none.

        Raises:
            CopyError: it can't be read, or is incomplete.
        """
        try:
            with opened(self.directory, make=False) as inside:
                return self._load(inside)
        except FileNotFoundError:
            return None
        except _WRONG as error:
            raise CopyError(f"{self.path}: {error}") from None

    def _load(self, inside: Inside) -> Copy:
        fd = inside.open(_NAME, os.O_RDONLY)
        return _parsed(read_all(fd, LARGEST, private=self.path))

    def save(self, incarnation: str, flips: list[Flip], at: float) -> bool:
        """Merge flips into the copy, newer ones win; return False while another process writes it.

        Raises:
            CopyError: it can't be written; the old copy is unchanged.
        """
        try:
            with (
                undisturbed,
                opened(self.directory, make=True) as inside,
                _locked(inside) as mine,
            ):
                if not mine:
                    return False
                self._write(inside, incarnation, self._merged(inside, flips), at)
        except (OSError, ValueError) as error:
            raise CopyError(f"{self.path}: {error}") from None
        return True

    def _merged(self, inside: Inside, flips: list[Flip]) -> list[Flip]:
        known = {flip.lever: flip for flip in flips}
        with contextlib.suppress(*_WRONG):  # a corrupt copy is overwritten
            for flip in newer(known, self._load(inside).flips):
                known[flip.lever] = flip
        return list(known.values())

    def _write(self, inside: Inside, incarnation: str, flips: list[Flip], at: float) -> None:
        for name in inside.names():  # no other process uses them: this one holds the lock
            if name.startswith(f"{_NAME}.") and name.endswith(".new"):
                inside.remove(name)
        data: dict[str, Any] = {
            "incarnation": incarnation, "at": at, "flips": [flip.as_data() for flip in flips]
        }  # fmt: skip
        body = json.dumps(data, separators=(",", ":")).encode() + b"\n"
        fresh = f"{_NAME}.{os.getpid()}.new"
        try:
            with open(inside.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL), "wb") as file:
                file.write(_header(body) + body)
                file.flush()
                os.fsync(file.fileno())
            inside.rename(fresh, _NAME)
        finally:
            inside.remove(fresh)
        inside.sync()


def _header(body: bytes) -> bytes:
    return f"{_MAGIC} {len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()


def _parsed(content: bytes) -> Copy:
    header, _, body = content.partition(b"\n")
    if header + b"\n" != _header(body):
        raise ValueError("not a whole copy: its checksum is wrong")
    data = json.loads(body)
    flips, unread = list[Flip](), list[str]()
    for each in data["flips"]:
        try:
            flips.append(flip_of(each))
        except ValueError as error:  # such as a lever of a later version of this library
            unread.append(clean(error)[:200])
    copy = Copy(str(data["incarnation"]), flips, float(data["at"]))
    copy.unread = unread
    return copy


def read_small(path: Path, largest: int) -> bytes:
    """Return the content of a regular file; never wait for it, as for a pipe.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a regular file, or too large.
    """
    return read_all(os.open(path, os.O_RDONLY | _UNWAITING), largest)


def read_all(fd: int, largest: int, *, private: Path | None = None) -> bytes:
    """Return the content of an open file, and close it.

    Raises:
        OSError: it can't be read.
        ValueError: it is not a regular file, or too large; or, if private, another user owns it.
    """
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if private is not None:
            check_owned(private, about)
    except BaseException:
        os.close(fd)
        raise
    with open(fd, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"larger than {largest:,} bytes")
    return content


@contextlib.contextmanager
def _locked(inside: Inside) -> Generator[bool]:
    """Hold a lock while the body runs; yield whether it was acquired."""
    try:
        import fcntl
    except ImportError:  # Windows: os.replace alone must suffice
        yield True
        return
    fd = inside.open("lock", os.O_RDWR | os.O_CREAT)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing does not unlock it while a child has a copy
    finally:
        os.close(fd)
