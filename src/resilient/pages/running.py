"""Tell whether the process that opened a page runs, by what Linux says of it.

A process id alone says nothing: it is used again, and differs between containers. With the time of
its start and the namespace of its id, it names one process.
"""

from __future__ import annotations

import os


def process_identity(pid: int) -> str:
    """Return what no other process has; "" if there is none, or the system says nothing."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
        with open(f"/proc/{pid}/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    state, start = fields[0], fields[19]
    return "" if state in b"ZX" else f"{space}-{pid}-{start.decode()}"
