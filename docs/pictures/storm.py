"""Draws the simulated storms of the README and of the explanation of metastable failures.

``make pictures`` draws those of ``examples/stall.toml``: naive retries, ours, and both together.
"""

from __future__ import annotations

from pathlib import Path

from resilient.simulate import load, run
from resilient.simulate.picture import save

HERE = Path(__file__).parent
PICTURES = {
    "storm-naive.svg": ("naive", "no-budget"),
    "storm-ours.svg": ("budget", "breaker", "both"),
    "outage.svg": ("naive", "both"),
}


def main() -> None:
    """Run the scenario once, and draw both."""
    report = run(load(HERE.parents[1] / "examples" / "stall.toml"))
    for name, policies in PICTURES.items():
        save(report, HERE / name, only=policies)


if __name__ == "__main__":
    main()
