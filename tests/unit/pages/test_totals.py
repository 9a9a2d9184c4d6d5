"""What all processes have counted is what a scrape of any of them says, however they end."""

from __future__ import annotations

import os
import signal
import struct

import pytest

from tests.kit.hosts import Host, Process, calls, key, state
from tests.kit.waiting import until
from tests.kit.workers import python_path

ENDS = {
    "os._exit": "os._exit(3)",
    "sys.exit": "sys.exit()",
    "an error": "raise SystemExit(1)",
    "exec": "os.execv('/bin/true', ['true'])",
    "sigkill": "os.kill(os.getpid(), signal.SIGKILL)",
    "sigterm": "os.kill(os.getpid(), signal.SIGTERM)",
    "sigint": "signal.signal(signal.SIGINT, signal.SIG_DFL); os.kill(os.getpid(), signal.SIGINT)",
}  # fmt: skip


def count(worker: Process, times: int, name: str = "shop") -> None:
    """Have a process make so many calls under a policy."""
    worker.do(f"p = Policy({name!r}); [p.call(int) for _ in range({times})]; None")


@pytest.mark.parametrize("how", ENDS.values(), ids=ENDS)
def test_nothing_is_lost_or_doubled_at_the_end_of_a_process(host: Host, how: str) -> None:
    """A scrape before, at once after, and after the fold says the same."""
    here, other = host.start(), host.start()
    count(here, 5)
    count(other, 37)
    assert calls(here.scrape(), "shop") == 42
    other.end(how)
    assert calls(here.scrape(), "shop") == 42
    until(lambda: host.names() == {host.page_of(here).name, "departed.page"})
    assert [calls(here.scrape(), "shop") for _ in range(2)] == [42] * 2
    assert calls(host.start().scrape(), "shop") == 42


def test_each_process_sees_the_same(host: Host) -> None:
    """All counters are equal, to the last digit, whoever of eight is asked, through all folds."""
    code = """
import random
clock = ManualClock()
p = Policy("shop", bulkhead(9), clock=clock)
chance = random.Random(os.getpid())
for _ in range(300): p.call(clock.advance, chance.random() * 3)
"""
    workers = [host.start(code) for _ in range(8)]
    sums = key("call_duration_seconds_sum", policy="shop")
    seen = {worker.scrape()[sums] for worker in workers}
    for worker in workers[3:]:
        worker.kill()
        seen |= {each.scrape()[sums] for each in workers[:3]}
    assert len(seen) == 1
    assert calls(workers[0].scrape(), "shop") == 2400


def test_threads_of_a_process(host: Host) -> None:
    """No call of eight threads is lost in the page."""
    worker = host.start(
        """
sys.setswitchinterval(1e-5)
p = Policy("shop", bulkhead(50))
def body():
    for _ in range(500): p.call(int)
threads = [threading.Thread(target=body) for _ in range(8)]
for each in threads: each.start()
for each in threads: each.join()
"""
    )
    assert calls(host.start().scrape(), "shop") == 4000
    worker.kill()
    assert calls(host.start().scrape(), "shop") == 4000


def test_a_fork_of_a_fork(host: Host) -> None:
    """Each generation counts its own calls, with a thousand policies inherited."""
    first = host.start("ps = [Policy(f'p{n}') for n in range(1000)]\nfor p in ps: p.call(int)")
    second = first.fork()
    second.do("for p in ps: p.call(int)")
    third = second.fork()
    third.do("for p in ps[:500]: p.call(int)")
    seen = third.scrape()
    assert [calls(seen, f"p{n}") for n in (0, 499, 500, 999)] == [3, 3, 2, 2]
    second.kill()
    assert first.scrape()[key("processes")] == 2
    third.kill()
    seen = first.scrape()
    assert {calls(seen, f"p{n}") for n in range(500)} == {3}
    assert {calls(seen, f"p{n}") for n in range(500, 1000)} == {2}


def test_forks_while_threads_call(host: Host) -> None:
    """A child begins at zero, whatever the parent's threads were doing."""
    worker = host.start(
        """
sys.setswitchinterval(1e-5)
p, done, go_on = Policy("shop", bulkhead(50)), [], threading.Event()
p.call(int)
def body():
    n = 0
    while not go_on.is_set():
        p.call(int)
        n += 1
    done.append(n)
threads = [threading.Thread(target=body) for _ in range(4)]
for each in threads: each.start()
"""
    )
    children = [worker.fork() for _ in range(6)]
    for child in children:
        child.do("for _ in range(100): p.call(int)")
    total = worker.do("go_on.set()\nfor each in threads: each.join()\nsum(done) + 1")
    assert calls(children[0].scrape(), "shop") == total + 600
    for child in children:
        child.kill()
    assert calls(worker.scrape(), "shop") == total + 600


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing(host: Host, method: str) -> None:
    """Its children count, however they are started."""
    worker = host.start(
        "from tests.unit.pages.counted import count\ncount(1)", PYTHONPATH=python_path()
    )
    code = f"""
import multiprocessing
context = multiprocessing.get_context({method!r})
children = [context.Process(target=count, args=(n,)) for n in (10, 20)]
for each in children: each.start()
for each in children: each.join()
[each.exitcode for each in children]
"""
    assert worker.do(code) == [0, 0]
    assert calls(worker.scrape(), "shop") == 31
    assert calls(host.start().scrape(), "shop") == 31


