"""Texts and tables for a terminal. Control characters from a store never reach it."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

from .. import validation
from ..validation import clean

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0}
_SPAN: Final = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")


def say(text: str) -> None:
    """Print a line."""
    sys.stdout.write(clean(text) + "\n")


def say_json(data: object) -> None:
    """Print data as JSON, in which control characters are escaped."""
    sys.stdout.write(json.dumps(data, indent=2) + "\n")


def moment(at: float | None, now: float) -> str:
    """Return a time in words: the time of day, with the date unless it is today."""
    if at is None:
        return ""
    when, today = datetime.fromtimestamp(at, UTC), datetime.fromtimestamp(now, UTC)
    if when.date() != today.date():
        return f"{when:%Y-%m-%d %H:%M} UTC"
    return f"{when:%H:%M:%S} UTC" if 0 < at - now < 600 else f"{when:%H:%M} UTC"


def seconds_of(option: str, text: str) -> float:
    """Return the seconds of a duration such as ``90s``, ``30m``, ``1h30m`` or ``2d``.

    Raises:
        ValueError: it is not a duration.
    """
    parts = _SPAN.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        validation.refuse(option, text, "a duration such as 90s, 30m, 1h30m or 2d")
    seconds = sum(float(number) * _UNITS[unit] for number, unit in parts)
    return validation.duration(option, seconds)


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a table, without limit of width where no terminal sets one."""
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for column in columns:
        drawn.add_column(column, overflow="fold")
    for row in rows:
        drawn.add_row(*(Text(clean("" if cell is None else cell)) for cell in row))
    console = Console(highlight=False, soft_wrap=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=240)
    console.print(drawn)


def plural(number: int, word: str) -> str:
    """Return a number with a noun in the singular or plural."""
    if number == 1:
        return f"1 {word}"
    ending = "es" if word.endswith("s") else "s"
    return f"{number} {word[:-1]}ies" if word.endswith("y") else f"{number} {word}{ending}"


def order_line(value: str, row: dict[str, Any], now: float) -> str:
    """Return an order in one line: what, until when, by whom and why."""
    until = f" until {moment(row['until'], now)}" if row["until"] is not None else ""
    by = f" by {row['by']}" if row["by"] else ""
    why = f": {row['reason']}" if row["reason"] else ""
    return f"{value}{until}{by}{why}"
