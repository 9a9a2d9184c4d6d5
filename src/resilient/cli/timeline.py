"""`resilient timeline`: what happened, to which process, and who moved which lever."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any, Final

import click

from ..flags.flip import FORCED, Flip
from ..flags.journal import LONGEST
from ..flags.stores.base import Store
from .options import common
from .output import moment, plural, say, say_json, seconds_of
from .store_access import USAGE, StoreAccess, fail, look
from .store_view import StoreView

_MOST: Final = 1000
_ECHO: Final = 10.0  # seconds within which a process applies a flip
_TOGETHER: Final = 5.0  # seconds within which processes that do the same share a line
_GAP: Final = 600.0  # seconds without an entry that end a flood
_NOISY: Final = ("abandoned", "would_open", "flapped")  # kinds that come in floods
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
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
        entries = told(opened, view.now - seconds, name, most)[-most:]
    holding = [each for each in still(view, name) if not _is_told(each, entries)]
    if as_json:
        say_json(entries + holding)
        return
    if not entries:
        say(f"nothing is told of the last {since}")
    for entry in entries:
        say(line(entry, view.now))
    if not view.counts:
        say("this store does not know its processes: which circuits are open is not known")
    if holding:
        say("begun before, and still so:")
    for entry in holding:
        say(line(entry, view.now))


def still(view: StoreView, name: str = "") -> Iterable[dict[str, Any]]:
    """Yield what is still true, whenever it began, and whatever happened since."""
    for lever, flip in sorted(view.flips.items()):
        if view.holding(lever) is not None and name in ("", flip.name):
            yield {**_of_flip(flip), "kind": "still", "processes": []}
    for policy in sorted(view.declared("policies")):
        if name not in ("", policy):
            continue
        said = [(p, p.about["policies"].get(policy)) for p in view.processes]
        for state in ("open", "half_open", "forced_open", "forced_closed"):
            found = [(p, each) for p, each in said if each and each["state"] == state]
            began = [each["since"] for _, each in found if isinstance(each.get("since"), float)]
            if found:
                yield {
                    "at": min(began, default=None), "kind": "still", "policy": policy,
                    "state": state, "reason": str(found[0][1].get("why") or ""),
                    "processes": [p.id for p, _ in found],
                }  # fmt: skip


def told(store: Store, since: float, name: str = "", most: int = 0) -> list[dict[str, Any]]:
    """Return the journal and the log of flips as one list, oldest first."""
    most = LONGEST if name else max(most, _MOST)
    journal = getattr(store, "journal", None)
    entries: list[dict[str, Any]] = [] if journal is None else journal(since, most)
    # After a lost answer of the store a process writes its entries twice.
    once = {(e.get("process"), e.get("number", n)): e for n, e in enumerate(entries)}
    entries = list(once.values())
    flips = [flip for flip in store.log(None, most) if flip.at >= since - _ECHO]
    # A process's event of a flip only repeats the flip.
    entries = [each for each in entries if not _is_echo(each, flips)]
    entries += [_of_flip(flip) for flip in flips if flip.at >= since]
    if name:
        entries = [each for each in entries if name in (each.get("policy"), each.get("flag"))]
    entries.sort(key=lambda each: (each["at"], str(each.get("process")), each.get("number", 0)))
    return _folded(_together(entries))


def _is_echo(entry: dict[str, Any], flips: list[Flip]) -> bool:
    if entry["kind"] not in ("flipped", "forced", "released"):
        return False
    kind = "flag" if entry["kind"] == "flipped" else "key" if entry.get("key") else "forced"
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
    """Yield entries; processes that did the same within moments share one."""
    open_: dict[tuple[Any, ...], dict[str, Any]] = {}
    for entry in entries:
        key = tuple(entry.get(word) for word in ("kind", "policy", "key", "flag", "after", "cause"))
        first = open_.get(key)
        if (
            first is not None
            and "process" in entry
            and entry["at"] - first["at"] <= _TOGETHER
            and entry["process"] not in first["processes"]
        ):
            first["processes"].append(entry["process"])
            first["times"] = _times(first) + _times(entry)
            continue
        fresh = {**entry, "processes": [entry["process"]] if "process" in entry else []}
        open_[key] = fresh
        yield fresh


def _folded(entries: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return entries; repetitions become one entry with a count and an end."""
    kept: list[dict[str, Any]] = []
    runs: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for entry in entries:
        if entry["kind"] not in _NOISY:
            kept.append(entry)
            continue
        key = tuple(entry.get(word) for word in ("kind", "policy", "flag", "guard", "cause"))
        run = runs.setdefault(key, [])
        if run and entry["at"] - run[-1].get("until_at", run[-1]["at"]) > _GAP:
            run.clear()
        if len(run) > 1:  # the last entry of the run takes in the rest
            last = run[-1]
            last["times"] = _times(last) + _times(entry)
            last["until_at"] = entry["at"]
            last["processes"] = list(dict.fromkeys([*last["processes"], *entry["processes"]]))
            for word in ("after", "reason", "evidence"):
                last[word] = entry.get(word, last.get(word))
        else:
            run.append(entry)
            kept.append(entry)
    return kept


