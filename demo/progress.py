"""What is shown while the demo runs: a live table on a terminal, lines elsewhere."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.table import Table

from .measure import SERVED, Run, Side

COLOURS: Final = {"full": "green", "degraded": "yellow", "error": "red"}


class Progress:
    """Shows a run until its time is over."""

    def __init__(self, console: Console) -> None:
        self._console = console

    async def show(self, run: Run, start: float) -> None:
        """Show it, as the console allows."""
        await (self._table if self._console.is_terminal else self._lines)(run, start)

    async def _table(self, run: Run, start: float) -> None:
        with Live(console=self._console, auto_refresh=False, transient=True) as live:
            while (now := time.monotonic() - start) < run.seconds:
                live.update(table(run, max(0.0, now)), refresh=True)
                await asyncio.sleep(0.25)

    async def _lines(self, run: Run, start: float) -> None:
        every = min(2.0, run.seconds / 4)
        for number in range(1, int(run.seconds / every) + 1):
            await asyncio.sleep(start + number * every - time.monotonic())
            now = time.monotonic() - start
            self._console.print(
                f"{now:5.1f} s  {run.phase_at(now):13}  "
                + "  |  ".join(line(side) for side in run.sides),
                markup=False,
                highlight=False,
                soft_wrap=True,
            )


def line(side: Side) -> str:
    """Return the state of one side in a line."""
    served = side.figures().served
    counts = ", ".join(f"{served[kind]} {kind}" for kind in SERVED)
    circuit = f", circuit {side.circuit}" if side.name == "protected" else ""
    return f"{side.name}: {counts}, {waiting(side)[0]} waiting{circuit}"


def waiting(side: Side) -> tuple[int, float]:
    """Return how many wait now, and the longest wait so far, ended or not."""
    last = side.waiting[-1] if side.waiting else None
    ended = max((one.took for one in side.customers), default=0.0)
    return (last.number, max(ended, last.longest)) if last else (0, ended)


def table(run: Run, now: float) -> Table:
    """Return the live table."""
    shown = Table(title=f"{now:4.1f} of {run.seconds:g} s: the upstream is {run.phase_at(now)}")
    for column in ("service", *SERVED, "waiting now", "longest wait", "circuit"):
        shown.add_column(column, justify="left" if column in ("service", "circuit") else "right")
    for side in run.sides:
        served, (number, longest) = side.figures().served, waiting(side)
        shown.add_row(
            side.name,
            *(f"[{COLOURS[kind]}]{served[kind]:,}[/]" for kind in SERVED),
            f"{number:,}",
            f"{longest:.2f} s",
            side.circuit.replace("_", "-") if side.name == "protected" else "none",
        )
    return shown
