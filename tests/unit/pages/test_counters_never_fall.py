"""No counter ever falls from one scrape to a later one, whoever is asked."""

from __future__ import annotations

import itertools
import random
import struct
from pathlib import Path
from typing import Any

import pytest

from tests.kit.hosts import Host, Process, calls, counters, fallen, key
from tests.kit.waiting import until
from tests.kit.workers import python_path

SECONDS = 2.5
ACT = """
from tests.unit.pages.actor import Actor
Actor({marks!r}, {seed}).run({seconds})
"""
WATCH = """
from tests.unit.pages.actor import watch
from concurrent.futures import ThreadPoolExecutor
with ThreadPoolExecutor(2) as pool:
    found = [each for part in pool.map(lambda _: watch(scrape, {seconds}), range(2)) for each in part]
found
"""


def falls(scrapes: list[Any]) -> dict[str, Any]:
    """Return the counters that a scrape shows lower than one that was over before it began."""
    highest: dict[str, float] = {}
    over = sorted(scrapes, key=lambda each: each[1])
    done, found = 0, {}
    for began, _, seen in sorted(scrapes, key=lambda each: each[0]):
        while over[done][1] < began:
            for name, n in counters(over[done][2]).items():
                highest[name] = max(n, highest.get(name, 0.0))
            done += 1
        for name, n in highest.items():
            if seen.get(name, 0.0) < n:
                found.setdefault(name, (n, seen.get(name)))
    return found


def _begun(marks: Path) -> int:
    return int(struct.unpack("qq", marks.read_bytes())[0])


def _ended(marks: Path) -> int:
    return int(struct.unpack("qq", marks.read_bytes())[1])


@pytest.mark.parametrize("seed", [1, 2])
def test_no_counter_falls_in_a_storm(host: Host, seed: int) -> None:
    """Processes come, change policies, fork and are killed, while others scrape in threads."""
    chance = random.Random(seed)
    watchers = [host.start(PYTHONPATH=python_path()) for _ in range(2)]
    for each in watchers:
        each.tell(WATCH.format(seconds=SECONDS))
    marks: list[Any] = []

    def actor() -> Process:
        path = host.home / f"marks{len(marks)}"
        path.write_bytes(bytes(16))
        marks.append(path)
        worker = host.start(PYTHONPATH=python_path())
        number = seed * 1000 + len(marks)
        worker.tell(ACT.format(marks=str(path), seed=number, seconds=600))  # until it is killed
        return worker

    actors = [actor() for _ in range(3)]
    for _ in range(4):
        until(lambda: all(_ended(path) > 10 for path in marks))
        actors.pop(chance.randrange(len(actors))).kill()
        actors.append(actor())
    scrapes = [scrape for each in watchers for scrape in each.hear()]
    for each in actors:
        each.kill()
    scrapes.append([1e12, 1e12, watchers[0].scrape()])
    assert len(scrapes) > 3
    assert falls(scrapes) == {}
    begun, ended = sum(map(_begun, marks)), sum(map(_ended, marks))
    total = calls(scrapes[-1][2], "shop")
    assert total is not None
    assert ended <= total <= begun
    assert ended > 10 * len(actors)
    assert not host.warnings(), host.errors()


def test_a_line_that_goes_takes_no_waits_along(host: Host) -> None:
    """The waits of a line stay, in one process and in the sum, when an operator removes it."""
    code = """
p = Policy("shop", bulkhead(1, max_waiting=5, max_wait=5))
begun, go_on = threading.Event(), threading.Event()
first = threading.Thread(target=p.call, args=(lambda: (begun.set(), go_on.wait(10)),))
first.start(); begun.wait(10)
second = threading.Thread(target=p.call, args=(int,)); second.start()
while core("shop").guards[0].waiting < 1: time.sleep(0.001)
go_on.set(); first.join(); second.join()
"""
    here, other = host.start(code), host.start(code)
    before = here.scrape()
    assert before[key("wait_seconds_count", policy="shop")] == 2
    for worker in (here, other):
        worker.do("p.update(bulkhead={'max_waiting': 0, 'max_wait': None}); here.refresh()")
        assert fallen(before, here.scrape()) == {}
        assert fallen(before, other.scrape()) == {}
    other.kill()
    assert fallen(before, here.scrape()) == {}


def test_a_view_that_goes_takes_no_counts_along(host: Host) -> None:
    """What a view's guards have counted stays when the view is dropped, and its process dies."""
    worker = host.start("p = Policy('shop'); p.call(int)")
    other = host.start("p = Policy('shop'); p.call(int)")
    worker.do(
        """
v = p.with_(bulkhead(1, max_waiting=1, max_wait=0.001), fallback(value=1), timeout(0.01, sync="thread"))
v.call(v.call, int)
v.call(time.sleep, 0.05)
time.sleep(0.06)
here.refresh()
"""
    )
    before = other.scrape()
    worker.do("del v; gc.collect(); here.refresh()")
    assert fallen(before, other.scrape()) == {}
    worker.kill()
    assert fallen(before, other.scrape()) == {}


def test_a_policy_made_again_under_its_name(host: Host) -> None:
    """What the first one has counted stays, with the same guards and with others."""
    code = """
for round in range(6):
    p = Policy("shop", *[bulkhead(3), circuit_breaker(), fallback(value=1)][: round % 4])
    for _ in range(10): p.call(int)
    seen.append(scrape())
    resilient.registry.remove("shop")
    del p
    gc.collect()
    seen.append(scrape())
"""
    worker = host.start("seen = []")
    seen = worker.do(code + "seen")
    assert [calls(each, "shop") for each in seen] == [
        10,
        10,
        20,
        20,
        30,
        30,
        40,
        40,
        50,
        50,
        60,
        60,
    ]
    for before, after in itertools.pairwise(seen):
        assert fallen(before, after) == {}
    worker.kill()
    assert fallen(seen[-1], host.start().scrape()) == {}


