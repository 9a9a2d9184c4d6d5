"""The last known state on this host's disk: it outlives the process, and the store's outages.

Two lines: a header with a checksum of the second, and the flips. Written aside and renamed, after
fsync, so that a reader sees the old one or the new one; what is cut short or altered is refused.
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

from .flips import Flip, flip_of, newer
from .forks import undisturbed

LARGEST: Final = 8 * 2**20
_MAGIC: Final = "resilient-flips 1"
_NAME: Final = "flips"


class CopyError(Exception):
    """The local copy can't be read or written; the message says why."""


class Copy:
    """What a copy holds: the flips, and which life of which store they are from."""

    def __init__(self, incarnation: str, flips: list[Flip], at: float) -> None:
        self.incarnation: str = incarnation
        self.flips: list[Flip] = flips
        self.at: float = at  # when it was written, in seconds since 1970


class LocalCopy:
    """The copy in a directory, shared by the processes of this host that follow one store."""

    def __init__(self, directory: Path) -> None:
        self.directory: Path = directory
        self.path: Path = directory / _NAME

    def load(self) -> Copy | None:
        """Return what is there, None where there is nothing.

        Raises:
            CopyError: it can't be read, or is no whole copy.
        """
        try:
            check_private(self.directory)
            return _parsed(read_small(self.path, LARGEST, private=True))
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise CopyError(f"{self.path}: {error}") from None

    def save(self, incarnation: str, flips: list[Flip], at: float) -> bool:
        """Write flips over what is there, keeping what is newer there; False where another writes.

        Raises:
            CopyError: it can't be written; what was there is there still.
        """
        try:
            make_private(self.directory)
            with undisturbed, _locked(self.directory / "lock") as mine:
                if not mine:
                    return False
                self._write(incarnation, self._merged(flips), at)
        except (OSError, ValueError) as error:
            raise CopyError(f"{self.path}: {error}") from None
        return True

    def _merged(self, flips: list[Flip]) -> list[Flip]:
        known = {flip.lever: flip for flip in flips}
        with contextlib.suppress(CopyError):
            there = self.load()
            for flip in newer(known, there.flips if there is not None else ()):
                known[flip.lever] = flip
        return list(known.values())

    def _write(self, incarnation: str, flips: list[Flip], at: float) -> None:
        for left in self.directory.glob(f"{_NAME}.*.new"):  # under the lock: nobody's any more
            left.unlink(missing_ok=True)
        data: dict[str, Any] = {
            "incarnation": incarnation, "at": at, "flips": [flip.as_data() for flip in flips]
        }  # fmt: skip
        body = json.dumps(data, separators=(",", ":")).encode() + b"\n"
        fresh = self.directory / f"{_NAME}.{os.getpid()}.new"
        try:
            with open(fresh, "xb", opener=_private) as file:
                file.write(_header(body) + body)
                file.flush()
                os.fsync(file.fileno())
            os.replace(fresh, self.path)
        finally:
            fresh.unlink(missing_ok=True)
        _sync(self.directory)


def _header(body: bytes) -> bytes:
    return f"{_MAGIC} {len(body)} {hashlib.sha256(body).hexdigest()}\n".encode()


def _parsed(content: bytes) -> Copy:
    header, _, body = content.partition(b"\n")
    if header + b"\n" != _header(body):
        raise ValueError("not a whole copy: its checksum is wrong")
    data = json.loads(body)
    flips: list[Flip] = []
    for each in data["flips"]:
        try:
            flips.append(flip_of(each))
        except ValueError:  # of a lever that a later version of this library has
            continue
    return Copy(str(data["incarnation"]), flips, float(data["at"]))


def read_small(path: Path, largest: int, *, private: bool = False) -> bytes:
    """Return the content of a regular file, without ever waiting for it, as for a pipe.

    Raises:
        OSError: it can't be read.
        ValueError: it is no regular file, or too large; or, where private, another user's.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        about = os.fstat(fd)
        if not stat.S_ISREG(about.st_mode):
            raise ValueError("not a regular file")
        if private:
            _check_owned(path, about)
    except BaseException:
        os.close(fd)
        raise
    with open(fd, "rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise ValueError(f"larger than {largest:,} bytes")
    return content


def make_private(directory: Path) -> None:
    """Make a directory for this user alone.

    Raises:
        OSError: it can't be made.
        ValueError: it is somebody else's, or everybody may write there.
    """
    for each in reversed(directory.parents):
        if not each.exists():
            each.mkdir(mode=0o700, exist_ok=True)
    directory.mkdir(mode=0o700, exist_ok=True)
    check_private(directory)


def check_private(directory: Path) -> None:
    """Raise where somebody else than this user or root could have put files into a directory.

    Who may write above it can move it away, and put another in its place, but not one of ours.

    Raises:
        OSError: it can't be looked at.
        ValueError: it is somebody else's, or everybody may write there.
    """
    _check_owned(directory, directory.stat())


def _check_owned(path: Path, about: os.stat_result) -> None:
    if hasattr(os, "geteuid") and about.st_uid not in (os.geteuid(), 0):
        raise ValueError(f"{path} belongs to another user")
    if about.st_mode & stat.S_IWOTH:
        raise ValueError(f"everybody may write to {path}")


def _private(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_CLOEXEC, 0o600)


@contextlib.contextmanager
def _locked(path: Path) -> Generator[bool]:
    """Hold a lock while the body runs; the body learns whether it got it."""
    try:
        import fcntl
    except ImportError:  # Windows: os.replace alone has to do
        yield True
        return
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True
        fcntl.flock(fd, fcntl.LOCK_UN)  # closing alone would not do, where a child has it too
    finally:
        os.close(fd)


def _sync(directory: Path) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
