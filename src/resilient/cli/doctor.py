"""The checks of `resilient doctor`."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from ..flags.reasons import HOLDS
from ..monitoring.page_samples import PagePoller
from .pages import nobody_shares, unread
from .store_view import StoreView, shown_id


def findings(view: StoreView) -> Iterable[str]:
    """Yield sentences on what is wrong."""
    for process in view.silent():
        since = datetime.fromtimestamp(process.seen, UTC)
        yield (
            f"{shown_id(process)} is silent since {since:%Y-%m-%d %H:%M:%S} UTC; if it is gone for "
            f"good: resilient forget {process.id[:8]}"
        )
    for process in view.behind():
        yield f"{shown_id(process)} lags: it has not applied the newest flip yet"
    yield from _disagreeing(view)
    yield from _overdue(view)
    for row in [*view.flags(), *view.policies()]:
        if view.counts and not row["declared"]:
            kind = "flag" if "flag" in row else "policy"
            if row["since"] is not None or row.get("options"):
                yield f"{kind} {row[kind]} is set in the store, and no process declares it"
    for process in view.processes:
        for lever, why in process.about.get("faults", {}).items():
            yield f"{shown_id(process)} can't obey {lever}: {why}"
        if process.about.get("active") is False:
            yield (
                f"{shown_id(process)} lets every call pass its guards: it was switched off there "
                "by RESILIENT_DISABLED or set_active(False)"
            )
        for variable in process.about.get("unmatched", []):
            yield f"{shown_id(process)} has {variable} set, and declares no such flag"
        if process.about.get("copy_error"):
            yield f"{shown_id(process)} keeps no local copy: {process.about['copy_error']}"
    if view.counts and not view.processes:
        yield "no process follows this store"


def cores(view: StoreView) -> dict[str, str]:
    """Return, by process, "compiled" or why Python's twin runs its calls; "" if it does not say."""
    return {shown_id(process): process.about.get("core", "") for process in view.processes}


def told_of_cores(known: dict[str, str]) -> Iterable[str]:
    """Yield sentences on which processes run the compiled core."""
    compiled = sum(core == "compiled" for core in known.values())
    if known:
        yield f"the compiled core runs in {compiled} of {len(known)} processes"
    for process, why in known.items():
        if why != "compiled":
            yield f"  not in {process}: {why or 'it is of a version that does not say'}"


def in_pages(path: Path) -> Iterable[str]:
    """Yield sentences on what is wrong with the counts that processes share."""
    try:
        path.stat()
        seen = PagePoller(path).look()
    except FileNotFoundError:
        yield nobody_shares(path)
        return
    except (OSError, ValueError) as error:
        yield unread(path, error)
        return
    for process in seen.processes:
        if process.silent:
            yield (
                f"process {process.pid} ({process.program}) hangs: nothing heard for "
                f"{process.silent:.0f} s"
            )
    for page, why in seen.unread.items():
        yield f"page {page} can't be read, so counts are missing: {why}"


def _disagreeing(view: StoreView) -> Iterable[str]:
    for row in view.flags():
        wanted = row["state"] == "on"
        for process in view.processes:
            said: dict[str, Any] | None = process.about.get("flags", {}).get(row["flag"])
            if said is None or said["on"] == wanted or process in view.behind():
                continue
            holder = HOLDS.get(said["source"])
            why = "disagrees" if holder is None else f"{holder} holds it off"
            yield (
                f"flag {row['flag']} is {row['state']} in the store, but "
                f"{'on' if said['on'] else 'off'} in {shown_id(process)}: {why}"
            )


def _overdue(view: StoreView) -> Iterable[str]:
    today = datetime.now(UTC).date().isoformat()
    for row in view.flags():
        if row["review"] is not None and row["review"] <= today:
            owner = f", owner {row['owner']}" if row["owner"] else ""
            yield f"flag {row['flag']} is due for a review since {row['review']}{owner}"
