"""Directories of this user alone: no link of somebody else is followed, nobody else's is used.

Each part of a path is opened from the one above it, so what was checked is what is used. Who may
write above a directory of ours can move it away, and can't put another in its place: it would not
be ours.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Generator
from pathlib import Path
from typing import Final

_DIRECTORY: Final = getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_CLOEXEC", 0)
_PLAIN: Final = getattr(os, "O_NOFOLLOW", 0)
_PASSING: Final = getattr(os, "O_PATH", os.O_RDONLY)  # may be passed through, if not read
_MOST_LINKS: Final = 40

# Of files in such a directory: no link is followed, nothing is waited for.
_FILE: Final = getattr(os, "O_CLOEXEC", 0) | _PLAIN | getattr(os, "O_NONBLOCK", 0)


class Inside:
    """A directory that was checked, by its descriptor; on Windows, which has none, by its path."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path = path
        self._fd = fd

    def _at(self, name: str) -> str:
        return name if self._fd is not None else str(self._path / name)

    def open(self, name: str, flags: int) -> int:
        """Return a descriptor of a file, which no link leads to; one that is made is private."""
        return os.open(self._at(name), flags | _FILE, 0o600, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Give a file another's name, and take that one away."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Take a file away, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def stat(self, name: str) -> os.stat_result:
        """Look at a file, or at a link."""
        return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def names(self) -> list[str]:
        """Return what is there."""
        return os.listdir(self._path if self._fd is None else self._fd)

    def sync(self) -> None:
        """Have what was renamed outlive a crash."""
        if self._fd is not None:
            os.fsync(self._fd)


@contextlib.contextmanager
def opened(directory: Path, *, make: bool) -> Generator[Inside]:
    """Give a directory of this user alone, made where it is not there.

    Raises:
        OSError: it can't be opened, or made.
        ValueError: it is a link, or somebody else's, or everybody may write there.
    """
    if not hasattr(os, "geteuid"):
        if make:
            directory.mkdir(parents=True, exist_ok=True)
        yield Inside(directory, None)
        return
    fd = _walk(directory, make=make)
    try:
        check_owned(directory, os.fstat(fd))
        yield Inside(directory, fd)
    finally:
        os.close(fd)


def make_private(directory: Path) -> None:
    """Make a directory for this user alone.

    Raises:
        OSError: it can't be made.
        ValueError: it is a link, or somebody else's, or everybody may write there.
    """
    with opened(directory, make=True):
        return


def check_private(directory: Path) -> None:
    """Raise where somebody else than this user or root could have put files into a directory.

    Raises:
        OSError: it can't be looked at.
        ValueError: it is a link, or somebody else's, or everybody may write there.
    """
    with opened(directory, make=False):
        return


def check_owned(path: Path, about: os.stat_result) -> None:
    """Raise a ValueError where something is somebody else's, or everybody may write to it."""
    if not hasattr(os, "geteuid"):
        return
    if not _is_ours(about):
        raise ValueError(f"{path} belongs to another user")
    if about.st_mode & stat.S_IWOTH:
        raise ValueError(f"everybody may write to {path}")


def _is_ours(about: os.stat_result) -> bool:
    return about.st_uid in (os.geteuid(), 0)


def _walk(path: Path, *, make: bool) -> int:
    todo = list(reversed(Path(os.path.abspath(path)).parts[1:]))
    fd, links, below = os.open("/", _PASSING | _DIRECTORY), 0, Path("/")
    try:
        while todo:
            name = todo.pop()
            about = _about(fd, name, below, make=make)
            if stat.S_ISLNK(about.st_mode):
                ours = not todo or name.endswith("-state") or name.startswith("resilient-")
                if ours or not _is_ours(about) or links == _MOST_LINKS:
                    raise ValueError(f"{below / name} is a symbolic link, and is not followed")
                links += 1
                target = os.readlink(name, dir_fd=fd)
                todo += reversed([part for part in target.split("/") if part not in ("", ".")])
                if target.startswith("/"):
                    fd, below = _next(fd, "/", last=False), Path("/")
                continue
            if os.fstat(fd).st_mode & stat.S_IWOTH and not _is_ours(about):
                raise ValueError(f"{below / name} belongs to another user")
            fd, below = _next(fd, name, last=not todo), below / name
    except BaseException:
        os.close(fd)
        raise
    return fd


def _next(fd: int, name: str, *, last: bool) -> int:
    """Open what is in a directory, in place of it."""
    found = os.open(name, (os.O_RDONLY if last else _PASSING) | _DIRECTORY | _PLAIN, dir_fd=fd)
    os.close(fd)
    return found


def _about(fd: int, name: str, below: Path, *, make: bool) -> os.stat_result:
    """Return what something in a directory is, made where it is to be, and may be."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    if make:
        around = os.fstat(fd)
        if not _is_ours(around):
            raise ValueError(f"{below} belongs to another user: nothing is made there")
        if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
            raise ValueError(f"everybody may write to {below}: nothing is made there")
        with contextlib.suppress(FileExistsError):  # by another process, meanwhile
            os.mkdir(name, 0o700, dir_fd=fd)
    return os.stat(name, dir_fd=fd, follow_symlinks=False)
