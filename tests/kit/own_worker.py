"""A process whose policy has a guard of its own kind; it calls it once for each line."""

from __future__ import annotations

import sys

from resilient import Policy, fallback, last_good, rate_limit, retry, throttle
from tests.kit.own_guards import RateLimit

shop = Policy("own-shop", fallback(value="later"), RateLimit(0.001, 0.0), owner="team-shop")
again = Policy("own-retry", retry(on=ConnectionError, attempts=4, wait_max=2.0))
known = Policy("own-last-good", last_good(max_age=60))
limited = Policy("own-limited", throttle(), rate_limit(100, 1.0))
own: dict[object, object] = {}
cached = Policy("own-cached", last_good(max_age=60, cache=own, key=str, copy=str))


def main() -> None:
    """Obey line after line."""
    shop.call(str)
    print("ready", flush=True)
    for line in sys.stdin:
        if line.strip() == "options":
            print(shop.guards[1].options(), flush=True)
        elif line.strip() == "retry":
            options = again.guards[0].options()
            print(options["attempts"], options["wait_max"], options["budget"], flush=True)
        elif line.strip() == "limited":
            share, rate = (each.options() for each in limited.guards)
            print(share["max_refused"], rate["max_calls"], rate["max_wait"], flush=True)
        elif line.strip() == "last_good":
            guards = [each.guards[0].options() for each in (known, cached)]
            print(*(f"{each['max_age']} {each['max_entries']}" for each in guards), flush=True)
        else:
            print(shop.call(lambda: "ok"), flush=True)


if __name__ == "__main__":
    main()
