"""`resilient status`: one line and an exit code."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from ..flags.environment import MEMORY, RUNTIME, VARIABLE
from ..monitoring.page_samples import ENOUGH, PagePoller
from ..monitoring.top_model import Screen
from .options import common
from .output import plural, say, say_json, seconds_of
from .pages import directory_of, nobody_shares, unread
from .store_access import FINDINGS, NOT_ALL, UNREACHED, USAGE, StoreAccess, fail, look

_LONGEST: Final = 10.0  # seconds that it watches at most while there are few calls
_MOSTLY: Final = 10.0  # factor on the limits of harm while there are few calls


@click.command()
@click.option(
    "--over",
    default="1s",
    show_default=True,
    metavar="TIME",
    help="How long to watch what customers get, where processes share their counts.",
)
@common
def status(over: str, store: str | None, as_json: bool) -> None:
    """Say in one line what customers get, what is off, forced or open, and whether all obey.

    What customers get is known where processes share their counts, and of this host alone; which
    circuits are open is also known from a store that knows its processes.
    """
    try:
        seconds = seconds_of("--over", over)
    except ValueError as error:
        fail(str(error), USAGE)
    pages = directory_of(store)
    no_store = (store or os.environ.get(VARIABLE, "")) in MEMORY
    shown = None if pages is None else _tried(lambda: _customers(pages, seconds))
    alone = no_store and pages is not None
    levers = None if alone else _tried(lambda: known_from_store(StoreAccess(store)))
    codes = [each for each in (shown, levers) if isinstance(each, int)]
    screen = shown if isinstance(shown, Screen) else None
    known = levers if isinstance(levers, dict) else None
    parts, data = list[str](), dict[str, Any]()
    if screen is not None or known is not None:
        parts, data = _joined(screen, known, codes)
        if screen is None:
            why = f": no pages of processes here ({RUNTIME})" if pages is None else ""
            parts.append(f"what customers get is not known{why}")
    code = max(codes, default=0)
    if as_json and data:
        say_json({**data, "exit": code})
    elif parts and not as_json:
        say("; ".join(parts))
    raise SystemExit(code)


T = TypeVar("T")


def _tried(part: Callable[[], T]) -> T | int:
    """Return what one part knows, or its exit code if it failed and has said so."""
    try:
        return part()
    except SystemExit as failure:
        return failure.code if isinstance(failure.code, int) else UNREACHED


def _customers(path: Path, seconds: float) -> Screen:
    """Return how customers were served during some seconds, and the states of the policies.

    If some of few calls went wrong, it watches on until there are enough to judge.
    """
    watch = PagePoller(path)
    try:
        path.stat()
        before, looked = watch.look(), 0.0
        while True:
            time.sleep(seconds)
            looked += seconds
            screen = Screen(before, watch.look())
            if not 0 < screen.calls < ENOUGH or not _harm(screen, 0.0) or looked >= _LONGEST:
                return screen
    except FileNotFoundError:
        fail(nobody_shares(path), UNREACHED)
    except (OSError, ValueError) as error:
        fail(unread(path, error), UNREACHED)


def _joined(
    screen: Screen | None, known: dict[str, Any] | None, codes: list[int]
) -> tuple[list[str], dict[str, Any]]:
    """Return the texts and the data of the status; add the exit codes that they mean."""
    here = {} if screen is None else _moved(screen)
    circuits: dict[str, str] = {**here, **({} if known is None else known["circuits"])}
    silent = [] if screen is None else [process.pid for process in screen.silent]
    unseen = _unseen(screen, known)
    data: dict[str, Any] = {
        **({} if known is None else {k: v for k, v in known.items() if k != "pids"}),
        "customers": None if screen is None else screen.as_data()["customers"],
        "circuits": circuits, "hanging": silent, "unseen": unseen,
        "inactive": max(
            0 if screen is None else screen.inactive, 0 if known is None else known["inactive"]
        ),
    }  # fmt: skip
    parts = [] if screen is None else [_served(screen)]
    if circuits:
        parts.append("circuits: " + ", ".join(map(" ".join, circuits.items())))
    if silent:
        parts.append(f"hanging: pid {', '.join(map(str, silent))}")
    if screen is not None and screen.unread:
        parts.append(f"{plural(len(screen.unread), 'page')} can't be read")
    if unseen:
        parts.append(f"what {plural(unseen, 'process')} of other hosts or users served is not seen")
    if data["inactive"]:
        parts.append(f"guards are switched off in {plural(data['inactive'], 'process')}")
        codes.append(FINDINGS)
    if known is not None:
        parts += levers_in_words(known)
        codes.append(_code(known))
    else:
        parts.append("what is off or forced is not known")
    if circuits or silent or (screen is not None and (screen.unread or _hurts(screen))):
        codes.append(FINDINGS)
    if screen is not None and not screen.processes:
        codes.append(NOT_ALL)
    return parts, data


def _served(screen: Screen) -> str:
    if not screen.processes:
        return "customers: no data"
    if not screen.calls:
        return "customers: no calls meanwhile (a longer --over may see some)"
    words = (f"{word} {n / screen.calls:.1%}" for word, n in screen.served.items())
    return f"customers: {', '.join(words)} of {screen.calls / screen.seconds:.0f} calls/s"


def _moved(screen: Screen) -> dict[str, str]:
    return {
        row.policy.name: row.state for row in screen.worst if row.state.startswith(("open", "half"))
    }


def _unseen(screen: Screen | None, known: dict[str, Any] | None) -> int:
    """Return how many processes follow the store but have no page here."""
    if screen is None or known is None:
        return 0
    here = {process.pid for process in screen.processes}
    return sum(1 for pid in known["pids"] if pid not in here)


def _hurts(screen: Screen) -> bool:
    """Return whether customers are hurt; a single error among many calls does not count."""
    return _harm(screen, 1.0) if screen.calls >= ENOUGH else _harm(screen, _MOSTLY)


def _harm(screen: Screen, times: float) -> bool:
    """Return whether harm exceeds so many times the usual share."""
    limits = {"error": 0.01, "degraded": 0.05}
    return any(
        n > 0 and n / screen.calls >= limit * times
        for n, limit in ((screen.served[word], limit) for word, limit in limits.items())
    )


def known_from_store(reach: StoreAccess) -> dict[str, Any]:
    """Return what a store knows: circuits, operators' orders, and which processes obey."""
    with reach.store() as opened:
        view = look(reach, opened)
        unread = sorted(getattr(opened.read("", -1), "unread", ()))
    flags = view.flags()
    ordered_off = [row["flag"] for row in flags if row["state"] == "off" and row["since"]]
    held = {row["flag"]: row["pinned_in"] for row in flags if row["pinned_in"]}
    rows = view.policies()
    ordered = [row["policy"] for row in rows if row["forced"] or row["options"] or row["keys"]]
    itself = [
        row["policy"]
        for row in rows
        if row["policy"] not in ordered and any(s.startswith("forced") for s in row["states"])
    ]
    return {
        "circuits": {row["policy"]: _state(row["states"]) for row in rows if _state(row["states"])},
        "off": [*ordered_off, *(name for name in held if name not in ordered_off)],
        "held_off": held,
        "unread": unread,
        "forced": [*ordered, *itself],
        "processes": len(view.processes) if view.counts else None,
        "silent": len(view.silent()),
        "behind": len(view.behind()),
        "faulty": sum(1 for process in view.processes if process.about.get("faults")),
        "inactive": sum(process.about.get("active") is False for process in view.processes),
        "pids": [process.pid for process in view.processes],
    }


