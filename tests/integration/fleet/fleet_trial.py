"""Eight processes share one rate limit while Redis answers, dies and comes back: ``make fleet``.

It prints figures, ends by itself after some 40 s, and exits with 1 where a goal is missed.
"""

from __future__ import annotations

import sys
import time

from tests.integration.fleet.fleet import Fleet, excess, in_it
from tests.kit.servers.redis_server import RedisServer
from tests.kit.trials import figures, goal, missed

RATE, BURST, PROCESSES = 400, 20, 8
STATED = 0.2  # seconds that a turn may be used late: see docs/guards/rate-limit.md


def main() -> int:
    """Run it with and without a line, then with a Redis that is away for a while."""
    with RedisServer() as server:
        for max_wait in (None, 0.2):
            while_it_answers(server, max_wait)
        while_it_is_away(server)
    print(f"{len(missed)} goals missed")
    return 1 if missed else 0


def fleet(server: RedisServer, max_wait: float | None) -> Fleet:
    """Start one, of which alone the server knows."""
    server.clear()
    limit = {"max_calls": RATE, "period": 1.0, "burst": BURST, "max_wait": max_wait}
    return Fleet(PROCESSES, server.url, **limit)


def while_it_answers(server: RedisServer, max_wait: float | None) -> None:
    """The limit is kept, and used."""
    seconds = 8.0
    with fleet(server, max_wait) as callers:
        callers.ready()
        time.sleep(0.5)
        start, end = callers.begin(seconds)
        callers.end()
    began, allowed = in_it(callers.began, start, end), BURST + RATE * (end - start)
    print(f"\nmax_wait={max_wait}, {RATE}/s, {PROCESSES} processes of 2 threads, {seconds:g} s")
    print(f"  waits of calls: {figures([1e3 * each for each in callers.waits], 'ms', 2)}")
    over = excess(callers.began, RATE, BURST)
    print(f"  the fullest interval has {over:.1f} calls more than burst + rate * w")
    goal(abs(began / allowed - 1) <= 0.02, f"{began} of {allowed:.0f} calls began: within 2 %")
    goal(over <= RATE * STATED, f"no interval has more than {RATE * STATED:.0f} too many")


def while_it_is_away(server: RedisServer) -> None:
    """Each process keeps its share, and the overshoot is what the docs say."""
    with fleet(server, None) as callers:
        callers.ready()
        time.sleep(0.5)
        start, end = callers.begin(10.0)
        time.sleep(3.0)
        server.kill()
        gone = time.monotonic()
        time.sleep(3.0)
        server.start()
        back = time.monotonic()
        callers.end()
    print("\nRedis is killed after 3 s, and back 3 s later, empty; when_away='local'")
    for what, since, until in (("before", start, gone), ("away", gone, back), ("after", back, end)):
        seconds = until - since
        began = in_it(callers.began, since, until)
        print(f"  {what:<7} {began / seconds:6.1f} a second, {began - RATE * seconds:+.0f} calls")
    print(f"  waits of calls: {figures([1e3 * each for each in callers.waits], 'ms', 2)}")
    over = excess(callers.began, RATE, BURST)
    print(f"  the fullest interval has {over:.1f} calls more than burst + rate * w")
    away = in_it(callers.began, gone + 0.5, back) / (RATE * (back - gone - 0.5))
    goal(0.8 <= away <= 1.02, f"alone they keep the limit together: {away:.0%} of it")
    most = 2 * BURST + RATE * STATED
    goal(over <= most, f"no interval has more than {most:.0f} too many")


if __name__ == "__main__":
    sys.exit(main())
