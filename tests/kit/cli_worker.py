"""A process of an application: it does what each line of its input says, and answers with one."""

from __future__ import annotations

import glob  # noqa: F401 - to be patched
import os
import sys
import time
from typing import Any

from resilient import Policy, bulkhead, circuit_breaker, fallback, flag, kill_switch, patch

RECS = flag(
    "recs", owner="team-recs", impact="The page shows the top 100.",
    review=os.environ.get("WORKER_REVIEW"),
)  # fmt: skip
BETA = flag("beta", default=False)
slots = [bulkhead(10)] if os.environ.get("WORKER_BULKHEAD", "yes") else []
shop = Policy("shop", kill_switch(RECS), circuit_breaker(), *slots, owner="team-shop", tier=2)
if "WORKER_SLOTS" in os.environ:
    Policy("slots", bulkhead(3))
plain = Policy("plain", fallback(value="instead"), circuit_breaker())
views: list[Policy] = []


def called(policy: Policy) -> str:
    """Call a policy; return what came of it."""
    try:
        return str(policy.call(lambda: "ok"))
    except Exception as error:
        return type(error).__name__


def busy() -> None:
    """Do nothing but compute, for ever."""
    print("busy", flush=True)
    while True:
        pass


def hold() -> None:
    """Hold a policy's lock, for ever."""
    with plain._core.lock:
        print("hold", flush=True)
        time.sleep(600)


def main() -> None:
    """Obey line after line."""
    commands: dict[str, Any] = {
        "read": lambda: bool(RECS), "beta": lambda: bool(BETA), "busy": busy, "hold": hold,
        "patch": lambda: [patch("glob:glob", shop).state, patch("wave:open", shop).state],
        "shop": lambda: called(shop), "plain": lambda: called(plain),
        "view": lambda: called(view_of_shop()),
        "failing": lambda: called_failing(), "bulkhead": lambda: shop.snapshot()["guards"],
    }  # fmt: skip
    bool(RECS)
    print("ready", flush=True)
    for line in sys.stdin:
        print(commands[line.strip()](), flush=True)


def view_of_shop() -> Policy:
    """Return a view that has an answer, which the policy itself has not; it lives on."""
    views.append(shop.with_(fallback(value="instead")))
    return views[-1]


def called_failing() -> str:
    """Have the policy without a switch fail; return what the caller gets."""

    def fail() -> str:
        raise OSError("down")

    return str(plain.call(fail))


if __name__ == "__main__":
    main()
