"""The concurrency limit before a simulated service: it finds what the service can do, and follows.

Calls arrive at random, twice as many as the service can do, and wait in the service's own line. The
bounds are those of docs/guards/concurrency-limit.md.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import deque
from typing import Any

import pytest

from resilient.guards.base import REFUSE
from resilient.guards.concurrency_limit.concurrency_limit import ConcurrencyLimit
from resilient.outcomes import FAILURE, IGNORED, SUCCESS
from resilient.priority_levels import priority

IDLE = 0.05  # seconds that a call takes where nobody waits
START = 1000.0


class Service:
    """So many servers with one line, and what became of the calls."""

    def __init__(
        self, guard: Any, servers: int, *, kind: str = "exponential", load: float = 2.0,
        gives_up: float = float("inf"), idle: float = IDLE,
    ) -> None:  # fmt: skip
        self.guard, self.servers, self.kind, self.load = guard, servers, kind, load
        self.gives_up, self.idle = gives_up, idle
        self.random = random.Random(7)
        self.now, self.busy = START, 0
        self.line: deque[tuple[int, float]] = deque()
        self.events: list[tuple[float, int, str, Any]] = []
        self.order = itertools.count()
        self.ended: list[tuple[float, float]] = []  # when, and how long it took
        self.limits: list[tuple[float, float]] = []
        guard.emit = lambda item: None
        self.at(START, "comes")

    def at(self, when: float, what: str, about: Any = None) -> None:
        heapq.heappush(self.events, (when, next(self.order), what, about))

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self.events[0][0] < until:
            self.now, _, what, about = heapq.heappop(self.events)
            getattr(self, what)(about)
        self.now = until

    def takes(self) -> float:
        if self.kind == "constant":
            return self.idle
        if self.kind == "long tail":
            return self.idle * self.random.lognormvariate(-0.5, 1.0)
        return self.random.expovariate(1 / self.idle)

    def comes(self, _: None) -> None:
        rate = self.load * self.servers / self.idle
        self.at(self.now + self.random.expovariate(rate), "comes")
        ticket = self.guard.admit(self.now)
        if ticket != REFUSE:
            self.line.append((ticket, self.now))
            self.serve()
        self.limits.append((self.now, self.guard.limit))

    def serve(self) -> None:
        while self.line and self.busy < self.servers:
            self.busy += 1
            self.at(self.now + self.takes(), "ends", self.line.popleft())

    def ends(self, call: tuple[int, float]) -> None:
        ticket, began = call
        took = self.now - began
        outcome = SUCCESS if took <= self.gives_up else FAILURE
        self.guard.settle(ticket, self.now, outcome, took, "", False)
        if outcome == SUCCESS:
            self.ended.append((self.now, took))
        self.busy -= 1
        self.serve()

    def change(self, servers: int) -> None:
        self.servers = servers
        self.serve()

    def seen(self, since: float) -> tuple[float, float]:
        """Return the share of what it can do that was done since then, and the mean duration."""
        took = [each for at, each in self.ended if at >= since]
        done = len(took) / (self.now - since) / (self.servers / self.idle)
        return done, sum(took) / len(took) / self.idle


@pytest.mark.parametrize("kind", ["exponential", "constant", "long tail"])
@pytest.mark.parametrize("servers", [5, 20, 80])
def test_it_finds_what_the_service_can_do(servers: int, kind: str) -> None:
    """Wherever it begins: 20 is four times what 5 servers can do, and a quarter of 80."""
    service = Service(ConcurrencyLimit(20), servers, kind=kind)
    service.run(60)
    since = service.now
    service.run(60)
    done, took = service.seen(since)
    assert done >= 0.95
    assert took <= 3.2


@pytest.mark.parametrize("algorithm", ["gradient", "aimd"])
def test_it_follows_a_service_that_loses_servers_and_gets_them_back(algorithm: str) -> None:
    """Where the fixed limit that was right before fills its line, or leaves it idle."""
    guard = ConcurrencyLimit(40, algorithm=algorithm, slow_call_duration=4 * IDLE)
    service = Service(guard, 20, kind="constant")
    service.run(60)
    for servers, within in ((5, 20), (20, 20)):
        service.change(servers)
        service.run(within)
        since = service.now
        service.run(40)
        done, took = service.seen(since)
        assert done >= 0.9
        assert took <= 4
    fixed = Service(Fixed(40), 20, kind="constant")
    fixed.run(20)
    fixed.change(5)
    fixed.run(20)
    assert fixed.seen(fixed.now - 10)[1] > 7


class Fixed:
    """A bulkhead of so many slots."""

    def __init__(self, limit: int) -> None:
        self.limit, self.running = limit, 0

    def admit(self, now: float) -> int:
        if self.running >= self.limit:
            return REFUSE
        self.running += 1
        return 0

    def settle(self, *_: Any) -> None:
        self.running -= 1


def test_a_baseline_does_not_drift_with_an_overload() -> None:
    """Concurrency-limits 165: the mean of a long overload becomes what is usual, and the limit grows."""
    guard = ConcurrencyLimit(20, max_limit=1000)
    service = Service(guard, 10)
    service.run(30)
    early = guard.limit
    service.run(600)
    assert guard.limit <= 1.5 * early
    assert service.seen(service.now - 60)[1] <= 3


@pytest.mark.parametrize("idle", [0.005, 0.5, 2.0])
def test_however_long_a_call_takes(idle: float) -> None:
    """It looks how long calls take idle for a twentieth of the time at the most."""
    guard = ConcurrencyLimit(20, slow_call_duration=60)
    service = Service(guard, 20, kind="constant", idle=idle)
    service.run(max(60.0, 200 * idle))
    since = service.now
    service.run(max(60.0, 200 * idle))
    done, took = service.seen(since)
    assert done >= 0.95
    assert took <= 3.2


def test_it_does_not_look_where_the_limit_is_not_what_holds_calls_back() -> None:
    """Else a healthy dependency would be refused calls every half minute."""
    guard: Any = ConcurrencyLimit(40, max_limit=40)
    now, refused = START, 0
    for _ in range(1200):  # 25 callers at once, again and again
        tickets = [guard.admit(now) for _ in range(25)]
        refused += tickets.count(REFUSE)
        now += 0.1
        for ticket in tickets:
            guard.settle(ticket, now, SUCCESS, 0.1, "", False)
    assert refused == 0


def test_a_look_ends_though_nothing_goes_well() -> None:
    """Nor is it there for ever where calls become few."""
    for outcome in (IGNORED, None):
        guard: Any = ConcurrencyLimit(20, max_limit=40)
        service = Service(guard, 10)
        while not guard._rule._before:
            service.run(0.05)
        looked, before = guard.limit, guard._rule._before
        now = service.now
        for _ in range(100):
            now += 0.1
            ticket = guard.admit(now)
            if outcome is not None and ticket != REFUSE:
                guard.settle(ticket, now, outcome, 0.01, "ValueError", False)
        assert looked < before
        assert guard.limit == before


def test_what_fails_fast_is_no_fast_service() -> None:
    service = Service(ConcurrencyLimit(20), 20)
    service.run(60)
    for _ in range(2000):
        service.run(0.01)
        ticket = service.guard.admit(service.now)
        if ticket != REFUSE:
            service.guard.settle(ticket, service.now, IGNORED, 0.001, "", False)
    service.run(20)
    assert service.seen(service.now - 10)[0] >= 0.9


def mixed(critical: float, low: float, seconds: float = 60.0) -> dict[str, tuple[int, int]]:
    """Return how many calls of each level came and were refused, for shares of the capacity."""
    guard = ConcurrencyLimit(20, min_limit=20, max_limit=20)
    servers, now, end = 20, START, START + seconds
    chance, order = random.Random(3), itertools.count()
    events: list[Any] = []
    seen = {"critical": [0, 0], "low": [0, 0]}
    for level, load in (("critical", critical), ("low", low)):
        heapq.heappush(events, (now, next(order), level, load * servers / IDLE))
    while events:
        now, _, what, about = heapq.heappop(events)
        if now > end:
            break
        if what == "ends":
            guard.settle(about, now, SUCCESS, IDLE, "", False)
            continue
        heapq.heappush(events, (now + chance.expovariate(about), next(order), what, about))
        with priority(what):
            ticket = guard.admit(now)
        seen[what][0] += 1
        seen[what][1] += ticket == REFUSE
        if ticket != REFUSE:
            took = chance.expovariate(1 / IDLE)
            heapq.heappush(events, (now + took, next(order), "ends", ticket))
    return {level: (came, refused) for level, (came, refused) in seen.items()}


@pytest.mark.parametrize("critical", [0.2, 0.5, 0.8])
def test_a_flood_of_lesser_work_costs_the_important_little_and_has_the_rest(
    critical: float,
) -> None:
    """Critical work alone would be refused, too, now and then: it comes by chance."""
    alone, both = mixed(critical, 1e-9), mixed(critical, 2.0)
    came, refused = both["critical"]
    least = alone["critical"][1] / max(1, alone["critical"][0])
    assert refused / came <= least + 0.03
    came, refused = both["low"]
    assert (came - refused) / 60 >= 0.12 * (1 - critical) * 20 / IDLE


def test_idle_time_gives_everything_back() -> None:
    """However few calls come: what lacked slots is long gone."""
    guard = ConcurrencyLimit(20)
    with priority("low"):
        tickets = [guard.admit(START) for _ in range(20)]
    with priority("critical"):
        for _ in range(20):
            assert guard.admit(START) == REFUSE
    for ticket in tickets:
        guard.settle(ticket, START + 0.1, SUCCESS, 0.1, "", False)
    assert guard.snapshot(START)["left_to"] == {"low": 0}
    with priority("low"):
        assert guard.admit(START + 10) != REFUSE
    assert guard.snapshot(START)["left_to"] == {}


def test_a_refusal_that_no_lesser_call_caused_takes_nothing() -> None:
    guard = ConcurrencyLimit(2)
    with priority("critical"):
        assert [guard.admit(START) != REFUSE for _ in range(3)] == [True, True, False]
    assert guard.snapshot(START)["left_to"] == {}


def test_drops_cut_at_once_and_once_for_all_that_were_in_flight() -> None:
    """Concurrency-limits 176: Gradient2 ignores drops."""
    guard = ConcurrencyLimit(100)
    tickets = [guard.admit(START) for _ in range(100)]
    for ticket in tickets[:60]:
        guard.settle(ticket, START + 1, FAILURE, 1.0, "TimeoutError", False)
    assert guard.limit == 90
    again = guard.admit(START + 1)
    assert again != REFUSE
    guard.settle(again, START + 2, FAILURE, 1.0, "TimeoutError", False)
    assert guard.limit == 81


def test_it_does_not_grow_while_it_is_not_used() -> None:
    """What nobody has tried is not known: a burst would find a limit that means nothing."""
    service = Service(ConcurrencyLimit(20), 20, load=0.1)
    service.run(120)
    assert service.guard.limit == 20


def test_calls_that_time_out_bring_it_down_to_what_is_answered_in_time() -> None:
    """Though their durations say nothing: they all end at the time limit."""
    service = Service(ConcurrencyLimit(200, max_limit=400), 5, gives_up=0.5, kind="constant")
    service.run(60)
    done, _ = service.seen(service.now - 20)
    assert done >= 0.9
