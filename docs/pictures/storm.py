"""Draws the simulated storms of the README and of the explanation of metastable failures.

``make pictures`` draws those of ``examples/stall.toml``: naive retries, ours, and both together.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from resilient.simulate import Report, load, run
from resilient.simulate.picture import _STYLE as STYLE
from resilient.simulate.picture import save

HERE = Path(__file__).parent
PICTURES = {
    "storm-naive.svg": ("naive", "no-budget"),
    "storm-ours.svg": ("budget", "breaker", "both"),
}
LINES = (
    ("naive", "#8b2f6b", "with naive retries", (79, 6)),
    ("both", "#2166ac", "with a policy", (79, 50)),
)


def main() -> None:
    """Run the scenario once, and draw both."""
    report = run(load(HERE.parents[1] / "examples" / "stall.toml"))
    for name, policies in PICTURES.items():
        save(report, HERE / name, only=policies)
    outage(report, HERE / "outage.svg")


def outage(report: Report, path: Path) -> None:
    """Draw what clients got before, in and after the stall."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    (fault,) = report.scenario.faults
    with mpl.rc_context(STYLE | {"font.size": 13}):
        figure: Any = Figure(figsize=(7.2, 3.4))
        figure.subplots_adjust(left=0.1, right=0.98, bottom=0.17, top=0.95)
        axis = figure.subplots()
        axis.axvspan(fault.at, fault.end, color="#f7dedb", lw=0, zorder=0)
        axis.text((fault.at + fault.end) / 2, 128, "it stands still", ha="center", color="#a33a2c")
        for policy, colour, said, place in LINES:
            points = report.runs[policy].points
            at = [point["at"] + report.scenario.step / 2 for point in points]
            axis.plot(
                at, [point["good"] / report.scenario.step for point in points], color=colour, lw=2.2
            )
            axis.text(*place, said, color=colour, fontweight="bold", ha="right")
        axis.set(xlim=(0, report.scenario.seconds), ylim=(-4, 140), yticks=(0, 50, 100))
        axis.set_xlabel("seconds")
        axis.set_ylabel("good answers a second")
        figure.savefig(path, facecolor="white", metadata={"Date": None})


if __name__ == "__main__":
    main()
