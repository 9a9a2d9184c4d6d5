"""Directories of this user alone: follow no link of another user, use no directory of another user.

Each part of a path is opened from its parent, so what was checked is what is used. A user who can
write above our directory can move it away, but can't put another in its place: the other would
not be ours.
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
_PASSING: Final = getattr(os, "O_PATH", os.O_RDONLY)  # passes through unreadable ones
_MOST_LINKS: Final = 40

# For files in such a directory: follow no link, wait for nothing.
_FILE: Final = getattr(os, "O_CLOEXEC", 0) | _PLAIN | getattr(os, "O_NONBLOCK", 0)


class Inside:
    """A checked directory, by its descriptor; on Windows, which has none, by its path."""

    def __init__(self, path: Path, fd: int | None) -> None:
        self._path = path
        self._fd = fd

    def _at(self, name: str) -> str:
        return name if self._fd is not None else str(self._path / name)

    def open(self, name: str, flags: int) -> int:
        """Return the descriptor of a file; follow no link, and create only private files."""
        return os.open(self._at(name), flags | _FILE, 0o600, dir_fd=self._fd)

    def rename(self, old: str, new: str) -> None:
        """Rename a file over another."""
        os.replace(self._at(old), self._at(new), src_dir_fd=self._fd, dst_dir_fd=self._fd)

    def remove(self, name: str) -> None:
        """Remove a file, if it exists."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self._at(name), dir_fd=self._fd)

    def stat(self, name: str) -> os.stat_result:
        """Return the status of a file, or of a link itself."""
        return os.stat(self._at(name), dir_fd=self._fd, follow_symlinks=False)

    def names(self) -> list[str]:
        """Return the names of the files."""
        return os.listdir(self._path if self._fd is None else self._fd)

    def sync(self) -> None:
        """Make renames survive a crash."""
        if self._fd is not None:
            os.fsync(self._fd)


@contextlib.contextmanager
def opened(directory: Path, *, make: bool) -> Generator[Inside]:
    """Open a directory of this user alone; with `make`, create it if it is missing.

    Raises:
        OSError: it can't be opened, or created.
        ValueError: it is a link, or another user's, or everybody may write to it.
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
    """Create a directory for this user alone.

    Raises:
        OSError: it can't be created.
        ValueError: it is a link, or another user's, or everybody may write to it.
    """
    with opened(directory, make=True):
        return


def check_private(directory: Path) -> None:
    """Raise if a user other than this one or root could have put files into a directory.

    Raises:
        OSError: it can't be examined.
        ValueError: it is a link, or another user's, or everybody may write to it.
    """
    with opened(directory, make=False):
        return


def check_owned(path: Path, about: os.stat_result) -> None:
    """Raise a ValueError if another user owns it, or everybody may write to it."""
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
    """Open an entry of a directory, and close the directory."""
    found = os.open(name, (os.O_RDONLY if last else _PASSING) | _DIRECTORY | _PLAIN, dir_fd=fd)
    os.close(fd)
    return found


def _about(fd: int, name: str, below: Path, *, make: bool) -> os.stat_result:
    """Return the status of a directory's entry; with `make`, create a missing directory."""
    with contextlib.suppress(FileNotFoundError):
        return os.stat(name, dir_fd=fd, follow_symlinks=False)
    if make:
        around = os.fstat(fd)
        if not _is_ours(around):
            raise ValueError(f"{below} belongs to another user: nothing is made there")
        if around.st_mode & stat.S_IWOTH and not around.st_mode & stat.S_ISVTX:
            raise ValueError(f"everybody may write to {below}: nothing is made there")
        with contextlib.suppress(FileExistsError):  # another process created it meanwhile
            os.mkdir(name, 0o700, dir_fd=fd)
    return os.stat(name, dir_fd=fd, follow_symlinks=False)