@pytest.mark.parametrize("lock", ["_lock", "_others._lock"])
@pytest.mark.parametrize("first", [True, False])
def test_a_scrape_that_has_to_wait(host: Host, lock: str, first: bool) -> None:
    """While another thread is at work for long, a scrape waits, or says what it knew."""
    host.start("p = Policy('shop')\nfor _ in range(10): p.call(int)")
    worker = host.start("p = Policy('shop'); p.call(int)")
    if not first:
        assert calls(worker.scrape(), "shop") == 11
        worker.do(
            "import resilient.pages.sharing as module, resilient.pages.other_pages as others\n"
            "module.PATIENCE = others.PATIENCE = 0.1"
        )
    code = f"""
def hold():
    with here.{lock}:
        held.set()
        time.sleep(1.2)
held = threading.Event()
thread = threading.Thread(target=hold); thread.start(); held.wait()
seen = scrape()
thread.join()
seen
"""
    assert calls(worker.do(code), "shop") == 11


@pytest.mark.parametrize("error", ["OSError(24, 'too many open files')", "ValueError('x')"])
def test_a_directory_that_can_not_be_read_for_a_moment(host: Host, error: str) -> None:
    """What was known stands in for what can't be read."""
    other = host.start("p = Policy('shop')\nfor _ in range(10): p.call(int)")
    worker = host.start("p = Policy('shop'); p.call(int)")
    assert calls(worker.scrape(), "shop") == 11
    code = f"""
import resilient.pages.directory as directory
real = directory.os.listdir
def listdir(path): raise {error}
class OS:
    def __getattr__(self, name): return listdir if name == "listdir" else getattr(os, name)
directory.os = OS()
seen = [scrape(), scrape()]
directory.os = os
seen + [scrape()]
"""
    assert [calls(each, "shop") for each in worker.do(code)] == [11, 11, 11]
    assert host.warnings() <= 1
    other.kill()


def test_no_more_files_can_be_opened(host: Host) -> None:
    """A process at its limit of open files shows no less than before, and breaks nothing."""
    gone = host.start("p = Policy('shop')\nfor _ in range(10): p.call(int)")
    worker = host.start("p = Policy('shop'); p.call(int)")
    gone.kill()
    assert calls(worker.scrape(), "shop") == 11
    more = host.start("p = Policy('shop'); p.call(int)")
    assert calls(worker.scrape(), "shop") == 12
    more.kill()
    code = """
import resource
limits = resource.getrlimit(resource.RLIMIT_NOFILE)
taken, seen = [], []
resource.setrlimit(resource.RLIMIT_NOFILE, (64, limits[1]))
try:
    while True: taken.append(os.open("/dev/null", os.O_RDONLY))
except OSError:
    pass
for _ in range(4):  # none is left, then one, then two
    seen.append(scrape())
    os.close(taken.pop())
for each in taken: os.close(each)
resource.setrlimit(resource.RLIMIT_NOFILE, limits)
seen + [scrape()]
"""
    assert [calls(each, "shop") for each in worker.do(code)] == [12] * 5
    assert not [name for name in host.names() if "broken" in name]
    assert calls(host.start().scrape(), "shop") == 12


def test_others_beyond_the_limit_are_the_same_everywhere(host: Host) -> None:
    """Each process adds up the same policies, in whatever order it has made its own."""
    code = """
from resilient.prometheus.endpoint import Metrics as Endpoint
endpoint = Endpoint(None, 3)
def limited():
    lines = endpoint.body("")[0].decode().splitlines()
    return {line.rpartition(" ")[0]: float(line.rpartition(" ")[2]) for line in lines
            if line.startswith(("resilient_calls_total", "resilient_policies_"))}
"""
    workers = []
    for names in ("abcde", "edcba", "cfbad"):
        workers.append(host.start(code))
        workers[-1].do(f"ps = [Policy(n) for n in {names!r}]\nfor p in ps: p.call(int)")
    seen = [worker.do("limited()") for worker in workers for _ in range(2)]
    assert all(each == seen[0] for each in seen)
    workers.pop(0).kill()
    for worker in workers:
        assert worker.do("limited()") == seen[0]
    late = host.start(code)
    late.do("ps = [Policy(n) for n in 'gfedcba']")
    shown = {key for key in seen[0] if "success" in key}
    for worker in (*workers, late):
        assert {key for key in worker.do("limited()") if "success" in key} == shown


def test_a_record_in_a_freed_place(host: Host) -> None:
    """A record may be put where another one was, though its layout is known only since."""
    worker = host.start(
        """
for n in range(1, 33):  # leave free places of all sizes
    p = Policy("a" * n, circuit_breaker()); p.call(int)
    resilient.registry.remove(p.name)
    del p
gc.collect(); here.refresh()
ps = [Policy("b" * n, circuit_breaker()) for n in range(1, 33)]
for p in ps: p.call(int)
"""
    )
    other = host.start()
    before = other.scrape()
    for act in ("p.force_open()", "p.release()", "p.with_(bulkhead(1)).call(int)", "p.call(int)"):
        worker.do(f"for p in ps: {act}\nhere.refresh()")
        after = other.scrape()
        assert fallen(before, after) == {}
        before = after
    assert {calls(before, "b" * n) for n in range(1, 33)} == {3}
    worker.kill()
    assert fallen(before, other.scrape()) == {}
