"""The picture of a report: what clients of each policy got, over time."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final, cast

from .measure import Run
from .report import Report

MISSING: Final = "a picture needs matplotlib: pip install 'resilient-guards[simulate]'"
SUFFIXES: Final = (".png", ".svg")
_COLOURS: Final = ("#8b2f6b", "#2166ac", "#3a9d6e", "#d98b1f", "#5b5b66", "#b5402f")
_STATES: Final = {"open": "#d2493f", "closed": "#bfe0cf"}
_INK: Final = "#2b2b33"
_STYLE: Final[Any] = {
    "font.size": 10, "text.color": _INK, "axes.labelcolor": _INK, "axes.edgecolor": "#b5b5bd",
    "xtick.color": _INK, "ytick.color": _INK, "axes.spines.top": False, "axes.spines.right": False,
    "svg.fonttype": "none",  # a file of a fifth of the size
    "svg.hashsalt": "resilient",  # the same report gives the same file
}  # fmt: skip


def save(report: Report, path: str | Path, *, only: tuple[str, ...] = ()) -> None:
    """Draw a report into a file: goodput, latency, attempts and circuits over time.

    Args:
        report: what `run` returned.
        path: the file, which ends in .png or .svg.
        only: the policies to draw. Default: all.

    Raises:
        ImportError: matplotlib is missing.
        OSError: the file can't be written.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    styled: Any = cast("Any", mpl).rc_context
    runs = [run for name, run in report.runs.items() if not only or name in only]
    with styled(_STYLE):
        # Fixed margins: the solver of "constrained" does not give the same places each time.
        figure: Any = Figure(figsize=(9, 7.2))
        figure.subplots_adjust(left=0.11, right=0.98, bottom=0.075, top=0.93, hspace=0.12)
        heights = [3, 2.2, 2.2, 0.3 * len(runs) + 0.2]
        axes: Any = figure.subplots(4, 1, sharex=True, height_ratios=heights)
        for run, colour in zip(runs, _COLOURS * len(runs), strict=False):
            _lines(axes, run, colour)
        _circuits(axes[3], runs)
        _frame(figure, axes, report)
        metadata = {"Date": None} if str(path).endswith(".svg") else None
        figure.savefig(path, dpi=110, facecolor="white", metadata=metadata)


def _lines(axes: Any, run: Run, colour: str) -> None:
    points = run.points
    at = [point["at"] + run.step / 2 for point in points]
    rates = (
        (axes[0], [point["good"] / run.step for point in points]),
        (axes[2], [point["attempts"] / run.step for point in points]),
    )
    for axis, values in rates:
        axis.plot(at, values, color=colour, lw=1.6, label=run.policy)
    for key, width in (("p50", 0.8), ("p99", 1.6)):
        axes[1].plot(at, [point[key] for point in points], color=colour, lw=width)


def _circuits(axis: Any, runs: list[Run]) -> None:
    """Draw how many client processes have an open circuit, a row for each policy."""
    for row, run in enumerate(runs):
        axis.barh(row, run.seconds, height=0.7, color=_STATES["closed"], lw=0)
        for start, end, share in _opened(run):
            axis.barh(
                row, end - start, left=start, height=0.7, color=_STATES["open"], lw=0, alpha=share
            )
    axis.set_yticks(range(len(runs)), [run.policy[:13] for run in runs])
    axis.set_ylim(len(runs) - 0.5, -0.5)
    axis.set_xlabel("virtual seconds; circuits: green closed, red open or probing")


def _opened(run: Run) -> list[tuple[float, float, float]]:
    """Return the stretches of time with open circuits, and the share of processes that had one."""
    found: list[tuple[float, float, float]] = []
    for point in run.points:
        states, at = point["states"], point["at"]
        share = 1 - states.get("closed", 0) / max(1, sum(states.values())) if states else 0.0
        if found and found[-1][1:] == (at, share):
            found[-1] = found[-1][0], at + run.step, share
        elif share:
            found.append((at, at + run.step, share))
    return found


def _frame(figure: Any, axes: Any, report: Report) -> None:
    labels = "good answers/s", "latency: p50, p99, s", "attempts/s"
    for axis, label in zip(axes[:3], labels, strict=True):
        axis.set_ylabel(label)
        axis.set_ylim(bottom=0)
        axis.tick_params(length=0)
        for fault in report.scenario.faults:
            axis.axvspan(fault.at, fault.end, color="#f7dedb", lw=0, zorder=0)
    axes[3].tick_params(length=0)
    axes[3].set_xlim(0, report.scenario.seconds)
    figure.suptitle(f"{report.scenario.name} (seed {report.seed})", fontweight="bold")
    axes[0].legend(loc="lower right", frameon=False, ncols=3)
