"""A stall of 10 s with real processes, naive retries against our defaults: ``make storm``.

It prints figures, ends by itself after some 90 s, and exits with 1 where ours are not back.
"""

from __future__ import annotations

import sys

from tests.integration.storm.storm import Storm, run


def main() -> int:
    """Run both at the same time."""
    storms = [Storm(kind, warm=15, stall=10, after=50, looked_at=20) for kind in ("naive", "ours")]
    run(*storms)
    naive, ours = storms
    for each in storms:
        print(
            f"{each.kind}: goodput {each.before:.1%} before the stall, {each.back:.1%} from 30 s "
            f"after it to the end; {each.attempts:.2f} attempts a call"
        )
    return 0 if ours.back >= 0.95 * ours.before and naive.back < ours.back / 2 else 1


if __name__ == "__main__":
    sys.exit(main())
