"""A gauge is about what is there now: it goes with its process, and is true while that lives."""

from __future__ import annotations

import os
import signal

import pytest

from tests.kit.hosts import Host, calls, key
from tests.kit.waiting import until

BUSY = """
p = Policy("shop", circuit_breaker(failure_threshold=1), bulkhead(4, max_waiting=2, max_wait=9))
begun, go_on = threading.Event(), threading.Event()
def hold(): begun.set(); go_on.wait(20)
threading.Thread(target=lambda: p.try_call(hold), daemon=True).start()
begun.wait(10)
here.refresh()
"""
OPEN = "p.try_call(fail); here.refresh()"


def gauges(host: Host, seen: dict[str, float]) -> dict[str, float]:
    """Return what a scrape says of the gauges of the policy."""
    names = ("in_flight", "slots_used", "limit")
    found = {name: seen.get(key(name, policy="shop"), -1.0) for name in names}
    for state in ("closed", "open", "half_open"):
        found[state] = seen.get(key("breaker_workers", policy="shop", state=state), -1.0)
    return found


def test_they_go_with_their_process(host: Host) -> None:
    """What processes held when they were killed is held no more; what the living hold stays."""
    first, second, third = (host.start(BUSY) for _ in range(3))
    reader = host.start()
    second.do(OPEN)
    expected = {
        "in_flight": 3,
        "slots_used": 3,
        "limit": 12,
        "closed": 2,
        "open": 1,
        "half_open": 0,
    }
    assert gauges(host, reader.scrape()) == expected
    second.kill()
    expected |= {"in_flight": 2, "slots_used": 2, "limit": 8, "open": 0}
    assert [gauges(host, reader.scrape()) for _ in range(3)] == [expected] * 3
    third.kill()
    first.kill()
    seen = reader.scrape()
    assert seen[key("in_flight", policy="shop")] == 0
    for name in ("slots_used", "limit", "in_flight_peak", "queue_depth"):
        assert seen[key(name, policy="shop")] == 0, name
    for state in ("closed", "open"):
        assert seen[key("breaker_workers", policy="shop", state=state)] == 0
    for name in ("failure_ratio", "breaker_since_timestamp_seconds"):
        assert key(name, policy="shop") not in seen
    assert calls(seen, "shop", "failure") == 1
    assert seen[key("processes")] == 1


def test_breakers_by_state(host: Host) -> None:
    """Living processes are counted by their breaker's state, stopped ones too."""
    workers = [host.start("p = Policy('shop', circuit_breaker(failure_threshold=1)); p.call(int)")
               for _ in range(4)]  # fmt: skip
    for worker in workers[:3]:
        worker.do(OPEN)
    os.kill(workers[0].pid, signal.SIGSTOP)
    seen = workers[3].scrape()
    assert seen[key("breaker_workers", policy="shop", state="open")] == 3
    assert seen[key("breaker_workers", policy="shop", state="closed")] == 1
    workers[0].kill()
    seen = workers[3].scrape()
    assert seen[key("breaker_workers", policy="shop", state="open")] == 2
    workers[1].do("p.force_closed(); p.release(); here.refresh()")
    seen = workers[3].scrape()
    assert seen[key("breaker_workers", policy="shop", state="open")] == 1


def test_a_policy_that_is_dropped_holds_nothing(host: Host) -> None:
    """Its gauges are gone, in the process that lives on."""
    worker = host.start(
        "p = Policy('shop', circuit_breaker(), bulkhead(3)); p.call(int); here.refresh()"
    )
    assert key("limit", policy="shop") in worker.scrape()
    worker.do("resilient.registry.remove('shop'); del p; gc.collect(); here.refresh()")
    for seen in (worker.scrape(), host.start().scrape()):
        assert seen[key("limit", policy="shop")] == 0
        assert seen[key("breaker_workers", policy="shop", state="closed")] == 0
        assert calls(seen, "shop") == 1


QUIET = """
import resilient.pages.sharing as module, resilient.pages.publisher as records
module.EVERY, records._FADES, records._FADING = 0.05, 0.2, 0.1
"""


def test_an_idle_policy_whose_worker_ends_late(host: Host) -> None:
    """Long after the last call, an abandoned body ends: its slot and its thread are seen free."""
    worker = host.start(
        QUIET
        + """
p = Policy("shop", timeout(0.2, sync="thread"), bulkhead(2))
go_on = threading.Event()
p.try_call(go_on.wait, 20)
time.sleep(0.6)
"""
    )
    reader = host.start()
    names = [key(name, policy="shop") for name in ("workers", "slots_used", "abandoned_workers")]
    assert [reader.scrape()[name] for name in names] == [1, 1, 1]
    worker.do("go_on.set()")
    until(lambda: [reader.scrape()[name] for name in names] == [0, 0, 0])


def test_callers_that_wait_where_all_hangs(host: Host) -> None:
    """A line that forms long after anything was counted is seen."""
    worker = host.start(
        QUIET + BUSY.replace("circuit_breaker(failure_threshold=1), bulkhead(4", "bulkhead(1")
    )
    reader = host.start()
    depth = key("queue_depth", policy="shop")
    worker.do("time.sleep(0.6)")
    assert reader.scrape()[depth] == 0
    worker.do("threading.Thread(target=p.try_call, args=(int,), daemon=True).start()")
    until(lambda: reader.scrape()[depth] == 1)


def test_a_ratio_fades_with_its_window(host: Host) -> None:
    """A share of calls is shown as long as its window has calls, and no longer."""
    worker = host.start(
        QUIET
        + """
p = Policy("shop", circuit_breaker(minimum_calls=1, failure_threshold=None, window=4.0))
p.call(int)
here.refresh()
"""
    )
    reader = host.start()
    ratio = key("failure_ratio", policy="shop")
    assert reader.scrape().get(ratio) == 0
    until(lambda: ratio not in reader.scrape())
    assert worker.alive


@pytest.mark.parametrize(
    ("guard", "name", "then"),
    [
        ("throttle(minimum_calls=1, window=4.0)", "throttle_refused_share", 0.0),
        ("rate_limit(1, 4.0)", "rate_limit_ready", 1.0),
    ],
)
def test_a_limit_that_remembers_fades(host: Host, guard: str, name: str, then: float) -> None:
    """What a guard would do is shown until what it remembers is over, though nobody calls."""
    worker = host.start(
        QUIET
        + f"""
from resilient import rate_limit, throttle
p = Policy("shop", {guard})
p.try_call(int, "no number")
here.refresh()
"""
    )
    reader = host.start()
    assert reader.scrape()[key(name, policy="shop")] != then
    until(lambda: reader.scrape()[key(name, policy="shop")] == then)
    assert worker.alive


@pytest.mark.parametrize("how", ["SIGKILL", "SIGTERM"])
def test_flags_of_the_dead(host: Host, how: str) -> None:
    """What a flag said in a process that is gone is not shown, not even as a number that is none."""
    worker = host.start(
        "f = flag('shop', impact='nothing'); bool(f); Policy('p').call(int); here.refresh()"
    )
    reader = host.start()
    assert reader.scrape()[key("flag_processes", flag="shop", state="on")] == 1
    worker.kill(getattr(signal, how))
    text = reader.do("metrics.exposition()[0].decode()")
    assert "nan" not in text.lower().replace("_nan", "")
    assert 'flag_enabled{flag="shop"}' not in text
    assert 'flag_processes{state="on",flag="shop"} 0.0' in text
