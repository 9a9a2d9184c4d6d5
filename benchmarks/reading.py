"""What it costs to read a flag, in ns, beside the peers; in a process of its own.

A line of code is repeated, as in a function that reads many flags, and an empty loop of the same
round is taken off: what is left is the line alone. The name that it reads is a module's, as users
have it.
"""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from itertools import repeat
from typing import Any, Final

from .children import child
from .flag_sides import READERS, Reader
from .model import Row, Spread, WrongSetupError, require
from .timing import interleaved

READ: Final = "if FLAG"
OPENFEATURE: Final = "openfeature-sdk, in-memory provider"
ADDED: Final = {
    "kill_switch alone, on, added": ("kill_switch alone, on", "a bare function call"),
    "kill_switch in a whole policy, on, added": (
        "whole policy with a kill_switch, on",
        "whole policy",
    ),
}
TIMES: Final = "openfeature-sdk over if FLAG"
LIMIT: Final = 40.0  # ns
CHEAPER: Final = 100.0  # times
_EMPTY: Final = ""

_LINES: Final = 20  # in one turn of the loop
_INDENT: Final = "\n        "
_SOURCE: Final = """
def run(turns):
    began = clock()
    for _ in repeat(None, turns):
        {lines}
    return clock() - began

def ask():
    return {asks}
"""


def names() -> list[str]:
    """Return what the tables call the rows."""
    return [f"flag: {name}" for name in (READ, TIMES, *list(READERS)[1:], *ADDED)]


# -- in a process of its own -----------------------------------------------------------


class _Timed:
    """One line, and how many turns of the loop fill its batch."""

    def __init__(self, reader: Reader, target: float, lines: int = _LINES) -> None:
        # The very dict that the reader holds, for what it flips may be a name in it.
        scope: dict[str, Any] = reader.names
        scope |= {"clock": time.process_time, "repeat": repeat}
        line = f"if {reader.asks}: pass" if reader.reads else reader.asks
        asks = f"bool({reader.asks})" if reader.reads else reader.asks
        exec(_SOURCE.format(lines=_INDENT.join([line] * lines or ["pass"]), asks=asks), scope)
        self._run: Callable[[int], float] = scope["run"]
        self._reader, self._lines, self._turns, self._done = reader, lines, 1, 0
        self._asked = 0
        reader.prove(self._ask)
        while (took := self._batch()) < target / 4:
            self._turns *= 2
        self._turns = max(1, round(self._turns * target / took))

    def _ask(self) -> object:
        self._asked += 1
        return self._reader.names["ask"]()

    def _batch(self) -> float:
        self._done += self._turns
        return self._run(self._turns)

    def __call__(self) -> float:
        """Return the seconds that a turn takes."""
        return self._batch() / self._turns

    def finish(self) -> None:
        found = self._ask()
        require(found == self._reader.answer, f"answered {found!r} in the end")
        self._reader.ended(self._done * self._lines + self._asked)


@contextmanager
def _alone() -> Iterator[None]:
    """Let nobody connect, and no thread outlive what is measured."""
    tried: list[str] = []
    before = threading.active_count()

    def connect(_: socket.socket, address: object) -> int:
        tried.append(repr(address))
        raise ConnectionRefusedError(address)

    socket.socket.connect = connect  # type: ignore[assignment,method-assign]
    socket.socket.connect_ex = connect  # type: ignore[assignment,method-assign]
    yield
    until = time.monotonic() + 5
    while threading.active_count() > before and time.monotonic() < until:
        time.sleep(0.01)
    left = [thread.name for thread in threading.enumerate()][before:]
    require(not left, f"threads are left: {left}")
    require(not tried, f"somebody wanted to connect: {tried}")


def run(rounds: int, microseconds: int) -> dict[str, Any]:
    """Time every reader in the same rounds; return the ns of each, net of an empty loop."""
    wrong: dict[str, str] = {}
    jobs = {_EMPTY: _Timed(Reader("True", {}), microseconds / 1e6, lines=0)}
    with _alone(), ExitStack() as stack:
        for name, maker in READERS.items():
            try:
                reader = maker()
                stack.callback(reader.close)
                jobs[name] = _Timed(reader, microseconds / 1e6)
            except Exception as error:
                wrong[name] = repr(error)
        series = interleaved(jobs, rounds)
        for name, job in jobs.items():
            try:
                job.finish()
            except Exception as error:
                wrong[name] = repr(error)
    empty = series.pop(_EMPTY)
    found = {
        name: [(full - loop) / _LINES * 1e9 for full, loop in zip(turns, empty, strict=True)]
        for name, turns in series.items()
    }
    return {"ns": found, "wrong": wrong}


# -- what is asked of it ---------------------------------------------------------------


def measure(chosen: list[str], rounds: int, batch: float) -> list[Row]:
    """Measure what is chosen, and all that it is compared with."""
    try:
        data = child("reading", rounds, round(batch * 1e6))
    except WrongSetupError as error:
        return [Row(name, "ns", rounds=rounds, wrong=str(error)) for name in chosen]
    found, wrong = data["ns"], data["wrong"]
    rows = {f"flag: {name}": _row(name, [name], wrong, lambda a: a[0], found) for name in READERS}
    rows[f"flag: {READ}"].goal = LIMIT
    rows[f"flag: {TIMES}"] = _row(
        TIMES, [OPENFEATURE, READ], wrong, lambda a: a[0] / a[1], found, "x"
    )
    rows[f"flag: {TIMES}"].goal, rows[f"flag: {TIMES}"].at_least = CHEAPER, True
    for name, both in ADDED.items():
        rows[f"flag: {name}"] = _row(name, list(both), wrong, lambda a: a[0] - a[1], found)
    for row in rows.values():
        row.rounds = rounds
    return [rows[name] for name in chosen]


def _row(
    name: str,
    sides: list[str],
    wrong: dict[str, str],
    figure: Callable[[tuple[float, ...]], float],
    found: dict[str, list[float]],
    unit: str = "ns",
) -> Row:
    row = Row(f"flag: {name}", unit)
    row.wrong = "; ".join(f"{side}: {wrong[side]}" for side in sides if side in wrong)
    if not row.wrong:
        each = zip(*(found[side] for side in sides), strict=True)
        row.spread = Spread.of([figure(figures) for figures in each])
        row.ours = row.found
    return row
