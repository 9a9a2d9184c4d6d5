"""Calls, scrapes and forks from anywhere, at any time: nothing hangs, and all is counted."""

from __future__ import annotations

import pytest

from tests.kit.hosts import Host, calls
from tests.kit.workers import python_path

SUM = """
def shown(seen):
    ends = ("success", "failure", "refused", "ignored", "cancelled")
    return sum(n for name, n in seen.items()
               if name.startswith("calls_total") and name.count("other") == 0)
def known():
    return sum(sum(each.outcomes()) for each in resilient.registry.cores())
tally, lock = [0], threading.Lock()
def tallied(policy):
    with lock: tally[0] += 1
    policy.try_call(int)
number = iter(range(10**9))
def first_call(most=40):
    n = next(number)
    tallied(Policy(f"new{n}") if n < most else p)
p = Policy("shop", circuit_breaker(), bulkhead(1000))
tallied(p)
"""


def test_a_signal_handler_that_calls(host: Host) -> None:
    """Wherever it interrupts a refresh, a scrape, a first call: it goes on, and all is counted.

    It must make no policy, and not scrape, which waits for what it may have interrupted.
    """
    worker = host.start(SUM)
    worker.do(
        """
handled, inside = [0], []
def handler(*_):
    if inside: return
    inside.append(1)
    try: handle()
    finally: inside.pop()
def handle():
    handled[0] += 1
    tally[0] += 1
    p.try_call(int)
signal.signal(signal.SIGALRM, handler)
signal.setitimer(signal.ITIMER_REAL, 0.001, 0.003)
end = time.monotonic() + 1.2
while time.monotonic() < end or handled[0] <= 20:
    tally[0] += 1; p.try_call(int)
    tally[0] += 1; q = Policy(f"new{next(number)}"); q.try_call(int)
    here.refresh()
    scrape()
    p.force_open(); p.release()
signal.setitimer(signal.ITIMER_REAL, 0)
"""
    )
    assert worker.do("handled[0]") > 20
    assert worker.do("[known() - tally[0], shown(scrape()) - tally[0]]") == [0, 0]
    assert host.start(SUM).do(f"shown(scrape()) - {worker.do('tally[0]')} - tally[0]") == 0


def test_finalizers_that_call_and_scrape(host: Host) -> None:
    """Garbage is collected in the middle of anything; its finalizers call policies."""
    worker = host.start(SUM)
    worker.do(
        """
class Dying:
    left = 3000
    def __init__(self): self.me = self
    def __del__(self):
        if Dying.left > 0:
            Dying.left -= 1
            tally[0] += 1
            (Policy(f"d{Dying.left}") if Dying.left % 50 == 0 else p).try_call(int)
            if Dying.left % 200 == 0: scrape()
gc.set_threshold(7, 2, 2)
end = time.monotonic() + 1.0
while (time.monotonic() < end or Dying.left > 2900) and Dying.left > 0:
    for _ in range(5): Dying()
    here.refresh()
    tallied(p)
    first_call()
    scrape()
left, Dying.left = Dying.left, 0
gc.set_threshold(700, 10, 10)
"""
    )
    assert worker.do("left") <= 2900
    assert worker.do("[known() - tally[0], shown(scrape()) - tally[0]]") == [0, 0]


def test_listeners_that_call_and_scrape(host: Host) -> None:
    """A listener may do all that, while other threads scrape, make policies and refresh."""
    worker = host.start(SUM)
    found = worker.do(
        """
heard = [0]
def listener(event):
    heard[0] += 1
    tallied(p)
    first_call()
    scrape()
resilient.registry.subscribe(listener)
stop = threading.Event()
def loop(*acts):
    while not stop.is_set():
        for act in acts: act()
acts = [(scrape,), (here.refresh, first_call), (lambda: tallied(p),)]
threads = [threading.Thread(target=loop, args=each) for each in acts]
for each in threads: each.start()
for n in range(6):
    q = Policy(f"q{n}", circuit_breaker()); tallied(q)
    q.force_open(); q.release()
stop.set()
for each in threads: each.join(40)
[heard[0] > 6, any(each.is_alive() for each in threads), resilient.events.bus.listener_errors]
"""
    )
    assert found == [True, False, 0]
    assert worker.do("[known() - tally[0], shown(scrape()) - tally[0]]") == [0, 0]


