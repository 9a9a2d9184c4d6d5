"""Where a command writes its answer: what can't be written never looks like what could not be done.

A disk that is full, a reader that has gone, a closed file: none of them raises in the middle of an
act. It is noted, the act goes on, and the end of the command says so.
"""

from __future__ import annotations

import io
import os
import select
import sys
from typing import Any


class Outlet(io.FileIO):
    """A file that takes whatever is written, also where nothing can be.

    Attributes:
        fault: why something could not be written, or None.
    """

    def __init__(self, fd: int) -> None:
        super().__init__(fd, "w", closefd=False)
        self.fault: OSError | None = None

    def write(self, content: Any, /) -> int:
        """Write it, or note why that can't be."""
        size = memoryview(content).nbytes
        while self.fault is None:
            try:
                written = super().write(content)
            except OSError as error:
                self.fault = error
                break
            if written is not None:
                return written
            select.select([], [self.fileno()], [])  # it does not block: its reader is slow
        return size


def open_outlets() -> None:
    """Have all that is printed from now on go through outlets, in place of the standard files."""
    closed = [fd for fd in (0, 1, 2) if not _is_open(fd)]
    for fd in closed:  # else a store's file would get the number, and be written over
        os.open(os.devnull, os.O_RDWR)
        if fd:
            os.set_inheritable(fd, True)
    for fd, name in ((1, "stdout"), (2, "stderr")):
        before = getattr(sys, name)
        if fd not in closed and _number(before) != fd:
            continue  # somebody's own: a test's, or an embedding program's
        outlet = Outlet(fd)
        if fd in closed:
            outlet.fault = OSError("it is closed")
        text = io.TextIOWrapper(
            io.BufferedWriter(outlet),
            encoding=getattr(before, "encoding", None) or "utf-8",
            errors="replace",  # a terminal that lacks a character gets a "?"
            line_buffering=fd == 2 or outlet.isatty(),
        )
        setattr(sys, name, text)


def fault() -> OSError | None:
    """Return why what was printed has not been written, None where all of it has."""
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
