"""The findings as tables."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator

from .about import about
from .model import Curve, Report, Row, Spread

WIDTH = 112


def lines(report: Report) -> Iterator[str]:
    """Yield the lines of the whole report."""
    sections = (
        ("Goals", [row for row in report.rows if row.goal is not None]),
        ("Shown without a goal", [row for row in report.rows if row.goal is None]),
    )
    for title, rows in sections:
        if rows:
            yield from _section(title, rows)
    if any(row.peer or row.case.startswith("flag: ") for row in report.rows):
        yield from _about({row.peer or row.case.removeprefix("flag: ") for row in report.rows})
    if report.curves:
        yield "Growth: us a call, medians; ours over bare at the same point; flat is up to x1.5"
        yield ""
        for curve in report.curves:
            yield from _curve(curve)
    yield from _end(report)


def _section(title: str, rows: list[Row]) -> Iterator[str]:
    yield title
    yield ""
    compared = [row for row in rows if row.theirs is not None or row.peer]
    single = [row for row in rows if row not in compared]
    if compared:
        yield (
            f"{'case':<35}{'ours us':>9}  {'peer':<25}{'peer us':>8}{'ratio':>8}{'quartiles':>15}"
            f"{'goal':>7}"
        )
        yield from map(_compared, compared)
        yield ""
    if single:
        yield f"{'case':<46}{'found':>10}{'unit':>5}{'quartiles':>17}{'goal':>7}"
        yield from map(_single, single)
        yield ""


def _goal(row: Row, digits: int) -> str:
    if row.goal is None:
        return f"{'-':>7}"
    return f"{row.goal:>7.{digits}f}  {'holds' if row.holds else 'MISSED'}"


def _compared(row: Row) -> str:
    if row.wrong or row.theirs is None or row.spread is None:
        return f"{row.case:<35}set up wrongly: {row.wrong}  MISSED"
    return (
        f"{row.case:<35}{row.ours:>9.2f}  {row.peer:<25}{row.theirs:>8.2f}{row.found:>8.3f}"
        f"{_quartiles(row.spread, 2):>15}{_goal(row, 2)}"
    )


def _single(row: Row) -> str:
    if row.wrong or row.spread is None:
        return f"{row.case:<46}set up wrongly: {row.wrong}  MISSED"
    return (
        f"{row.case:<46}{row.found:>10.1f}{row.unit:>5}{_quartiles(row.spread, 1):>17}"
        f"{_goal(row, 0)}"
    )


def _quartiles(spread: Spread, digits: int) -> str:
    if spread.low == spread.high:
        return "-"
    return f"{spread.low:.{digits}f}-{spread.high:.{digits}f}"


def _about(peers: set[str]) -> Iterator[str]:
    yield "What is on (+) and off (-) in each, as its code has it"
    yield ""
    for each in about():
        if each.name != "resilient" and not any(peer.startswith(each.name) for peer in peers):
            continue
        name = f"{each.name} {each.version}".strip()
        yield from _wrapped(f"{name:<31}+ ", each.on)
        yield from _wrapped(f"{'':<31}- ", each.off)
    yield ""


def _wrapped(head: str, text: str) -> Iterable[str]:
    indent = " " * len(head)
    return textwrap.wrap(text, WIDTH, initial_indent=head, subsequent_indent=indent)


def _curve(curve: Curve) -> Iterator[str]:
    width = max(9, *(len(point) + 2 for point in curve.points))
    yield f"{curve.case}: {curve.verdict}; our own cost x{curve.own_factor:.2f}"
    yield f"  {curve.over:<24}" + "".join(f"{point:>{width}}" for point in curve.points)
    for name, costs in curve.costs.items():
        yield f"  {name:<24}" + "".join(f"{cost:>{width}.2f}" for cost in costs)
    yield "  added by us             " + "".join(f"{cost:>{width}.2f}" for cost in curve.added)
    over = "".join(f"{ratio:>{width}.2f}" for ratio in curve.relative)
    yield f"  {f'{curve.ours} / {curve.bare}':<24}{over}"
    yield ""


def _end(report: Report) -> Iterator[str]:
    goals = [row for row in report.rows if row.goal is not None]
    if report.missed:
        yield f"MISSED, {len(report.missed)}: {'; '.join(report.missed)}"
    elif goals:
        yield f"All {len(goals)} goals hold."
