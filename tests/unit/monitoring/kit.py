"""Looks at pages made by hand, screens drawn at a width, and a terminal of the test's own."""

from __future__ import annotations

import contextlib
import fcntl
import io
import os
import re
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import time
from array import array
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console

from resilient.cli.top_screen import drawn
from resilient.engine.counters import EDGES, ROW
from resilient.guards.bulkhead import Bulkhead
from resilient.guards.circuit_breaker.breaker import CircuitBreaker
from resilient.guards.timeout import Timeout
from resilient.metric_types import Metric
from resilient.monitoring.page_samples import PageSample
from resilient.monitoring.top_model import Screen
from resilient.pages import format as form
from resilient.pages.format import Entry
from resilient.telemetry.flag_samples import OF_FLAG, OF_ORDER
from resilient.telemetry.policy_samples import OF_POLICIES
from resilient.telemetry.schema import layout
from tests.kit.hosts import Process

WALL = 1_700_000_000.0
_METRICS = (*OF_POLICIES, *OF_FLAG, *OF_ORDER, *Bulkhead.metrics, *CircuitBreaker.metrics,
            *Timeout.metrics)  # fmt: skip
_NAMED: dict[str, Metric] = {metric.name: metric for metric in _METRICS}
ABOUT: dict[str, Any] = {
    "owner": "", "tier": None, "impact": "", "since": 1.0, "flags": [], "fallback": ""
}  # fmt: skip


# -- pages made by hand ------------------------------------------------------------------


def samples(said: Mapping[tuple[str, str], float]) -> tuple[Any, list[float]]:
    """Return a layout's tail, and its cells, of gauges by name and label."""
    keys = [(_NAMED[name], (label,) if label else ()) for name, label in said]
    return tuple(keys), list(said.values())


def policy(
    name: str,
    *,
    durations: list[int] | None = None,
    gauges: Mapping[tuple[str, str], float] | None = None,
    about: Mapping[str, Any] | None = None,
    **counts: float,
) -> Entry:
    """Return the entry of a policy; counts are `full`, `in_flight` and other words of ROW."""
    tail, cells = samples(gauges or {})
    made = layout(words=("fallback", "thread"), refusing=("policy",), tail=tail)
    row = dict.fromkeys(ROW, 0.0)
    for word, number in counts.items():
        assert word in row, word
        row[word] = number
    for place, number in enumerate(durations or [0] * (len(EDGES) + 1)):
        row[ROW[-len(EDGES) - 1 + place]] = number
    return Entry("policy", name, {**ABOUT, **(about or {})}, made, [*row.values(), 0.0, *cells])


def flag_entry(name: str, *, on: bool, flipped: float | None = None, held: bool = False) -> Entry:
    """Return the entry of a flag as one process says it."""
    said = {("flag_processes", "on"): float(on), ("flag_processes", "off"): float(not on)}
    said["flag_held_processes", ""] = float(held)
    if flipped is not None:
        said["flag_flipped_timestamp_seconds", ""] = flipped
    tail, cells = samples(said)
    return Entry("flag", name, {}, layout(words=None, tail=tail), cells)


def order_entry(name: str, kind: str, since: float) -> Entry:
    """Return what a process says of an order for a policy."""
    tail, cells = samples({("override_since_timestamp_seconds", kind): since})
    return Entry("order", name, {}, layout(words=None, tail=tail), cells)


class Page:
    """What a reader says of a process's page."""

    def __init__(
        self, *entries: Entry, alive: bool = True, quiet: float = 0.0, pid: int = 1,
        program: str = "gunicorn",
    ) -> None:  # fmt: skip
        self.entries = list(entries)
        self.alive, self.left = alive, False
        self.beat = time.monotonic() - quiet
        self.about = {"pid": pid, "program": program}


def look(at: float, *pages: Page, left: list[Entry] | None = None, unread: int = 0) -> PageSample:
    """Return a look at some pages, at a moment."""
    faults = {f"{number}.page": "not a page" for number in range(unread)}
    made = PageSample(list(pages), list(left or []), faults)  # type: ignore[arg-type]
    made.at, made.wall = at, WALL + at
    return made


def screen(*entries: Entry, seconds: float = 10.0, **more: Any) -> Screen:
    """Return what a screen shows of one process that came to these numbers since the first look."""
    return Screen(look(0.0), look(seconds, Page(*entries), **more))


