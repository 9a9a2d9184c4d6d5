"""`resilient top`: one screen for whoever is on call."""

from __future__ import annotations

import os
import signal
import time
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING, Final, NoReturn

import click

from ..flags.environment import MEMORY, VARIABLE
from ..monitoring.page_samples import PagePoller, PageSample
from ..monitoring.top_model import Screen
from .outlet import fault
from .output import say, say_json, seconds_of
from .pages import runtime_directory, unread
from .status import known_from_store, levers_in_words
from .store_access import UNREACHED, USAGE, StoreAccess, fail

if TYPE_CHECKING:
    from rich.console import Console

_SPAN: Final = 10.0  # seconds that shares and rates cover


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
    from rich.console import Console

    from .top_screen import drawn  # here, because rich takes a third of the time of other commands

    watch, looks = _begun(as_json=as_json)
    console = Console(highlight=False)
    try:
        if once or as_json:
            time.sleep(seconds)
            screen = Screen(looks[0], _look(watch))
            if as_json:
                say_json(screen.as_data())
            else:
                console.print(drawn(screen, console.width, rows=None, reaching=_reaching()))
            return
        _follow(watch, console, seconds, looks)
    except KeyboardInterrupt:
        return


def _begun(*, as_json: bool) -> tuple[PagePoller, deque[PageSample]]:
    """Take a first sample; if that fails, print why and what is known anyway, and exit."""
    try:
        watch = PagePoller(runtime_directory())
        return watch, deque([_look(watch)])
    except SystemExit as end:
        with suppress(SystemExit):
            known = known_from_store(StoreAccess(None))
            if as_json:
                say_json({"policies": None, "store": {k: known[k] for k in known if k != "pids"}})
            else:
                circuits = known["circuits"]
                open_ = ", ".join(f"{name} {state}" for name, state in circuits.items())
                parts = [f"circuits: {open_}"] if circuits else []
                say("; ".join(["the store knows", *parts, *levers_in_words(known)]))
        raise SystemExit(end.code) from None


def _look(watch: PagePoller) -> PageSample:
    try:
        return watch.look()
    except (OSError, ValueError) as error:
        fail(unread(watch.path, error), UNREACHED)


def _follow(watch: PagePoller, console: Console, seconds: float, looks: deque[PageSample]) -> None:
    from rich.live import Live

    from .top_screen import drawn

    if not console.is_terminal:  # a pipe, or ssh without a terminal: print screen after screen
        while fault() is None:
            pause = min(seconds, 1.0) if len(looks) < 2 else seconds
            screen = _newest(watch, looks, pause)
            console.print(drawn(screen, console.width, rows=None, reaching=_reaching()))
            console.print("")
        return
    signal.signal(signal.SIGTERM, _end)  # so that the terminal is restored
    with Live(console=console, screen=True, auto_refresh=False) as live:
        pause = min(seconds, 1.0)  # until the first screen
        while fault() is None:
            screen = _newest(watch, looks, pause)
            shown = drawn(screen, console.width, rows=console.height, reaching=_reaching())
            live.update(shown, refresh=True)
            pause = seconds


def _reaching() -> bool:
    """Return whether a store is set that both commands and processes can use."""
    return os.environ.get(VARIABLE, "") not in MEMORY


def _end(number: int, frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _newest(watch: PagePoller, looks: deque[PageSample], pause: float) -> Screen:
    time.sleep(pause)
    looks.append(_look(watch))
    while len(looks) > 2 and looks[1].at <= looks[-1].at - _SPAN:
        looks.popleft()
    return Screen(looks[0], looks[-1])