def test_a_fork_while_the_page_is_at_work(host: Host) -> None:
    """The child calls and scrapes at once, though all locks of ours were held by other threads."""
    worker = host.start(
        """
p = Policy("shop"); p.call(int); scrape()
held, go_on = threading.Event(), threading.Event()
def hold():
    with here._lock, p._core.lock:
        held.set(); go_on.wait(0.3)
thread = threading.Thread(target=hold); thread.start(); held.wait()
"""
    )
    child = worker.fork()
    child.do("p.call(int); Policy('late').call(int)")
    assert calls(child.scrape(), "shop") == 2
    assert calls(worker.scrape(), "late") == 1


def test_scrapes_in_children_right_after_the_fork(host: Host) -> None:
    """While three threads scrape, refresh and make policies, each child scrapes first of all."""
    worker = host.start(SUM)
    found = worker.do(
        """
stop = threading.Event()
def loop(*acts):
    while not stop.is_set():
        for act in acts: act()
acts = [(scrape,), (here.refresh, first_call), (lambda: tallied(p),)]
threads = [threading.Thread(target=loop, args=each, daemon=True) for each in acts]
for each in threads: each.start()
codes = []
for _ in range(12):
    pid = os.fork()
    if pid == 0:
        signal.alarm(40)
        try:
            seen = scrape()
            p.call(int)
            os._exit(0 if shown(scrape()) > shown(seen) else 3)
        finally:
            os._exit(4)
    codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
stop.set()
for each in threads: each.join(40)
codes
"""
    )
    assert found == [0] * 12
    assert worker.do("shown(scrape()) - tally[0]") == 12


@pytest.mark.parametrize(
    "act",
    [
        "p.force_open(); here._records.told.add('same'); here.refresh()",
        "view()",
        "drop()",
        "Policy(f'new{line}', bulkhead(2)).call(int)",
    ],
    ids=["event", "layout", "dropped", "first call"],
)
def test_interrupted_at_any_moment(host: Host, act: str) -> None:
    """A handler that raises in the middle of the page's own work: nothing hangs, nothing is doubled.

    It may cost what that policy had counted where this process alone knew it; all that look agree.
    """
    worker = host.start(
        SUM
        + f"""
from tests.unit.pages.steps import interrupted_at
made, views = [], []
def view():
    views[:] = [made[-1].with_(bulkhead(1, max_waiting=1, max_wait=1), fallback(value=1))]
    here.refresh()
def drop():
    resilient.registry.remove(made.pop().name)
    gc.collect()
    here.refresh()
def act(): {act}
gc.disable()
files = ("pages/writer.py", "pages/publisher.py", "pages/sharing.py")
step = 1 if sys.version_info < (3, 12) else 7  # there every instruction is seen
line, gone, spared = 0, 0, 0  # one is spared, too, where the page's thread has done its work
while spared < 10 and line < 1000:
    made.append(Policy("same", circuit_breaker()))
    for _ in range(3): made[-1].call(int)
    here.refresh()
    p = made[-1]
    spared = 0 if interrupted_at(line * step, files, act) else spared + 1
    p.release() if made else None
    p = None
    gc.collect()
    here.refresh()
    gone += 3
    if made:
        made[-1].call(int); gone += 1
        resilient.registry.remove(made.pop().name)
    views.clear(); gc.collect(); here.refresh()
    line += 1
""",
        PYTHONPATH=python_path(),
    )
    line, gone = worker.do("[line, gone]")
    assert 11 < line < 1000
    own, outside = worker.scrape(), host.start().scrape()
    seen = calls(own, "same")
    assert seen is not None
    assert gone - 12 <= seen <= gone
    assert calls(outside, "same") == seen


def test_daemon_threads_at_exit(host: Host) -> None:
    """Threads that call to the very end of their process see no error of ours."""
    code = """
import os, sys, threading
sys.setswitchinterval(1e-6)
from resilient import Policy, bulkhead
from resilient.testing import ManualClock
clock = ManualClock()
p = Policy("shop", bulkhead(99), clock=clock)
def loop():
    while True:
        try:
            p.call(clock.advance, 0.01)
            p.call(int)
        except BaseException as error:
            os.write(1, f"{error!r}\\n".encode())
p.call(int)
for _ in range(4): threading.Thread(target=loop, daemon=True).start()
"""
    worker = host.start()
    for _ in range(4):
        said = worker.do(
            f"""
import subprocess
done = subprocess.run([sys.executable, "-c", {code!r}], capture_output=True, text=True)
[done.returncode, done.stdout, done.stderr]
"""
        )
        assert said == [0, "", ""]
