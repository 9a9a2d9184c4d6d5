"""Draws the simulated storms of the explanation of metastable failures: ``make pictures``.

The pictures are those of ``examples/stall.toml``: naive retries in the one, ours in the other.
"""

from __future__ import annotations

from pathlib import Path

from resilient.simulate import load, run
from resilient.simulate.picture import save

HERE = Path(__file__).parent
PICTURES = {
    "storm-naive.svg": ("naive", "no-budget"),
    "storm-ours.svg": ("budget", "breaker", "both"),
}


def main() -> None:
    """Run the scenario once, and draw both."""
    report = run(load(HERE.parents[1] / "examples" / "stall.toml"))
    for name, policies in PICTURES.items():
        save(report, HERE / name, only=policies)


if __name__ == "__main__":
    main()
