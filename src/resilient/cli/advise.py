"""`resilient policies advise`."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any, cast

import click

from ..flags.stores.base import Process
from ..monitoring.advice import ENOUGH, Advice, Seen, advise
from ..monitoring.page_samples import Numbers, numbers
from ..pages.directory import Directory
from .options import common, given
from .output import plural, say, say_json
from .pages import runtime_directory, unread
from .store_access import FINDINGS, NOT_ALL, UNREACHED, StoreAccess, fail, look


@click.command()
@click.argument("name")
@common
@click.pass_context
def command(context: click.Context, /, name: str, store: str | None, as_json: bool) -> None:
    """Say what in a policy can't work as it seems to, by what its processes have counted.

    The counts are those of the living processes of this host; the options are those that the
    processes report to the store. Exits with 1 if there is advice, with 3 if it can't be given, or
    not on all of its guards.
    """
    around = given(context)
    as_json = as_json or around[1]
    each, seconds, fallback = _counted(name)
    processes = len(each)
    if not processes:
        fail(f"no living process of this host has called a policy named {name}", NOT_ALL)
    stack = _stack(StoreAccess(store or around[0]), name)
    if stack is None:
        fail(f"no process has reported the options of {name} to the store", NOT_ALL)
    seen = Seen(each, seconds, fallback, stack)
    found, left_out = advise(seen)
    if as_json:
        told = [{"guard": each.guard, "text": each.text} for each in found]
        known: dict[str, Any] = {
            "calls": seen.calls,
            "processes": processes,
            "seconds": seen.seconds,
        }
        known |= {"enough": seen.calls >= ENOUGH, "left_out": left_out}
        say_json({"policy": name, **known, "advice": told})
    else:
        _tell(name, seen, processes, found, left_out)
    if seen.calls < ENOUGH:
        raise SystemExit(NOT_ALL)
    raise SystemExit(FINDINGS if found else NOT_ALL if left_out else 0)


def _tell(
    name: str, seen: Seen, processes: int, found: list[Advice], left_out: list[str]
) -> None:  # fmt: skip
    many = f"{seen.calls:.0f} calls of {plural(processes, 'living process')}"
    if seen.calls < ENOUGH:
        say(f"{name}: {many}, too few for advice, which needs {ENOUGH}")
        return
    say(f"{name}, by {many}:")
    for each in found:
        say(f"  {each.guard}: {each.text}")
    if not found:
        say("  nothing that these counts show")
    if left_out:
        say(f"  not looked at: {', '.join(left_out)}, of which these counts can't show anything")


def _counted(name: str) -> tuple[list[Numbers], float, str]:
    """Return the numbers of each living process, how long they have run, and what answers."""
    path = runtime_directory()
    try:
        pages, _ = Directory(path).read()
    except (OSError, ValueError) as error:
        fail(unread(path, error), UNREACHED)
    each: list[Numbers] = []
    seconds, fallback = 0.0, ""
    for page in pages:
        for entry in page.entries if page.alive else ():
            if entry.kind == "policy" and entry.name == name:
                each.append(numbers(entry))
                began: Any = page.about.get("started")
                seconds += max(0.0, time.time() - began) if isinstance(began, float) else 0.0
                fallback = str(entry.about.get("fallback") or fallback)
    return each, seconds, fallback


def _stack(reach: StoreAccess, name: str) -> dict[str, Mapping[str, Any]] | None:
    """Return the options in force, by the kind of guard, of a process that reports them."""
    with reach.store() as opened:
        view = look(reach, opened)
    for process in view.processes:
        found = _stack_of(process, name)
        if found is not None:
            return found
    return None


def _stack_of(process: Process, name: str) -> dict[str, Mapping[str, Any]] | None:
    about = process.about.get("policies", {}).get(name)
    stacks: Any = process.about.get("stacks", {})
    stack: Any = None if about is None else stacks.get(str(about.get("stack")))
    if not isinstance(stack, list):
        return None
    found: dict[str, Mapping[str, Any]] = {}
    for row in cast("list[object]", stack):
        if isinstance(row, dict):
            said = cast("dict[str, Any]", row)
            options: Any = said.get("options")
            if isinstance(said.get("guard"), str) and isinstance(options, dict):
                found[said["guard"]] = cast("dict[str, Any]", options)
    return found
