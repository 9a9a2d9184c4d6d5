"""The screen of `resilient top`, as rich draws it."""

from __future__ import annotations

import shlex
import time
from typing import Final

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from ..monitoring.page_samples import ENOUGH, Quantile
from ..monitoring.top_model import Row, Screen, percent
from ..validation import clean
from .output import plural

_NAME: Final = 24  # columns that a name gets before other columns are left out, in this order
_DROPPED: Final = ("fallback", "p50", "in flight", "for", "p99", "rate/s")
_SERVED: Final = ("full", "degr", "err %")
_ANSWER: Final = 24
_MOST: Final = 5  # levers shown
_NAMED: Final = 3  # flags that are off, and processes that hang, shown by name
_UNREACHING: Final = "# no store is set (RESILIENT_STORE): these reach no process as it is"
_UNSYNCED: Final = 10.0  # seconds without a read of the store that the screen mentions
_FRAME: Final = 9  # lines besides policies, levers and warnings
_NONE: Final = "·"  # for no living process
_FEW: Final = "few"  # too few calls to say
_STYLES: Final = {"error": "bold red", "degraded": "yellow", "full": "green"}


def drawn(screen: Screen, width: int, rows: int | None, *, reaching: bool = True) -> RenderableType:
    """Return the screen for a width, in at most so many lines.

    If no store is set that levers can use, reaching is False.
    """
    warnings = _warnings(screen)
    levers = [_lever(row, width) for row in screen.worst[:_MOST]]
    shown = screen.worst
    if rows is not None:  # levers get up to half of the room
        room = rows - len(warnings) - _FRAME - (not reaching)
        while len(levers) > 1 and sum(map(len, levers)) > room // 2:
            levers.pop()
        shown = screen.worst[: max(1, room - sum(map(len, levers)))]
    parts: list[RenderableType] = [_head(screen), _customers(screen), *warnings, Text("")]
    if shown:
        parts.append(_table(shown, screen, width))
    hidden = len(screen.worst) - len(shown)
    if hidden:
        parts.append(Text(f"... and {hidden} more that are not well", style="bold"))
    parts.append(_well(screen.well, screen))
    if levers:
        parts += [Text(""), Text("LEVERS", style="bold")]
        if not reaching:
            parts.append(Text(_UNREACHING, style="yellow", no_wrap=True, overflow="ellipsis"))
        parts += [line for each in levers for line in each]
    return Group(*parts)


def _head(screen: Screen) -> Text:
    at = time.strftime("%H:%M:%S UTC", time.gmtime(screen.wall))
    text = Text(f"{at}  {plural(len(screen.processes), 'process')}", style="bold")
    text.append(f"  over {screen.seconds:.0f} s", style="dim")
    return text


def _customers(screen: Screen) -> Text:
    text = Text("CUSTOMERS  ", style="bold")
    if not screen.processes:
        return text.append("no data: no process of this host shares its counts", style="bold red")
    if not screen.calls:
        return text.append("no calls", style="dim")
    if screen.calls < ENOUGH:
        return text.append(f"{screen.calls:.0f} calls, too few to say", style="dim")
    for word in ("full", "degraded", "error"):
        share = screen.served[word] / screen.calls
        text.append(f"{word} {percent(share)} %  ", style=_STYLES[word] if share else "dim")
    return text.append(f"of {_number(screen.calls / screen.seconds)} calls/s", style="dim")


def _warnings(screen: Screen) -> list[Text]:
    found = [
        Text(
            f"process {process.pid} ({clean(process.program)}) hangs: nothing heard for "
            f"{process.silent:.0f} s",
            style="bold red",
        )
        for process in screen.silent[:_NAMED]
    ]
    if len(screen.silent) > _NAMED:
        found.append(Text(f"... and {len(screen.silent) - _NAMED} more hang", style="bold red"))
    if screen.flags_off:
        names = clean(", ".join(screen.flags_off[:_NAMED]))
        more = len(screen.flags_off) - _NAMED
        found.append(Text(f"off: {names}{f' and {more} more' if more > 0 else ''}", style="yellow"))
    if screen.inactive:
        many = plural(screen.inactive, "process")
        found.append(Text(f"guards are switched off in {many}", style="bold red"))
    if screen.unsynced > _UNSYNCED:
        found.append(
            Text(
                f"a process last read the store {screen.unsynced:.0f} s ago: "
                "levers may not reach it",
                style="bold red",
            )
        )
    if screen.unread:
        found.append(Text(f"{plural(len(screen.unread), 'page')} can't be read", style="bold red"))
    return found


