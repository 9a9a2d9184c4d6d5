"""`resilient top`: one screen for whoever is on call."""

from __future__ import annotations

import signal
import time
from collections import deque
from typing import TYPE_CHECKING, Final, NoReturn

import click

from ..monitoring.looks import Look, Watch
from ..monitoring.screen import Screen
from .metrics_commands import runtime_directory
from .printing import say_json, seconds_of
from .reach import UNREACHED, USAGE, fail

if TYPE_CHECKING:
    from rich.console import Console

_SPAN: Final = 10.0  # seconds that a share or a rate is of


@click.command()
@click.option("--every", default="2s", show_default=True, metavar="TIME", help="How often to look.")
@click.option("--once", is_flag=True, help="Look twice, so long apart, print, and end.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, once.")
def top(every: str, once: bool, as_json: bool) -> None:
    """Show what hurts customers, of all processes of this host: the worst first.

    It reads what processes share in RESILIENT_RUNTIME_DIR, or beside the SQLite store, and asks
    none of them, so it works while they hang. Ctrl-C ends it.
    """
    try:
        seconds = seconds_of("--every", every)
    except ValueError as error:
        fail(str(error), USAGE)
    from .drawing import Output, drawn  # here: rich takes a third of the time of other commands

    watch = Watch(runtime_directory())
    console = Output(highlight=False)
    try:
        if once or as_json:
            before = _look(watch)
            time.sleep(seconds)
            screen = Screen(before, _look(watch))
            if as_json:
                say_json(screen.as_data())
            else:
                console.print(drawn(screen, console.width, rows=None))
            return
        _follow(watch, console, seconds)
    except KeyboardInterrupt:
        return


def _look(watch: Watch) -> Look:
    try:
        return watch.look()
    except (OSError, ValueError) as error:
        fail(f"the pages can't be read: {error}", UNREACHED)


def _follow(watch: Watch, console: Console, seconds: float) -> None:
    from rich.live import Live

    from .drawing import drawn

    looks: deque[Look] = deque([_look(watch)])
    if not console.is_terminal:  # a pipe, or ssh without one: a screen after the other
        while True:
            pause = min(seconds, 1.0) if len(looks) < 2 else seconds
            console.print(drawn(_newest(watch, looks, pause), console.width, rows=None))
            console.print("")
    signal.signal(signal.SIGTERM, _end)  # the terminal is to be put right first
    with Live(console=console, screen=True, auto_refresh=False) as live:
        pause = min(seconds, 1.0)  # until the first screen
        while True:
            screen = _newest(watch, looks, pause)
            live.update(drawn(screen, console.width, rows=console.height), refresh=True)
            pause = seconds


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _newest(watch: Watch, looks: deque[Look], pause: float) -> Screen:
    time.sleep(pause)
    looks.append(_look(watch))
    while len(looks) > 2 and looks[1].at <= looks[-1].at - _SPAN:
        looks.popleft()
    return Screen(looks[0], looks[-1])
