"""A service has 20 workers, then 5, then 20, before a limit and fixed limits: ``make capacity``.

It prints figures, ends by itself after some 65 s, and exits with 1 where a goal is missed.
"""

from __future__ import annotations

import sys

from tests.integration.capacity.capacity import LATE, SLOTS, Side, run
from tests.kit.trials import goal, missed

MEAN = 0.04  # seconds that a worker takes for a call
SHARING = 4  # processes that share the load, whose limits do not know each other
SLOW = 4 * MEAN


def main() -> int:
    """Run all guards at the same time; goals are those of one limit."""
    limit, many, few = (Side(guard, MEAN) for guard in ("limit", str(SLOTS[20]), str(SLOTS[5])))
    shared, drops = (Side(guard, MEAN, processes=SHARING) for guard in ("limit", f"aimd{SLOW}"))
    sides = {
        "concurrency_limit()": limit,
        f"bulkhead({SLOTS[20]})": many,
        f"bulkhead({SLOTS[5]})": few,
        f"concurrency_limit() in each of {SHARING} processes": shared,
        f'concurrency_limit(algorithm="aimd", slow_call_duration={SLOW}) in each of {SHARING}': drops,
    }
    run([*sides.values()], [20, 5, 20], settles=5.0, looked_at=15.0)
    print(f"an idle call takes {1e3 * limit.idle:.1f} ms, which is the unit of durations")
    for name, side in sides.items():
        show(name, side)
    late = max(each.late for side in sides.values() for each in side.phases)
    goal(late <= LATE, f"clients are late by {late:.2f} of a call: they measure the service")
    goals(limit, many, few)
    return 1 if missed else 0


def goals(limit: Side, many: Side, few: Side) -> None:
    """Say what one limit keeps beside what is right for 20 workers, and for 5."""
    right = zip(limit.phases, (many.phases[0], few.phases[1], many.phases[2]), strict=True)
    done = min(ours.busy / fixed.busy for ours, fixed in right)
    goal(done >= 0.95, f"at least {done:.1%} is done of what the right fixed limit does")
    goal(max(each.p50 for each in limit.phases) <= 3.5, "half of the calls take 3.5 at the most")
    goal(max(each.p99 for each in limit.phases) <= 6.5, "99 % of the calls take 6.5 at the most")
    times = many.phases[1].p50 / limit.phases[1].p50
    goal(times >= 1.4, f"with 5 workers they take {times:.1f} times as long by what 20 bear")
    times = limit.phases[2].busy / few.phases[2].busy
    goal(times >= 2.5, f"with 20 workers {times:.1f} times as much is done as by what 5 bear")


def show(name: str, side: Side) -> None:
    """Print a line for each phase."""
    print(f"\n{name}\n  workers    busy  line   wait    p50    p99  limit  late")
    for each in side.phases:
        print(
            f"  {each.servers:>7} {each.busy:>7.1%} {each.line:>5.1f} {each.wait:>6.2f} {each.p50:>6.2f} "
            f"{each.p99:>6.2f} {each.limit:>6.0f} {each.late:>5.2f}"
        )


if __name__ == "__main__":
    sys.exit(main())
