"""`resilient status`: one line and an exit code."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from ..flags.here import MEMORY, VARIABLE
from ..flags.stores.opening import runtime_for
from ..monitoring.looks import ENOUGH, Watch
from ..monitoring.screen import Screen
from .options import common
from .printing import plural, say, say_json, seconds_of
from .reach import FINDINGS, NOT_ALL, UNREACHED, USAGE, Reach, fail, look


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

    What customers get, and which circuits are open, is known where processes share their counts.
    """
    try:
        seconds = seconds_of("--over", over)
    except ValueError as error:
        fail(str(error), USAGE)
    pages = _pages(store)
    alone = pages is not None and (store or os.environ.get(VARIABLE, "")) in MEMORY
    shown = None if pages is None else _tried(lambda: _customers(pages, seconds))
    levers = None if alone else _tried(lambda: _levers(Reach(store)))
    failed = [each for each in (shown, levers) if isinstance(each, int)]
    parts, data, codes = list[str](), dict[str, Any](), list[int](failed)
    if isinstance(shown, dict):
        parts, data = shown["parts"], shown["data"]
        codes.append(shown["code"])
    if isinstance(levers, dict):
        parts, data = [*parts, *_parts(levers)], {**levers, **data}
        codes.append(_code(levers))
    code = max(codes, default=0)
    if as_json and data:
        say_json({**data, "exit": code})
    elif parts and not as_json:
        say("; ".join(parts))
    raise SystemExit(code)


def _tried(part: Callable[[], dict[str, Any]]) -> dict[str, Any] | int:
    """Return what one part knows, or the code of its failure, which it has told."""
    try:
        return part()
    except SystemExit as failure:
        return failure.code if isinstance(failure.code, int) else UNREACHED


def _pages(store: str | None) -> Path | None:
    try:
        path = runtime_for(store or os.environ.get(VARIABLE, ""), os.environ)
    except ValueError as error:
        fail(str(error), USAGE)
    return path if path is not None and os.path.isdir(path) else None


def _customers(path: Path, seconds: float) -> dict[str, Any]:
    """Return what customers got in a time, and the circuits that are not closed."""
    watch = Watch(path)
    try:
        before = watch.look()
        time.sleep(seconds)
        screen = Screen(before, watch.look())
    except (OSError, ValueError) as error:
        fail(f"the pages can't be read: {error}", UNREACHED)
    data = screen.as_data()
    moved = {
        row.policy.name: row.state for row in screen.worst if row.state.startswith(("open", "half"))
    }
    silent = [process.pid for process in screen.silent]
    if screen.calls:
        words = (f"{word} {n / screen.calls:.1%}" for word, n in screen.served.items())
        parts = [f"customers: {', '.join(words)} of {screen.calls / screen.seconds:.0f} calls/s"]
    else:
        parts = ["customers: no calls" if screen.processes else "customers: no data"]
    if moved:
        parts.append("circuits: " + ", ".join(f"{name} {state}" for name, state in moved.items()))
    if silent:
        parts.append(f"hanging: pid {', '.join(map(str, silent))}")
    harm = moved or silent or _hurts(screen)
    return {
        "parts": parts,
        "code": FINDINGS if harm else 0 if screen.processes else NOT_ALL,
        "data": {"customers": data["customers"], "circuits": moved, "hanging": silent},
    }


def _hurts(screen: Screen) -> bool:
    """Tell whether customers are hurt: a single error among many calls is no news."""
    limits = {"error": 0.01, "degraded": 0.05}
    return screen.calls >= ENOUGH and any(
        screen.served[word] / screen.calls >= limit for word, limit in limits.items()
    )


def _levers(reach: Reach) -> dict[str, Any]:
    """Return what operators have set, and whether every process obeys."""
    with reach.store() as opened:
        view = look(reach, opened)
        unread = sorted(getattr(opened.read("", -1), "unread", ()))
    off = [
        row["flag"]
        for row in view.flags()
        if (row["state"] == "off" and row["since"]) or row["pinned_in"]
    ]
    return {
        "off": off,
        "unread": unread,
        "forced": [row["policy"] for row in view.policies() if row["forced"] or row["options"]],
        "processes": len(view.processes) if view.counts else None,
        "silent": len(view.silent()),
        "behind": len(view.behind()),
    }


def _code(levers: dict[str, Any]) -> int:
    if levers["silent"] or levers["behind"] or levers["processes"] == 0:
        return NOT_ALL
    return FINDINGS if levers["off"] or levers["forced"] or levers["unread"] else 0


def _parts(levers: dict[str, Any]) -> list[str]:
    off, forced, number = levers["off"], levers["forced"], levers["processes"]
    parts = [
        f"off: {', '.join(off)}" if off else "no flag is off",
        f"forced or changed: {', '.join(forced)}" if forced else "no policy is forced",
        *([f"can't be read: {', '.join(levers['unread'])}"] if levers["unread"] else []),
        "processes not known" if number is None else plural(number, "process"),
    ]
    if number is not None:
        slow = [f"{levers[word]} {word}" for word in ("silent", "behind") if levers[word]]
        parts.append(" and ".join(slow) or ("all in step" if number else "nobody obeys"))
    return parts