def test_sigkill_at_random_moments(host: Host) -> None:
    """Each call is counted once it has returned, and at most one more is."""
    code = """
import mmap, struct
p = Policy("shop", bulkhead(3))
file = open(path, "r+b")
mark = mmap.mmap(file.fileno(), 8)
def body():
    for n in range(1, 10**9):
        p.call(int)
        struct.pack_into("q", mark, 0, n)
        if n % 50 == 0: p.update(bulkhead={"max_waiting": n // 50 % 2, "max_wait": 1 if n // 50 % 2 else None})
"""
    reader, returned, killed = host.start(), 0, 0
    for number in range(6):
        path = host.home / f"mark{number}"
        path.write_bytes(bytes(8))
        worker = host.start(f"path = {str(path)!r}\n{code}")
        worker.tell("body()")
        until(lambda path=path: struct.unpack("q", path.read_bytes())[0] > 150)
        worker.kill()
        returned += struct.unpack("q", path.read_bytes())[0]
        killed += 1
        now = calls(reader.scrape(), "shop")
        assert now is not None
        assert returned <= now <= returned + killed
        returned, killed = int(now), 0


def test_a_stopped_process_is_alive(host: Host) -> None:
    """SIGSTOP: it is not folded, nobody waits for it, and it goes on counting."""
    here, other = host.start(), host.start()
    count(here, 1)
    count(other, 2)
    other.stopped()
    page = host.page_of(other)
    seen = here.scrape()
    assert calls(seen, "shop") == 3
    assert seen[key("processes")] == 2
    assert page.exists()
    os.kill(other.pid, signal.SIGCONT)
    other.do("p.call(int)")
    assert calls(here.scrape(), "shop") == 4


def test_one_stopped_while_it_folds_stops_nobody(host: Host) -> None:
    """Whoever holds the lock of the directory and stands still keeps nobody from scraping."""
    folder = host.start(
        """
from resilient.pages import directory
armed = []
def fold(self): armed and signal.raise_signal(signal.SIGSTOP)
directory.Directory._fold = fold
p = Policy("shop"); p.call(int)
"""
    )
    here, other = host.start(), host.start()
    count(here, 1)
    count(other, 1)
    host.start("Policy('shop').call(int)").kill()
    folder.tell("armed.append(1)\nwhile True: scrape()")
    until(lambda: state(folder.pid) == "T")
    other.kill()
    assert calls(here.scrape(), "shop") == 4
    os.kill(folder.pid, signal.SIGKILL)
    folder.gone()
    assert calls(here.scrape(), "shop") == 4
    until(lambda: len(host.names()) == 2)
    assert calls(here.scrape(), "shop") == 4


def test_policies_that_are_made_and_dropped_at_once(host: Host) -> None:
    """What a short-lived policy counted is kept, though the next one takes its place in memory."""
    worker = host.start(
        """
def request():
    @bulkhead(5)
    def query(): return 1
    query()
for _ in range(200): request()
gc.collect()
"""
    )
    seen = worker.scrape()
    names = [name for name in seen if name.startswith("calls_total") and "success" in name]
    assert sum(seen[name] for name in names) == 200
    worker.kill()
    seen = host.start().scrape()
    assert sum(seen[name] for name in names) == 200


def test_a_push_at_exit_that_comes_last(host: Host) -> None:
    """Handlers that run after ours at exit call policies and scrape: all is counted once."""
    code = f"""
import atexit, sys
path = {str(host.home / "said")!r}
def last():
    for _ in range(3): p.call(int)
    Policy("late").call(int)
    text = metrics.exposition()[0].decode()
    open(path, "w").write(text)
atexit.register(last)
from resilient import Policy, metrics
p = Policy("shop")
for _ in range(7): p.call(int)
"""
    worker = host.start()
    assert (
        worker.do(f"import subprocess\nsubprocess.run([sys.executable, '-c', {code!r}]).returncode")
        == 0
    )
    said = (host.home / "said").read_text()
    assert 'resilient_calls_total{outcome="success",policy="shop"} 10.0' in said
    seen = worker.scrape()
    assert calls(seen, "shop") == 10
    assert calls(seen, "late") == 1


def test_a_fork_inside_a_call(host: Host) -> None:
    """The call that forks ends in both, and is counted in both."""
    worker = host.start("p = Policy('shop')")
    worker.do("p.call(fork)")
    child = host.accept()
    child.do("p.call(int)")
    assert calls(worker.scrape(), "shop") == 2
    assert worker.scrape()[key("in_flight", policy="shop")] in (0, 1)
    child.kill()
    assert calls(worker.scrape(), "shop") == 2


def test_flags_are_counted_where_they_are_read(host: Host) -> None:
    """A forked child does not count its parent's reads and flips again."""
    worker = host.start(
        """
f = flag("shop", default=True, impact="nothing")
flags.off("shop", reason="a test")
for _ in range(5): bool(f)
Policy("p").call(int)
"""
    )
    reads, changes = (
        key("flag_off_calls_total", flag="shop"),
        key("flag_changes_total", flag="shop"),
    )
    seen = worker.scrape()
    assert (seen[reads], seen[changes]) == (5, 1)
    children = [worker.fork() for _ in range(2)]
    for child in children:
        child.do("p = Policy('q'); p.call(int); bool(f); here.refresh()")
    seen = worker.scrape()
    assert seen[changes] == 1
    assert seen[reads] in (5, 7)  # a child of a process's own memory knows of no flip
    for child in children:
        child.kill()
    assert not {(seen[reads], seen[changes])} - {(worker.scrape()[reads], worker.scrape()[changes])}
