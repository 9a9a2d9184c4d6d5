"""The storm of `examples/stall.toml` for 200 seeds, or as many as are asked for: ``make simulate``.

It prints figures, and exits with 1 where one of ours is not back or a naive one is not down.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ProcessPoolExecutor
from statistics import median

from tests.unit.simulate.proof import OURS, TAKEN_OUT, is_back, ran, stays_down

Row = tuple[str, bool, float, float | None, float]


def rows(seed: int) -> list[Row]:
    """Return what one seed shows of each policy: its name, whether it does what it must, figures."""
    report = ran(seed, *OURS, *TAKEN_OUT)
    return [
        (
            name,
            is_back(report, name) if name in OURS else stays_down(report, name),
            each.back(30.0) or 0.0,
            each.back_after,
            each.attempts_per_call,
        )
        for name, each in report.runs.items()
    ]


def main(seeds: int) -> int:
    """Run all seeds, two at once."""
    began = time.monotonic()
    with ProcessPoolExecutor(2) as pool:
        found = [row for each in pool.map(rows, range(1, seeds + 1)) for row in each]
    bad = 0
    for name in (*OURS, *TAKEN_OUT):
        own = [row for row in found if row[0] == name]
        after = [row[3] for row in own if row[3] is not None]
        bad += sum(not row[1] for row in own)
        print(
            f"{name}: {'back' if name in OURS else 'stays down'} in "
            f"{sum(row[1] for row in own)} of {seeds} seeds; goodput back 30 s after: least "
            f"{min(row[2] for row in own):.1%}, most {max(row[2] for row in own):.1%}; all back "
            f"after: median {median(after) if after else 'never'}, most "
            f"{max(after, default='never')}; attempts a call {median(row[4] for row in own):.2f}"
        )
    print(f"{seeds} seeds in {time.monotonic() - began:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