def _is_told(holding: dict[str, Any], entries: list[dict[str, Any]]) -> bool:
    """Return whether entries already say what is still true."""
    if "lever" in holding:
        return any(
            each.get("lever") == holding["lever"] and each["at"] == holding["at"]
            for each in entries
        )
    if holding["state"].startswith("forced"):
        lever = f"{FORCED}/{holding['policy']}"
        ordered = [each["value"] for each in entries if each.get("lever") == lever]
        if ordered[-1:] == [holding["state"]]:  # else the process has forced it by itself
            return True
    states = [each.get("after") for each in entries if each.get("policy") == holding["policy"]]
    return holding["state"] in states[-2 * len(holding["processes"]) :]


def _times(entry: dict[str, Any]) -> int:
    """Return the count of an entry; a store may hold anything."""
    times = entry.get("times", 1)
    return times if type(times) is int and times > 0 else 1


def line(entry: dict[str, Any], now: float) -> str:
    """Return an entry as one line."""
    many = len(entry["processes"])
    where = f" in {plural(many, 'process')}" if many > 1 else ""
    why = f": {entry['reason']}" if entry.get("reason") else ""
    at = _at(entry["at"], now)
    if "lever" in entry:
        until = "" if entry["until"] is None else f" until {moment(entry['until'], now)}"
        return f"{at}  {entry['lever']} set to {entry['value']}{until} by {entry['by']}{why}"
    if entry["kind"] == "still":
        return f"{at}  {entry['policy']} {entry['state'].replace('_', '-')}{where}{why}"
    if entry["kind"] in _OWN:
        whose: dict[str, Any] = entry["lost"] if type(entry.get("lost")) is dict else entry
        who = f"{whose.get('host')}, pid {whose.get('pid')} ({whose.get('program')})"
        return f"{at}  {who if many < 2 else plural(many, 'process')} {_OWN[entry['kind']]}"
    name = entry.get("policy") or entry.get("flag")
    if entry.get("key"):
        name = f"{name}[{entry['key']}]"
    word = str(entry["kind"]).replace("_", "-")
    flapped = entry["kind"] == "flapped"
    if flapped:
        word = f"flapped, {_times(entry)} moves more"
    elif _times(entry) > max(1, many):
        word = f"{word} {_times(entry)} times"
    if "until_at" in entry:
        word += f" until {_at(entry['until_at'], now)}"
    if flapped and entry.get("after"):
        word += f", {str(entry['after']).replace('_', '-')} at the end"
    return f"{at}  {name} {word}{where}{why}"


def _at(at: float | None, now: float) -> str:
    if at is None:
        return "        "
    when, today = (datetime.fromtimestamp(each, UTC) for each in (at, now))
    return f"{when:%H:%M:%S}" if when.date() == today.date() else f"{when:%Y-%m-%d %H:%M:%S}"
