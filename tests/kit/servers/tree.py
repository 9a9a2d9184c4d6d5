"""The processes below a process; and, run as a script, what ends them when the tests have ended.

A process group does not hold them all: each child of PostgreSQL is the leader of a session of its own.
"""

from __future__ import annotations

import contextlib
import glob
import os
import shutil
import signal
import subprocess
import sys
import time
from typing import NamedTuple

GONE = "ZX"  # states of a process that has ended
HELD = "Tt"  # states of a process that is frozen


class _Row(NamedTuple):
    pid: int
    state: str
    parent: int
    session: int


def _rows() -> list[_Row]:
    """Return a row for each process that there is."""
    rows = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                words = file.read().rpartition(b")")[2].split()
                rows.append(_Row(int(name), words[0].decode(), int(words[1]), int(words[3])))
    return rows


def tree(root: int) -> dict[int, str]:
    """Return the state of a process, of all below it, and of its session, by process id."""
    rows = _rows()
    found = {row.pid for row in rows if root in (row.pid, row.session)}
    size = -1
    while size != len(found):
        size = len(found)
        found |= {row.pid for row in rows if row.parent in found}
    return {row.pid: row.state for row in rows if row.pid in found}


def alive(pids: set[int]) -> set[int]:
    """Return which of these have not ended."""
    return {row.pid for row in _rows() if row.pid in pids and row.state not in GONE}


def send(pid: int, number: int) -> None:
    """Send a signal to a process that may have ended."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


def freeze(root: int, seconds: float = 5.0) -> set[int]:
    """Freeze a process and all below it, wait until they are, and return which they are."""
    send(root, signal.SIGSTOP)  # from here on it starts no more
    end = time.monotonic() + seconds
    while True:
        states = {pid: state for pid, state in tree(root).items() if state not in GONE}
        moving = [pid for pid, state in states.items() if state not in HELD]
        if not moving:
            return set(states)
        if time.monotonic() > end:
            raise TimeoutError(f"processes {moving} of {root} did not stop")
        for pid in moving:
            send(pid, signal.SIGSTOP)
        time.sleep(0.001)


def thaw(root: int) -> None:
    """Let a process and all below it go on."""
    for pid in sorted(tree(root), reverse=True):
        send(pid, signal.SIGCONT)


def kill(root: int) -> set[int]:
    """Kill a process and all below it at once, and return which they were."""
    try:
        pids = freeze(root)  # the children of a frozen parent keep their ids, ended or not
    except TimeoutError:
        pids = set(tree(root))
    for pid in pids:
        send(pid, signal.SIGKILL)
    return pids


def free_memory(directory: str) -> None:
    """Remove the shared memory of PostgreSQL, which a kill leaves: postmaster.pid names it."""
    for told in glob.glob(f"{directory}/*/postmaster.pid"):
        with open(told) as file:
            lines = file.read().splitlines()
        if len(lines) > 6 and lines[6].split():
            number = lines[6].split()[-1]
            subprocess.run(["ipcrm", "--shmem-id", number], capture_output=True, check=False)


def watch(directory: str) -> None:
    """Read process ids, a line each, until the writer ends; then kill the last, and clean up."""
    last = ""
    for line in sys.stdin:
        last = line.strip()
    if last:
        kill(int(last))
        time.sleep(0.2)
    free_memory(directory)
    shutil.rmtree(directory, ignore_errors=True)


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    watch(sys.argv[1])
