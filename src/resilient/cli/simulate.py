"""`resilient simulate`."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any, Final

import click

from .output import plural, say, say_json, table
from .store_access import FINDINGS, USAGE, fail

if TYPE_CHECKING:  # asyncio and all: no other command should wait for it
    from ..simulate import Report, Run, Scenario

_UNWRITTEN: Final = 7


@click.command()
@click.argument("file", metavar="FILE")
@click.option("--seed", type=click.IntRange(0), metavar="N",
              help="The seed of all chance. Default: the scenario's.")  # fmt: skip
@click.option("--seeds", type=click.IntRange(1, 100_000), default=1, metavar="N",
              help="Run so many seeds, one after the other, and sum up. Default: 1.")  # fmt: skip
@click.option("--picture", metavar="PATH",
              help="Draw it, of the first seed, into this .png or .svg.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def simulate(file: str, seed: int | None, seeds: int, picture: str | None, as_json: bool) -> None:
    """Run policies against an outage that FILE describes, on a virtual clock; see how they do.

    The guards and the engine are those of production; only time, clients and the service are
    made up. The exit code is 1 if the scenario expects what does not come true.
    """
    _check_picture(picture)
    scenario = _loaded(file)
    first = scenario.seed if seed is None else seed
    reports = list(_reports(scenario, range(first, first + seeds)))
    if as_json:
        say_json(reports[0].as_data() if seeds == 1 else _summary(reports))
    elif seeds == 1:
        _show(reports[0])
    else:
        _show_summary(reports)
    if picture is not None:
        _draw(reports[0], picture)
    if any(report.unmet for report in reports):
        raise SystemExit(FINDINGS)


def _check_picture(picture: str | None) -> None:
    """Refuse a picture that could not be drawn, before anything runs."""
    if picture is None:
        return
    from ..simulate.picture import MISSING, SUFFIXES

    if Path(picture).suffix not in SUFFIXES:
        fail(f"--picture must end in {' or '.join(SUFFIXES)}; got {picture}", USAGE)
    if not Path(picture).resolve().parent.is_dir():
        fail(f"--picture {picture}: there is no such folder", USAGE)
    try:
        __import__("matplotlib")
    except ImportError:
        fail(MISSING, USAGE)


def _loaded(file: str) -> Scenario:
    from ..simulate import load

    try:
        return load(file)
    except OSError as error:
        fail(f"{file} can't be read: {error}", USAGE)
    except (ValueError, TypeError) as error:
        fail(str(error), USAGE)


def _reports(scenario: Scenario, seeds: range) -> Iterator[Report]:
    from ..simulate import run

    shown = sys.stderr.isatty()
    for seed in seeds:
        yield run(scenario, seed=seed, progress=_teller(seed) if shown else None)
    if shown:
        sys.stderr.write("\r\x1b[K")


def _teller(seed: int) -> Callable[[str, float], None]:
    def tell(policy: str, done: float) -> None:
        sys.stderr.write(f"\r\x1b[Kseed {seed}, {policy}: {done:.0%}")
        sys.stderr.flush()

    return tell


def _draw(report: Report, picture: str) -> None:
    from ..simulate.picture import save

    try:
        save(report, picture)
    except OSError as error:
        fail(f"{picture} can't be written: {error}", _UNWRITTEN)


def _within(report: Report) -> float:
    return float(report.as_data()["within"])


def _show(report: Report) -> None:
    scenario, within = report.scenario, _within(report)
    say(f"{scenario.name}: {scenario.seconds:g} virtual seconds, seed {report.seed}")
    columns = [
        "policy", "calls", "good", "late", "degraded", "failed", "attempts", "p50", "p99", "opened",
    ]  # fmt: skip
    if scenario.faults:
        columns += [f"back after {within:g} s", "all back after"]
    if any(each.keys for each in scenario.faults):
        columns.append("good, other keys")
    runs = report.runs.values()
    rows = [_row(each, within, faults=bool(scenario.faults)) for each in runs]
    table(columns, rows)
    for each in runs:
        for guard, would in each.shadows.items():
            say(
                f"{each.policy}, shadow of its {guard}: would have opened "
                f"{plural(would['would_open'], 'time')} and refused "
                f"{plural(would['would_refuse'], 'call')}"
            )
    for why in report.unmet:
        say(f"not met: {why}")


def _row(each: Run, within: float, *, faults: bool) -> list[object]:
    ends = each.ends
    row: list[object] = [each.policy, each.calls]
    row += [f"{ends['good'] / max(1, each.calls):.1%}", ends["late"], ends["degraded"]]
    row += [ends["failed"] + ends["unended"], f"{each.attempts_per_call:.2f}"]
    row += [_seconds(each.latency(0.5)), _seconds(each.latency(0.99)), each.opened]
    if faults:
        row += [_percent(each.back(within)), _seconds(each.back_after) or "never"]
    if each.other_keys is not None:
        row.append(_percent(each.other_keys))
    return row


def _seconds(value: float | None) -> str:
    return "" if value is None else f"{value:.3g} s"


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.1%}"


def _summary(reports: list[Report]) -> dict[str, Any]:
    """Return what came of several seeds, as plain data."""
    first, within = reports[0], _within(reports[0])
    policies: dict[str, Any] = {}
    for name in first.runs:
        runs = [report.runs[name] for report in reports]
        backs = [back for each in runs if (back := each.back(within)) is not None]
        after = [each.back_after for each in runs if each.back_after is not None]
        policies[name] = {
            "met": sum(not report.unmet_by(name) for report in reports),
            "back_least": min(backs, default=None),
            "back_median": median(backs) if backs else None,
            "back_after_median": median(after) if after else None,
            "back_after_most": max(after, default=None),
            "never_back": len(runs) - len(after),
            "attempts": sum(each.attempts for each in runs) / max(1, sum(e.calls for e in runs)),
        }
    return {
        "scenario": first.scenario.name, "first_seed": first.seed, "seeds": len(reports),
        "within": within, "policies": policies,
    }  # fmt: skip


def _show_summary(reports: list[Report]) -> None:
    data, scenario = _summary(reports), reports[0].scenario
    say(f"{scenario.name}: {plural(len(reports), 'seed')}, from {data['first_seed']}")
    expected = () if scenario.expected is None else scenario.expected.of
    rows = [
        (
            name, f"{each['met']} of {len(reports)}" if name in expected else "not asked",
            _percent(each["back_least"]), _percent(each["back_median"]),
            _seconds(each["back_after_median"]) or "never", _seconds(each["back_after_most"]),
            each["never_back"], f"{each['attempts']:.2f}",
        )
        for name, each in data["policies"].items()
    ]  # fmt: skip
    table(
        (
            "policy", "met", f"least back after {data['within']:g} s", "median",
            "all back after, median", "most", "never", "attempts",
        ),
        rows,
    )  # fmt: skip