def _table(rows: list[Row], screen: Screen, width: int) -> Table:
    """Return the table of policies; without room it leaves columns out rather than cut them."""
    columns: dict[str, list[Text]] = {
        "t": [Text("" if row.policy.tier is None else str(row.policy.tier)) for row in rows],
        "state": [_state(row) for row in rows],
        "for": [Text(_age(row.since, screen.wall)) for row in rows],
        "rate/s": [Text(_rate(row)) for row in rows],
        **{title: [_shares(row)[n] for row in rows] for n, title in enumerate(_SERVED)},
        "p50": [Text(_time(row.p50, row)) for row in rows],
        "p99": [Text(_time(row.p99, row)) for row in rows],
        "in flight": [Text(_slots(row)) for row in rows],
        "fallback": [Text(_short(clean(row.policy.fallback) or "-", _ANSWER)) for row in rows],
    }
    longest = min(_NAME, max(len(clean(row.policy.name)) for row in rows))
    for title in _DROPPED:
        if _room(columns, width) < longest:
            del columns[title]
    room = max(10, _room(columns, width))
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 1, 0, 0))
    names = [Text(_short(clean(row.policy.name), room)) for row in rows]
    placed = {"t": columns.pop("t"), "policy": names, **columns}
    for title in placed:
        left = title in ("t", "policy", "state", "fallback")
        table.add_column(title, no_wrap=True, justify="left" if left else "right")
    for line in zip(*placed.values(), strict=True):
        table.add_row(*line)
    return table


def _room(columns: dict[str, list[Text]], width: int) -> int:
    """Return how many columns of the screen remain for the names."""
    taken = (max(len(title), *map(len, cells)) + 1 for title, cells in columns.items())
    return width - sum(taken) - 1


def _lever(row: Row, width: int) -> list[Text]:
    """Return what the operator can do: a command to copy, with notes."""
    found: list[Text] = []
    told = [row.policy.impact] if row.policy.cuttable else []  # shown while it is cut off
    keys = [f"keys: {'; '.join(row.policy.keys[:_NAMED])}"] if row.policy.keys else []
    for said in [*told, row.note, *keys]:
        if said:
            line = f"# {clean(row.policy.name)}: {clean(said)}".rstrip("\\ ")
            found.append(Text(line, style="dim", no_wrap=True, overflow="ellipsis"))
    return found + [Text(line, no_wrap=True) for line in _folded(clean(row.lever), width)]


def _folded(command: str, width: int) -> list[str]:
    """Return a command split into lines that paste as one command."""
    lines: list[str] = []
    while len(command) > width:
        cut = width - 2
        while cut >= 3 and not (command[cut] == " " and _ends_a_word(command[:cut])):
            cut -= 1
        if cut < 3:  # nothing but indentation would remain
            break
        lines.append(command[:cut] + " \\")
        command = "  " + command[cut + 1 :]
    return [*lines, command]


def _ends_a_word(command: str) -> bool:
    """Return whether a prefix of a command ends between two words, outside quotes."""
    try:
        shlex.split(command)
    except ValueError:
        return False
    return True


def _short(name: str, width: int) -> str:
    """Return a name cut at its front, the common part of functions' names."""
    return name if len(name) <= width else "…" + name[1 - width :]


def _state(row: Row) -> Text:
    word = row.state or ("-" if row.live else _NONE)
    loud = word.startswith(("open", "forced open"))
    mild = word.startswith(("half", "flag", "forced", "metrics"))
    return Text(word.upper() if loud else word, style="bold red" if loud else "yellow" * mild)


def _shares(row: Row) -> list[Text]:
    if not row.calls:
        return [Text(_NONE if not row.live else "-", style="dim")] * 3
    if not row.enough:
        return [Text(_FEW, style="dim")] * 3
    shares = {"full": row.full, "degraded": row.degraded, "error": row.error}
    return [Text(percent(n), style=_STYLES[word] if n else "dim") for word, n in shares.items()]


def _rate(row: Row) -> str:
    return _NONE if not row.live and not row.rate else _number(row.rate)


def _number(value: float) -> str:
    """Return a number in at most four characters, as 0 only if it is 0."""
    if value >= 999_500:
        return f"{value / 1e6:.1f}M" if value < 99.95e6 else f"{value / 1e6:.0f}M"
    if value >= 9_999.5:
        return f"{value / 1e3:.0f}k"
    if value >= 9.95 or value == int(value):
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 0.1 else "<.1"


def _time(found: Quantile | None, row: Row) -> str:
    if found is None:
        return _FEW if row.let_in else "-"
    text = f"{found * 1000:.0f}ms" if found < 1 else f"{found:.1f}s"
    return f">={text}" if found.at_least else text


def _slots(row: Row) -> str:
    limit = "" if row.limit is None else f"/{_number(row.limit)}"
    hang = f"+{_number(row.abandoned)}" if row.abandoned else ""
    return f"{_number(row.in_flight)}{hang}{limit}"


def _age(since: float | None, now: float) -> str:
    if since is None:
        return ""
    seconds = max(0, round(now - since))
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    return f"{seconds // 3600}h{seconds % 3600 // 60:02}m"


def _well(rows: list[Row], screen: Screen) -> Text:
    if not rows:
        return Text("")
    if not screen.processes:
        told = f"{plural(len(rows), 'policy')} of processes that have ended: see the timeline"
        return Text(told, style="bold")
    if all(process.silent for process in screen.processes):
        told = f"{plural(len(rows), 'policy')} of processes that hang: how they are is not known"
        return Text(told, style="bold red")
    quiet = sum(1 for row in rows if not row.rate)
    busy = [row for row in rows if row.rate]
    text = Text(f"{plural(len(rows), 'policy')} well", style="green")
    if busy:
        names = ", ".join(f"{clean(row.policy.name)} {_rate(row)}/s" for row in busy[:3])
        text.append(f": {names}{', ...' if len(busy) > 3 else ''}", style="dim")
    if quiet:
        text.append(f"; {quiet} without a call", style="dim")
    return text