def _state(states: dict[str, int]) -> str:
    """Return in how many processes a circuit is open or half-open, in the words of `top`."""
    whole = sum(states.values())
    for word in ("open", "half_open"):
        if states.get(word):
            shown = word.replace("_", "-")
            return shown if whole == 1 else f"{shown} {states[word]}/{whole}"
    return ""


def _code(known: dict[str, Any]) -> int:
    late = known["silent"] or known["behind"] or known["faulty"]
    if late or known["processes"] == 0:
        return NOT_ALL
    return FINDINGS if known["off"] or known["forced"] or known["unread"] else 0


def levers_in_words(known: dict[str, Any]) -> list[str]:
    """Return operators' orders, and which processes obey, in words."""
    forced, number = known["forced"], known["processes"]
    off = [
        f"{name} (held off in {plural(known['held_off'][name], 'process')}, by no order)"
        if name in known["held_off"]
        else name
        for name in known["off"]
    ]
    parts = [
        f"off: {', '.join(off)}" if off else "no flag is off",
        f"forced or changed: {', '.join(forced)}" if forced else "no policy is forced",
        *([f"can't be read: {', '.join(known['unread'])}"] if known["unread"] else []),
    ]
    parts.append("processes not known" if number is None else plural(number, "process"))
    if number is not None:
        words = {"silent": "silent", "behind": "behind", "faulty": "can't obey an order"}
        slow = [f"{known[word]} {said}" for word, said in words.items() if known[word]]
        parts.append(" and ".join(slow) or ("all in step" if number else "nobody obeys"))
    return parts
