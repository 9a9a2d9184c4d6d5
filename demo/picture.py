"""The picture: both services through the same outage, second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl

mpl.use("Agg")

from matplotlib import pyplot as plt
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, NullLocator

from .measure import HANG, Customer, Run, Side

ANSWERS: Final = {
    "full": ("full answer", "#3a9d6e"),
    "hung": (f"full answer, after more than {HANG:g} s", "#a3cdb6"),
    "degraded": ("degraded: the top 100", "#efb83c"),
    "error": ("error", "#d2493f"),
}
SIDE_COLOURS: Final = {"unprotected": "#8b2f6b", "protected": "#2166ac"}
PHASE_COLOURS: Final = {
    "healthy": "#ffffff", "slow": "#f6ecd6", "failing": "#f7dedb", "dead": "#dddde3",
}  # fmt: skip
CIRCUIT_COLOURS: Final = {"closed": "#bfe0cf", "open": "#d2493f", "half_open": "#2166ac"}
INK: Final = "#2b2b33"
STYLE: Final[Any] = {
    "font.size": 10,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": "#b5b5bd",
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
}
_BINS: Final = 48


def save(run: Run, path: Path) -> None:
    """Draw the run into a file."""
    with mpl.rc_context(STYLE):
        room = ConstrainedLayoutEngine(h_pad=0.09, hspace=0.02, rect=(0, 0, 0.992, 0.915))
        figure, axes = plt.subplots(
            5, 1, figsize=(12, 12.2), sharex=True, layout=room,
            height_ratios=[3, 3, 0.36, 2.4, 2.4],
        )  # fmt: skip
        for axis in axes:
            _phases(axis, run)
        for side, axis in zip(run.sides, axes[:2], strict=True):
            _answers(axis, run, side)
        _circuit(axes[2], run)
        _longest(axes[3], run)
        _waiting(axes[4], run)
        _names(axes[0], run)
        axes[4].set_xlabel("seconds since the start")
        axes[4].set_xlim(0, run.seconds)
        _heading(figure, run)
        figure.savefig(path, dpi=110, facecolor="white")
        plt.close(figure)


def _heading(figure: Any, run: Run) -> None:
    one, two = (side.figures() for side in run.sides)
    figure.text(
        0.012, 0.977, "The same outage, with and without a policy",
        fontsize=18, fontweight="bold", va="center",
    )  # fmt: skip
    figure.text(
        0.012, 0.95,
        f"{one.total:,} customers each. Unprotected: {one.served['error']:,} errors, "
        f"longest wait {one.longest:.2f} s. Protected: {two.served['error']:,} errors, "
        f"longest wait {two.longest:.2f} s, {two.served['degraded']:,} degraded answers.",
        fontsize=11, va="center",
    )  # fmt: skip
    handles = [Patch(color=colour, label=label) for label, colour in ANSWERS.values()]
    figure.legend(
        handles=handles, loc="center left", bbox_to_anchor=(0.006, 0.925), ncols=4, frameon=False,
        handlelength=1.1, handleheight=1.1, columnspacing=1.6,
    )  # fmt: skip


def _phases(axis: Any, run: Run) -> None:
    for phase in run.phases:
        axis.axvspan(phase.start, phase.end, color=PHASE_COLOURS[phase.mode], lw=0, zorder=0)
        if phase.start:
            axis.axvline(phase.start, color="#9a9aa5", lw=0.8, ls=(0, (4, 3)), zorder=1)
    axis.set_axisbelow(True)
    axis.tick_params(length=0)


def _names(axis: Any, run: Run) -> None:
    for phase in run.phases:
        axis.annotate(
            phase.name, ((phase.start + phase.end) / 2, 1.0),
            xycoords=axis.get_xaxis_transform(), xytext=(0, 5), textcoords="offset points",
            ha="center", fontsize=11, fontweight="bold",
        )  # fmt: skip


def _bins(run: Run, customers: list[Customer]) -> Iterator[tuple[float, list[Customer]]]:
    width = run.seconds / _BINS
    sorted_in: list[list[Customer]] = [[] for _ in range(_BINS)]
    for one in customers:
        sorted_in[min(_BINS - 1, int(one.at / width))].append(one)
    for number, some in enumerate(sorted_in):
        yield number * width, some


def _answers(axis: Any, run: Run, side: Side) -> None:
    width = run.seconds / _BINS
    bins = list(_bins(run, side.customers))
    starts, base = [start for start, _ in bins], [0.0] * len(bins)
    for kind, (_, colour) in ANSWERS.items():
        heights = [sum(_answer(one) == kind for one in some) / width for _, some in bins]
        axis.bar(
            starts, heights, width * 0.88, bottom=base, align="edge", color=colour, zorder=2
        )  # fmt: skip
        base = [low + height for low, height in zip(base, heights, strict=True)]
    axis.set_ylim(0, max(base, default=1.0) * 1.2)
    axis.set_ylabel("customers/s")
    _label(axis, side.name.capitalize(), SIDE_COLOURS[side.name])


def _answer(one: Customer) -> str:
    return "hung" if one.served == "full" and one.took > HANG else one.served


def _label(axis: Any, text: str, colour: str = INK) -> None:
    axis.text(
        0.008, 0.965, text, transform=axis.transAxes, va="top", fontsize=11.5,
        fontweight="bold", color=colour, zorder=6,
    )  # fmt: skip


def _circuit(axis: Any, run: Run) -> None:
    moves = [move for move in run.protected.moves if move.after in CIRCUIT_COLOURS]
    starts = [0.0, *(move.at for move in moves)]
    states = ["closed", *(move.after for move in moves)]
    for start, end, state in zip(starts, [*starts[1:], run.seconds], states, strict=True):
        if state == "half_open":  # it may be over in a moment
            axis.axvline(start, color=CIRCUIT_COLOURS[state], lw=2.5, zorder=4)
        axis.axvspan(start, end, color=CIRCUIT_COLOURS[state], lw=0, zorder=3)
        if end - start > run.seconds / 28:
            axis.text(
                (start + end) / 2, 0.47, state, ha="center", va="center", zorder=5, fontsize=9.5,
                color="white" if state == "open" else INK,
            )  # fmt: skip
    axis.set_yticks([])
    axis.set_ylim(0, 1)
    axis.text(
        -0.008, 0.47, "circuit", transform=axis.transAxes, ha="right", va="center",
        in_layout=False,
    )  # fmt: skip
    handle = Patch(color=CIRCUIT_COLOURS["half_open"], label="half-open: a probe")
    axis.legend(
        handles=[handle], loc="lower right", bbox_to_anchor=(1.0, 0.9), frameon=False, fontsize=9.5,
        handlelength=0.5, borderaxespad=0.1,
    )  # fmt: skip


def _longest(axis: Any, run: Run) -> None:
    def waits(some: list[Customer]) -> float:
        return max((one.took for one in some), default=float("nan"))

    _lines(axis, run, waits)
    axis.set_yscale("log")
    axis.set_ylabel("seconds")
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.yaxis.set_minor_locator(NullLocator())
    low, high = axis.get_ylim()
    axis.set_ylim(min(low, 0.01), max(high, 1.0) * 5)
    _label(axis, "Longest wait, by when the customer came")
    axis.legend(loc="upper right", ncols=2, frameon=False)


def _lines(axis: Any, run: Run, measure: Callable[[list[Customer]], float]) -> None:
    width = run.seconds / _BINS
    for side in run.sides:
        points = [(start + width / 2, measure(some)) for start, some in _bins(run, side.customers)]
        axis.plot(
            *zip(*points, strict=True), color=SIDE_COLOURS[side.name], lw=2, label=side.name,
            zorder=3, marker="o", ms=3,
        )  # fmt: skip
    axis.grid(axis="y", color="#c9c9d0", lw=0.6)


def _waiting(axis: Any, run: Run) -> None:
    for side in run.sides:
        axis.plot(
            [point.at for point in side.waiting], [point.number for point in side.waiting],
            color=SIDE_COLOURS[side.name], lw=2, label=side.name, zorder=3,
        )  # fmt: skip
    axis.grid(axis="y", color="#c9c9d0", lw=0.6)
    most = max((point.number for side in run.sides for point in side.waiting), default=1)
    axis.set_ylim(0, most * 1.3 + 1)
    axis.set_ylabel("customers")
    _label(axis, "Waiting at once")
    axis.legend(loc="upper right", ncols=2, frameon=False)
