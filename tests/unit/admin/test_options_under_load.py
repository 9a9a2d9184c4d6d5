"""Updates from many threads, while calls hammer the policy."""

from __future__ import annotations

import itertools
import random
import threading
import time
from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient import BulkheadFullError, Policy, bulkhead, circuit_breaker, load_settings, timeout
from tests.kit.policies import idle, part, policy
from tests.kit.threads import Busy, in_threads
from tests.unit.admin.kit import operator, options, updated, written

DIFFERENT: list[dict[str, dict[str, Any]]] = [
    {"circuit_breaker": {"failure_rate": 0.9}},
    {"circuit_breaker": {"failure_threshold": 99}},
    {"circuit_breaker": {"window": 60.0}},
    {"circuit_breaker": {"minimum_calls": 7}},
    {"circuit_breaker": {"slow_call_rate": 0.75}},
    {"circuit_breaker": {"recovery_timeout": 9.0}},
    {"bulkhead": {"max_concurrent": 50}},
    {"bulkhead": {"order": "lifo"}},
    {"timeout": {"seconds": 9.0}},
]


def whole() -> Policy:
    return policy(
        circuit_breaker(failure_rate=1.0, failure_threshold=None),
        bulkhead(3),
        timeout(30, sync="cooperative"),
    )


@pytest.mark.parametrize("layers", ["one", "three"])
def test_no_update_is_lost(layers: str, tmp_path: Path) -> None:
    """All threads set options of their own at once: all are set at the end, while calls go on."""
    end = time.monotonic() + 1
    rounds = 0
    while time.monotonic() < end and rounds < 60:
        shop = whole()
        fetch = shop(lambda: None)
        path = written(
            tmp_path,
            f'[policies."{shop.name}".circuit_breaker]\nhalf_open_max_calls = 4\n'
            f'[policies."{shop.name}".bulkhead]\nmax_waiting = 2\nmax_wait = 1\n',
        )

        def change(place: int, shop: Policy = shop, path: Path = path) -> None:
            if place == len(DIFFERENT):
                load_settings(path, environ={})
            elif layers == "three" and place % 2:
                operator(shop, **DIFFERENT[place])
            else:
                shop.update(**DIFFERENT[place])

        with Busy(2, fetch):
            ends = in_threads(len(DIFFERENT) + (layers == "three"), change)
        assert not any(ends), ends
        for given in DIFFERENT:
            for kind, some in given.items():
                assert {name: options(shop, kind)[name] for name in some} == some
        if layers == "three":
            assert options(shop, "circuit_breaker")["half_open_max_calls"] == 4
            assert options(shop, "bulkhead")["max_waiting"] == 2
        idle(shop)
        rounds += 1
    assert rounds


def test_counts_stay_exact_and_never_more_run_than_the_largest_limit(
    events: list[resilient.Event],
) -> None:
    """U1, with limits that move between 1 and 6 and options that come and go, for two seconds."""
    largest, end = 6, time.monotonic() + 2
    shop = policy(
        circuit_breaker(failure_rate=1.0, failure_threshold=None), bulkhead(3, max_waiting=4, max_wait=5)
    )  # fmt: skip
    lock = threading.Lock()
    running, peak = 0, 0
    tally: list[dict[str, int]] = []

    @shop
    def fetch(fail: bool) -> None:
        nonlocal running, peak
        with lock:
            running += 1
            peak = max(peak, running)
        if random.random() < 0.2:
            time.sleep(0.0002)
        with lock:
            running -= 1
        if fail:
            raise OSError

    def calling(place: int) -> None:
        mine = {"success": 0, "failure": 0, "refused": 0}
        numbers = itertools.count()
        while time.monotonic() < end:
            fail = next(numbers) % 5 == 0
            try:
                fetch(fail)
            except OSError:
                mine["failure"] += 1
            except BulkheadFullError:
                mine["refused"] += 1
            else:
                mine["success"] += 1
        tally.append(mine)

    changed: list[int] = []

    def changing(place: int) -> None:
        while time.monotonic() < end:
            number = random.randint(1, largest)
            shop.update(
                bulkhead={"max_concurrent": number, "order": random.choice(["fifo", "lifo"])},
                circuit_breaker={"slow_call_duration": random.choice([None, 5.0, 9.0])},
            )
            with pytest.raises(ValueError):
                shop.update(bulkhead={"max_concurrent": 500}, circuit_breaker={"minimum_calls": 0})
            changed.append(number)
            time.sleep(0.001)

    ends = in_threads(9, lambda place: (changing if place < 2 else calling)(place))
    assert not any(ends), ends
    assert peak <= largest
    counted = {word: sum(mine[word] for mine in tally) for word in tally[0]}
    seen = shop.snapshot()["calls"]
    assert {word: seen[word] for word in counted} == counted
    assert changed
    assert shop.state == "closed"
    idle(shop)
    told = updated(events, shop)
    for one, other in itertools.pairwise(sorted(told, key=lambda event: event.at)):
        assert one.at <= other.at
    assert part(shop, "bulkhead")["options"]["max_concurrent"] <= largest


def test_a_reader_never_sees_half_a_change() -> None:
    """Options that are changed together are seen together, in every snapshot."""
    shop = whole()
    end, torn = time.monotonic() + 1, []

    def changing(place: int) -> None:
        for number in itertools.count(1):
            if time.monotonic() > end:
                return
            small = number % 50 + 1
            shop.update(
                bulkhead={"max_concurrent": small},
                circuit_breaker={"minimum_calls": small},
                timeout={"seconds": small},
            )

    def reading(place: int) -> None:
        while time.monotonic() < end:
            first, second, third = (each["options"] for each in shop.snapshot()["guards"])
            seen = {first["minimum_calls"], second["max_concurrent"], third["seconds"]}
            if len(seen) != 1 and seen != {20, 3, 30}:
                torn.append(seen)

    assert not any(in_threads(3, lambda place: (reading if place else changing)(place)))
    assert not torn
