"""A process of an application, by what is public in any version: it answers each line with one."""

from __future__ import annotations

import json
import sys
from typing import Any

from prometheus_client import REGISTRY, generate_latest

from resilient import Policy, bulkhead, circuit_breaker, flag, kill_switch, metrics

RECS = flag("recs", owner="team-recs", impact="The page shows the top 100.")
shop = Policy("shop", kill_switch(RECS), circuit_breaker(ignore=LookupError), bulkhead(10))


def called(body: Any = int) -> str:
    """Call the policy; return what came of it."""
    try:
        return str(shop.call(body))
    except Exception as error:
        return type(error).__name__


def many(number: str) -> list[str]:
    """Call it so often."""
    return sorted({called() for _ in range(int(number))})


def ignored() -> str:
    """Call it with what is the caller's own doing."""

    def body() -> None:
        raise LookupError

    return called(body)


def counts() -> dict[str, float]:
    """Return how many calls ended how, in all processes, as a scrape has it; from {outcome} to number."""
    found: dict[str, float] = {}
    text = generate_latest(REGISTRY).decode()
    for line in text.splitlines():
        head, _, value = line.rpartition(" ")
        if head.startswith(("resilient_calls_total{", "resilient_served_total{")):
            labels = dict(part.split("=") for part in head.partition("{")[2].strip("}").split(","))
            if labels["policy"] == '"shop"':
                kind = labels.get("outcome") or labels["served"]
                found[kind.strip('"')] = float(value)
    return found


def main() -> None:
    """Obey line after line."""
    metrics.register()
    commands: dict[str, Any] = {
        "read": lambda: bool(RECS), "call": called, "many": many, "ignored": ignored,
        "counts": counts, "limit": lambda: shop.snapshot()["guards"][2]["options"]["max_concurrent"],
    }  # fmt: skip
    bool(RECS)
    print("ready", flush=True)
    for line in sys.stdin:
        word, *words = line.split()
        print(json.dumps(commands[word](*words)), flush=True)


if __name__ == "__main__":
    main()
