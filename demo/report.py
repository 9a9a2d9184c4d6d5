"""What is printed: before the run, and all that was measured after it."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from .measure import HANG, SERVED, Figures, Run, Side, samples
from .schedule import phases
from .service import CLIENT_TIMEOUT

_QUIET: Final = ("_created", "_sum", "resilient_wait_")


def opening(console: Console, seconds: float, rate: float) -> None:
    """Say what is about to happen."""
    plan = ", ".join(f"{phase.name} {phase.end - phase.start:.3g} s" for phase in phases(seconds))
    console.print(
        f"Two services with {rate:g} customers a second each, and an upstream for each:\n{plan}.\n"
        f"Unprotected: httpx with a timeout of {CLIENT_TIMEOUT:g} s. "
        "Protected: the same under one policy.\n",
        highlight=False,
    )


def closing(console: Console, run: Run) -> None:
    """Print everything that was measured."""
    console.print(answers(run))
    console.print(summary(run) + "\n", highlight=False)
    console.print(by_phase(run))
    console.print("\nWhen the policy acted", style="bold")
    for move in run.protected.moves:
        did = f"circuit {move.kind.replace('_', '-')}: {move.reason}"
        if not move.after:
            did = f"{move.guard} {move.kind} a call, the first in a while"
        _plain(console, f"  {move.at:5.2f} s  {run.phase_at(move.at):13}  {did}")
    console.print("\nGET /metrics of the protected service says", style="bold", highlight=False)
    for name, value in notable(run.protected).items():
        _plain(console, f"  {name} {value:g}")
    console.print("\nprint(policy) says", style="bold")
    _plain(console, "  " + run.protected.plan.replace("\n", "\n  ") + "\n")


def verdict(console: Console, faults: list[str], where: Path, took: float) -> None:
    """Say where the picture is, and what was wrong."""
    _plain(console, f"The picture: {where}. All of it took {took:.1f} s.")
    for fault in faults:
        console.print(f"NOT AS IT SHOULD BE: {escape(fault)}", style="bold red", highlight=False)


def answers(run: Run) -> Table:
    """Return the table of what customers got."""
    rows: list[tuple[str, Callable[[Figures], str]]] = [
        ("customers", lambda of: f"{of.total:,}"),
        ("  full answer", lambda of: _share(of, of.served["full"])),
        ("  degraded: the top 100", lambda of: _share(of, of.served["degraded"])),
        ("  error", lambda of: _share(of, of.served["error"])),
        ("p50 of all", lambda of: _time(of.p50)),
        ("p50 of full answers", lambda of: _time(of.p50_full)),
        ("p99 of all", lambda of: _time(of.p99)),
        ("longest wait", lambda of: _time(of.longest)),
        (f"waited longer than {HANG:g} s", lambda of: _share(of, of.hung)),
    ]
    table = Table(title="What customers got", title_style="bold", min_width=64)
    table.add_column("")
    for side in run.sides:
        table.add_column(side.name, justify="right")
    both = [side.figures() for side in run.sides]
    for name, show in rows:
        table.add_row(name, *(show(figures) for figures in both))
    most = [max((at.number for at in side.waiting), default=0) for side in run.sides]
    table.add_row("most waiting at once", *(f"{number:,}" for number in most))
    kinds = ["\n".join(f"{n:,} {why}" for why, n in of.errors.most_common()) for of in both]
    table.add_row("errors", *(kind or "none" for kind in kinds))
    return table


def by_phase(run: Run) -> Table:
    """Return the same by phase of the upstream."""
    table = Table(title="... by the phase in which they came", title_style="bold", min_width=64)
    table.add_column("upstream")
    for side in run.sides:
        table.add_column(f"{side.name}\nfull / degraded\n/ error", justify="right")
        table.add_column("\nlongest\nwait", justify="right")
    for phase in run.phases:
        cells = []
        for side in run.sides:
            figures = side.figures(phase.start, phase.end)
            cells.append(" / ".join(f"{figures.served[kind]:,}" for kind in SERVED))
            cells.append(_time(figures.longest))
        table.add_row(phase.name, *cells)
    return table


def summary(run: Run) -> str:
    """Return the difference in a sentence or two, the price included."""
    one, two = (side.figures() for side in run.sides)
    back = run.phases[-1]
    late = run.protected.figures(back.start).served["degraded"]
    return (
        f"Unprotected, {_share(one, one.served['error'])} of the customers got an error and "
        f"{_share(one, one.hung)} waited longer than {HANG:g} s, the longest "
        f"{_time(one.longest)}; protected, {_share(two, two.served['error'])} got an error, "
        f"{_share(two, two.hung)} waited longer than {HANG:g} s, the longest "
        f"{_time(two.longest)}. The price: {_share(two, two.served['degraded'])} got the top 100, "
        f"{late:,} of them with the upstream healthy again, before the circuit had found out; "
        f"full answers within {HANG:g} s were {one.served['full'] - one.hung_full:,} unprotected, "
        f"{two.served['full'] - two.hung_full:,} protected."
    )


def notable(side: Side) -> dict[str, float]:
    """Return the samples that are worth a look: no zeros, no bucket that adds nothing."""
    found: dict[str, float] = {}
    bucket = 0.0
    for name, value in samples(side.metrics, "recommendations").items():
        if any(word in name for word in _QUIET):
            continue
        if "_bucket{" in name:
            if value == bucket:
                continue
            bucket = value
        if value or name.startswith("resilient_in_flight"):
            found[name] = value
    return found


def _share(of: Figures, number: int) -> str:
    if not number:
        return "none"
    share = 100 * number / of.total
    return f"{number:,} ({share:.0f} %)" if share >= 1 else f"{number:,} ({share:.2g} %)"


def _time(seconds: float) -> str:
    if math.isnan(seconds):
        return "-"
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.3g} ms"


def _plain(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
