"""Where a command writes its answer, so that a failed write never looks like a failed action.

A full disk, a reader that has gone, a closed file: none of them raises in the middle of an
action. An outlet keeps the error, the action goes on, and the end of the command reports it.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any


class Outlet(io.FileIO):
    """A file that accepts everything, even if it can't write it.

    Attributes:
        fault: why a write failed, or None.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.fault: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write content, or keep the error."""
        size = memoryview(content).nbytes
        while self.fault is None:
            try:
                written = super().write(content)
            except OSError as error:
                self.fault = error
                break
            if written is not None:
                return written
            select.select([], [self.fileno()], [])  # non-blocking, with a slow reader
        return size


def open_outlets() -> None:
    """Replace the standard files by outlets for all later output."""
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    for fd in closed:  # else the store's file could get the number, and output would overwrite it
        os.open(os.devnull, os.O_RDWR)
        if fd:
            os.set_inheritable(fd, True)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if fd not in closed and _number(before) != fd:
            continue  # another program's or a test's own file
        outlet = Outlet(fd)
        if fd in closed:
            outlet.fault = OSError("it is closed")
        text = io.TextIOWrapper(
            io.BufferedWriter(outlet),
            encoding=getattr(before, "encoding", None) or "utf-8",
            errors="replace",  # an encoding that lacks a character gets a "?"
            line_buffering=fd == 2 or outlet.isatty(),
        )
        setattr(sys, name, text)


def fault() -> OSError | None:
    """Return why output has not been written, None if all of it has."""
    stream = sys.stdout
    try:
        stream.flush()
    except (OSError, ValueError, AttributeError) as error:
        return error if isinstance(error, OSError) else OSError(str(error))
    raw = getattr(getattr(stream, "buffer", None), "raw", None)
    return raw.fault if isinstance(raw, Outlet) else None


def _number(stream: Any) -> int | None:
    try:
        return int(stream.fileno())
    except (AttributeError, OSError, ValueError):
        return None


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True