def written(path: Path, *entries: Entry, about: Any = None, quiet: float = 0.0) -> int:
    """Write the page of a process that lives for as long as the file that is returned is open."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    texts = list(dict.fromkeys(entry.layout.text for entry in entries))
    parts = [form.record(form.LAYOUT, text, 0)[0] for text in texts]
    for entry in entries:
        words = form.row_text(entry, texts.index(entry.layout.text))
        parts.append(form.record(form.ROW, words, len(entry.row))[0])
        parts.append(array("d", entry.row).tobytes())
    body = b"".join(parts)
    said = (
        {"pid": 4711, "id": "x", "program": "gunicorn", "started": 0.0} if about is None else about
    )
    head = form.header(said, form.HEADER + len(body), time.monotonic() - quiet)
    path.write_bytes(head + body)
    fd = os.open(path, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def lasting(worker: Process, code: str) -> None:
    """Have a process do something, and then live on for longer than others of the tests."""
    worker.do(f"{code}\nsignal.alarm(600)")


# -- drawing ------------------------------------------------------------------


def text_of(shown: Screen, width: int, rows: int | None = None) -> str:
    """Return a screen as it is printed where nothing is a terminal."""
    console = Console(file=io.StringIO(), width=width, highlight=False)
    console.print(drawn(shown, console.width, rows=rows))
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def commands(text: str) -> list[list[str]]:
    """Return the commands under LEVERS, each in words, as a shell has them that they are pasted to."""
    _, _, levers = text.partition("LEVERS\n")
    joined = re.sub(r" *\\\n", " ", levers)
    lines = [line for line in joined.splitlines() if line.strip() and line.strip()[0] != "#"]
    return [shlex.split(line) for line in lines]


def line_of(text: str, start: str) -> list[str]:
    """Return the words of the one line that has a word which ends so."""
    (found,) = [
        line.split()
        for line in text.partition("LEVERS")[0].splitlines()
        if any(word == start for word in line.split())
    ]
    return found


# -- a terminal ------------------------------------------------------------------

_CONTROL = "import fcntl,os,sys,termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, [sys.executable, *sys.argv[1:]])"
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A command in a terminal of its own, which somebody sits at."""

    def __init__(self, *words: str, rows: int = 24, columns: int = 80, **environ: str) -> None:
        self._ours, theirs = os.openpty()
        self.resize(rows, columns)
        self.before = termios.tcgetattr(self._ours)
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        self.process = subprocess.Popen(
            [sys.executable, "-c", _CONTROL, "-m", "resilient.cli", *words],
            env={**kept, "TERM": "xterm", **environ},
            stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True,
        )  # fmt: skip
        os.close(theirs)
        self.out = ""

    def resize(self, rows: int, columns: int) -> None:
        """Give it another size."""
        size = struct.pack("HHHH", rows, columns, 0, 0)
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, size)

    def read(self, seconds: float, *, until: str = "\0") -> str:
        """Take in what it prints, until it has printed something, or for so long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and until not in self.out:
            ready, _, _ = select.select([self._ours], [], [], 0.05)
            if ready:
                try:
                    more = os.read(self._ours, 65536)
                except OSError:  # nobody is at the other end
                    break
                self.out += more.decode()
        return self.out

    def key(self, key: bytes) -> None:
        """Press a key."""
        os.write(self._ours, key)

    def ended(self, seconds: float = 60.0) -> int:
        """Return its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.05)
        self.read(0.2)
        return self.process.wait(1)

    @property
    def after(self) -> list[Any]:
        """Return the settings of the terminal as they are now."""
        return termios.tcgetattr(self._ours)

    @property
    def screens(self) -> list[list[str]]:
        """Return what was to be seen, screen by screen, without colours."""
        return [
            _ESCAPE.sub("", part).split("\r\n")
            for part in self.out.split("\x1b[H")
            if _ESCAPE.sub("", part).strip()
        ]

    def close(self) -> None:
        """End it, whatever it is at."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGKILL)
        self.process.wait(60)
        with contextlib.suppress(OSError):
            os.close(self._ours)


def environ_of(pages: Path) -> dict[str, str]:
    """Return the variables that name a directory of pages, and nothing else."""
    return {"RESILIENT_RUNTIME_DIR": str(pages)}
