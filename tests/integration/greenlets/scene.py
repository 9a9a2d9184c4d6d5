"""What greenlets of gevent meet in a guarded service; printed as JSON. Run as a script: it patches all."""

import gevent.monkey

gevent.monkey.patch_all()

import json  # noqa: E402
import time  # noqa: E402
from typing import Any  # noqa: E402

import gevent  # noqa: E402
from gevent.event import Event  # noqa: E402

from resilient import (  # noqa: E402
    Policy,
    bulkhead,
    check,
    circuit_breaker,
    compiled,
    flag,
    flags,
    rate_limit,
    timeout,
)

LONG = 30.0


def line() -> Any:
    """Return how many of 60 greenlets were inside three slots at most, and what they got."""
    policy, inside, most = Policy("line", bulkhead(3, max_waiting=100, max_wait=LONG)), [0], [0]

    @policy
    def work(number: int) -> int:
        inside[0] += 1
        most[0] = max(most[0], inside[0])
        gevent.sleep(0.001)
        inside[0] -= 1
        return number

    jobs = [gevent.spawn(work, number) for number in range(60)]
    gevent.joinall(jobs, timeout=LONG)
    return most[0], sorted(job.value for job in jobs) == list(range(60))


def thread_timeout() -> Any:
    """Return what three callers of bodies that hang get, and the next one while they do."""
    policy, release = Policy("thread", timeout(0.05, sync="thread"), bulkhead(3)), Event()

    @policy
    def hang() -> None:
        release.wait(LONG)

    def ended() -> str:
        return type(policy.try_call(hang.__wrapped__).error).__name__

    first = [gevent.spawn(ended) for _ in range(3)]
    gevent.joinall(first, timeout=LONG)
    told = sorted(job.value for job in first), ended()
    release.set()
    end = time.monotonic() + LONG
    while policy.snapshot()["abandoned"] and time.monotonic() < end:
        gevent.sleep(0.01)
    return told, policy.snapshot()["abandoned"]


def cooperative() -> Any:
    """Return what a body gets that asks in time, and too late."""

    def ask(seconds: float) -> str:
        gevent.sleep(seconds)
        check()
        return "in time"

    short, long = (
        Policy(f"cooperative-{limit}", timeout(limit, sync="cooperative")) for limit in (0.05, LONG)
    )
    return long.call(ask, 0.01), type(short.try_call(ask, 0.2).error).__name__


def killed() -> Any:
    """Return what is left of a greenlet that is killed in its body, and of one in the line."""
    policy, release = (
        Policy("killed", bulkhead(1, max_waiting=5, max_wait=LONG), circuit_breaker()),
        Event(),
    )
    body = gevent.spawn(policy.call, release.wait)
    gevent.sleep(0.01)
    waiting = gevent.spawn(policy.call, int)
    gevent.sleep(0.01)
    waited = policy.snapshot()["guards"][0]["waiting"]
    waiting.kill()
    body.kill()
    return (
        waited,
        policy.snapshot()["guards"][0]["waiting"],
        policy.snapshot()["in_flight"],
        policy.call(int),
    )


def paced() -> bool:
    """Return whether 20 greenlets wait for their turn side by side."""
    policy, began = Policy("paced", rate_limit(100, 1.0, max_wait=LONG)), time.monotonic()
    jobs = [gevent.spawn(policy.call, int) for _ in range(20)]
    gevent.joinall(jobs, timeout=LONG)
    return all(job.value == 0 for job in jobs) and time.monotonic() - began >= 0.19


def flipped() -> Any:
    """Return a flag before and after a flip, which the store's follower brings."""
    news = flag("news")
    before = bool(news)
    flags.off(news, reason="INC-1")
    return before, bool(news)


if __name__ == "__main__":
    scenes = line, thread_timeout, cooperative, killed, paced, flipped
    print(json.dumps({"compiled": compiled, **{scene.__name__: scene() for scene in scenes}}))
