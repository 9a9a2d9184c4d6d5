"""Where the processes of this host share their counts, and messages if they can't be read."""

from __future__ import annotations

import os
import shlex
import stat
from pathlib import Path

from ..flags.environment import RUNTIME, VARIABLE
from ..flags.stores.urls import runtime_for
from .store_access import UNREACHED, USAGE, fail


def runtime_directory() -> Path:
    """Return where the processes of this host share their counts, or exit with advice."""
    try:
        path = runtime_for(os.environ.get(VARIABLE, ""), os.environ)
    except ValueError as error:
        fail(str(error), USAGE)
    if path is None:
        fail(
            f"no directory is set in which processes share their counts. Set {RUNTIME}, or "
            f"{VARIABLE} to a store of SQLite, as the processes have it",
            USAGE,
        )
    try:
        there = stat.S_ISDIR(path.stat().st_mode)
    except PermissionError as error:
        fail(unread(path, error), UNREACHED)
    except OSError:
        there = False
    if not there:
        fail(nobody_shares(path), UNREACHED)
    return path


def directory_of(store: str | None) -> Path | None:
    """Return where processes that follow a store share their counts, None if no directory shows it.

    A directory named by the environment counts even if it does not exist.
    """
    try:
        path = runtime_for(store or os.environ.get(VARIABLE, ""), os.environ)
    except ValueError as error:
        fail(str(error), USAGE)
    if path is None or os.environ.get(RUNTIME):
        return path
    try:
        return path if stat.S_ISDIR(path.stat().st_mode) else None
    except PermissionError:  # it exists: reading it reports its owner
        return path
    except OSError:
        return None


def nobody_shares(path: Path) -> str:
    """Return the sentence for a missing directory of pages."""
    return f"{path} does not exist: no process has ever shared its counts there"


def unread(path: Path, error: Exception) -> str:
    """Return the sentence for unreadable pages: why, whose they are, and how to look."""
    owner = _owner(path)
    private = isinstance(error, PermissionError) or owner != 0
    if owner is None or owner == _user() or not private:
        return f"the pages can't be read: {error}"
    name = _name(owner)
    user = shlex.quote(f"#{owner}") if name is None else name
    return (
        f"{path} belongs to another user, {name or 'one without a name'} (uid {owner}), and what "
        f"its processes share is private: look as that user, as with `sudo -u {user} "
        "--preserve-env resilient top`"
    )


def _owner(path: Path) -> int | None:
    """Return the owner of the directory, or of the nearest readable one above it."""
    for each in (path, *path.parents):
        try:
            return each.stat().st_uid
        except OSError:
            continue
    return None


def _user() -> int:
    return os.geteuid() if hasattr(os, "geteuid") else 0


def _name(user: int) -> str | None:
    try:
        import pwd

        return pwd.getpwuid(user).pw_name
    except (ImportError, KeyError):
        return None
