"""A shop in trouble, to be looked at with `resilient top`: several processes under load.

Run it, and look from another terminal:

    RESILIENT_RUNTIME_DIR=/tmp/shop python examples/on_call.py 60
    RESILIENT_RUNTIME_DIR=/tmp/shop resilient top
"""

from __future__ import annotations

import multiprocessing
import os
import random
import sys
import time

from resilient import Policy, bulkhead, circuit_breaker, fallback, flag, flags, kill_switch, timeout

RECS = flag("recommendations", owner="recs", impact="The home page shows the top 100.")


def top_100(*_: object) -> list[str]:
    """Answer what everybody likes."""
    return ["top 100"]


def queued(*_: object) -> str:
    """Take an order for later."""
    return "queued"


PAYMENTS = Policy(
    "payments", fallback(queued), circuit_breaker(recovery_timeout=20), bulkhead(40),
    timeout(2, sync="cooperative"), owner="payments", tier=1,
    impact="Orders are taken, and charged later.",
)  # fmt: skip
SEARCH = Policy(
    "search", circuit_breaker(failure_rate=0.9), bulkhead(40), owner="discovery", tier=2
)
PICKS = Policy(
    "recommendations", kill_switch(RECS), fallback(top_100), circuit_breaker(), tier=3,
    owner="recs", impact=RECS.impact,
)  # fmt: skip
QUIET = [
    Policy(name, circuit_breaker(), bulkhead(20), owner="shop", tier=3)
    for name in ("catalogue", "prices", "stock", "reviews", "images", "mail", "tax", "geo")
]


def serve(seed: int, until: float) -> None:
    """Be one process of the shop."""
    dice = random.Random(seed)
    if seed == 0 or not os.environ.get("RESILIENT_STORE"):
        flags.off(RECS, reason="vendor down, INC-1234", duration=1800)
    while time.time() < until:
        for _ in range(8):
            PAYMENTS.try_call(_charge, dice)
            PICKS.try_call(_find, dice, 0.0)
            SEARCH.try_call(_find, dice, 0.25)
            QUIET[dice.randrange(4)].try_call(_find, dice, 0.0)
        time.sleep(0.02)


def _charge(dice: random.Random) -> str:
    time.sleep(dice.random() * 0.002)
    raise ConnectionError("the bank does not answer")


def _find(dice: random.Random, failing: float) -> str:
    time.sleep(dice.random() ** 4 * 0.02)
    if dice.random() < failing:
        raise TimeoutError("too slow")
    return "found"


def main() -> None:
    """Run for so many seconds, in four processes."""
    if not (os.environ.get("RESILIENT_RUNTIME_DIR") or os.environ.get("RESILIENT_STORE")):
        sys.exit("set RESILIENT_RUNTIME_DIR, such as to /tmp/shop, or RESILIENT_STORE")
    until = time.time() + float(sys.argv[1] if len(sys.argv) > 1 else 60)
    fork = multiprocessing.get_context("fork")
    processes = [fork.Process(target=serve, args=(seed, until)) for seed in range(4)]
    for process in processes:
        process.start()
    for process in processes:
        process.join()


if __name__ == "__main__":
    main()
