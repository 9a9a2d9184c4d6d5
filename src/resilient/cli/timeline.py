"""`resilient timeline`: what happened, to which process, and who moved which lever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import click

from ..flags.flips import Flip
from ..flags.journal import LONGEST
from ..flags.stores.base import Store
from .options import common
from .printing import moment, plural, say, say_json, seconds_of
from .reach import USAGE, Reach, fail

_MOST: Final = 1000
_ECHO: Final = 10.0  # seconds within which a process hears of a flip
_TOGETHER: Final = 5.0  # seconds in which processes that do the same are told in one line
_OWN: Final = {
    "process_started": "started", "process_left": "ended",
    "process_lost": "died without a goodbye",
}  # fmt: skip


@click.command()
@click.option("--since", default="1h", show_default=True, metavar="TIME", help="How long ago.")
@click.option("--policy", "name", default="", metavar="NAME", help="Only this policy or flag.")
@click.option("--most", default=200, show_default=True, type=click.IntRange(1, 10_000),
              help="How many entries at the most, the newest.")  # fmt: skip
@common
def timeline(since: str, name: str, most: int, store: str | None, as_json: bool) -> None:
    """Tell what happened in all processes, oldest first: circuits, flips, orders, processes."""
    try:
        seconds = seconds_of("--since", since)
    except ValueError as error:
        fail(str(error), USAGE)
    reach = Reach(store)
    with reach.store() as opened:
        _, now = opened.processes()
        entries = told(opened, now - seconds, name, most)[-most:]
    if as_json:
        say_json(entries)
        return
    if not entries:
        say(f"nothing is told of the last {since}")
    for entry in entries:
        say(line(entry, now))


def told(store: Store, since: float, name: str = "", most: int = 0) -> list[dict[str, Any]]:
    """Return the journal and the log of flips as one, oldest first."""
    most = LONGEST if name else max(most, _MOST)
    journal = getattr(store, "journal", None)
    entries: list[dict[str, Any]] = [] if journal is None else journal(since, most)
    # An answer of the store that was lost has it told twice.
    once = {(e.get("process"), e.get("number", n)): e for n, e in enumerate(entries)}
    entries = list(once.values())
    flips = [flip for flip in store.log(None, most) if flip.at >= since - _ECHO]
    # What a process heard of a flip is the flip's echo.
    entries = [each for each in entries if not _is_echo(each, flips)]
    entries += [_of_flip(flip) for flip in flips if flip.at >= since]
    if name:
        entries = [each for each in entries if name in (each.get("policy"), each.get("flag"))]
    entries.sort(key=lambda each: (each["at"], str(each.get("process")), each.get("number", 0)))
    return list(_together(entries))


def _is_echo(entry: dict[str, Any], flips: list[Flip]) -> bool:
    if entry["kind"] not in ("flipped", "forced", "released"):
        return False
    kind = "flag" if entry["kind"] == "flipped" else "forced"
    name = entry.get("flag") or entry.get("policy")
    return any(
        flip.kind == kind and flip.name == name and 0 <= entry["at"] - flip.at < _ECHO
        for flip in flips
    )


def _of_flip(flip: Flip) -> dict[str, Any]:
    what = "flag" if flip.kind == "flag" else "policy"
    return {
        "at": flip.at, "kind": "lever", "lever": flip.lever, "value": flip.value, "by": flip.by,
        "reason": flip.reason, "until": flip.until, what: flip.name,
    }  # fmt: skip


def _together(entries: Iterable[dict[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield entries, those of processes that did the same within moments as one."""
    open_: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = tuple(entry.get(word) for word in ("kind", "policy", "flag", "after", "cause"))
        first = open_.get(key)
        if (
            first is not None
            and "process" in entry
            and entry["at"] - first["at"] <= _TOGETHER
            and entry["process"] not in first["processes"]
        ):
            first["processes"].append(entry["process"])
            continue
        fresh = {**entry, "processes": [entry["process"]] if "process" in entry else []}
        open_[key] = fresh
        yield fresh


def line(entry: dict[str, Any], now: float) -> str:
    """Return an entry in one line."""
    when, today = (datetime.fromtimestamp(each, UTC) for each in (entry["at"], now))
    at = f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M:%S}"
    many = len(entry["processes"])
    where = f" in {plural(many, 'process')}" if many > 1 else ""
    if entry["kind"] == "lever":
        until = "" if entry["until"] is None else f" until {moment(entry['until'], now)}"
        why = f": {entry['reason']}" if entry["reason"] else ""
        return f"{at}  {entry['lever']} set to {entry['value']}{until} by {entry['by']}{why}"
    if entry["kind"] in _OWN:
        whose: dict[str, Any] = entry["lost"] if type(entry.get("lost")) is dict else entry
        who = f"{whose.get('host')}, pid {whose.get('pid')} ({whose.get('program')})"
        return f"{at}  {who if many < 2 else plural(many, 'process')} {_OWN[entry['kind']]}"
    name = entry.get("policy") or entry.get("flag")
    word = str(entry["kind"]).replace("_", "-")
    if entry["kind"] == "flapped":
        word = f"flapped, {entry.get('times')} moves more"
    why = f": {entry['reason']}" if entry.get("reason") else ""
    return f"{at}  {name} {word}{where}{why}"
