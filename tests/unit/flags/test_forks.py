"""Forks while a store is opened, used and closed: the store stays whole, and no child hangs."""

from __future__ import annotations

import contextlib
import gc
import json
import os
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from resilient.flags.fork_exclusion import undisturbed
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.followers import off
from tests.kit.waiting import WAIT, until
from tests.unit.flags.soak import soak

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]

HEAD = """
import contextlib, ctypes, gc, os, signal, sqlite3, sys, threading, time, warnings
warnings.simplefilter("ignore")
from resilient.flags import fork_exclusion as forks
from resilient.flags.fork_exclusion import undisturbed
from resilient.flags.flip import Flip
from resilient.flags.stores.sqlite import SQLiteStore
from resilient.errors import StoreError
path = sys.argv[1]
def off(name): return Flip(f"flag/{name}", "off", by="ann", reason="r")
def ended(pid):
    until = time.monotonic() + 20
    while time.monotonic() < until:
        got, status = os.waitpid(pid, os.WNOHANG)
        if got:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(pid, signal.SIGKILL)
    return "hangs"
def whole():
    with contextlib.closing(sqlite3.connect(path)) as db:
        return db.execute("PRAGMA integrity_check").fetchone()[0]
"""


def script(tmp_path: Path, body: str) -> str:
    """Run a script in a Python of its own; return what it printed."""
    done = subprocess.run(
        [sys.executable, "-c", HEAD + textwrap.dedent(body), str(tmp_path / "flags.db")],
        capture_output=True, text=True, timeout=4 * WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stdout.strip()


def open_here(path: str) -> list[str]:
    """Return the files of a store that this process has open."""
    found = []
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found.append(os.readlink(f"/proc/self/fd/{name}"))
    return [each for each in found if each.startswith(path)]


def test_forks_and_flips_together(tmp_path: Path) -> None:
    """A short soak: the store is whole, every child ends, every fork has waited."""
    seen = soak(4, str(tmp_path))
    assert seen["forks"] > 0
    assert seen["flips"] > 0
    assert {key: seen[key] for key in ("integrity", "hung", "failed", "errors", "unwaited")} == {
        "integrity": "ok", "hung": 0, "failed": 0, "errors": [], "unwaited": 0,
    }, json.dumps(seen)  # fmt: skip


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="there is no /proc")
@pytest.mark.parametrize("what", ["used", "closed", "opened", "left"])
def test_a_child_has_nothing_of_a_store(tmp_path: Path, what: str) -> None:
    """Whatever another thread does with stores without a pause, a child has no file of theirs."""
    path = str(tmp_path / "flags.db")
    kept = SQLiteStore(path)
    kept.flip(off("a"), None, None)
    stop = threading.Event()

    def work() -> None:
        store = kept
        while not stop.is_set():
            if what != "used":
                store = SQLiteStore(path)
            store.read("", -1)
            store.hint(0)
            if what == "closed":
                store.close()
            elif what == "left":
                del store

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    try:
        for _ in range(15):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                os.write(write, json.dumps(open_here(path)).encode())
                os._exit(0)
            os.close(write)
            with open(read, "rb") as source:
                assert json.loads(source.read()) == []
            os.waitpid(pid, 0)
    finally:
        stop.set()
        thread.join(WAIT)
        kept.close()
    with undisturbed:
        assert what == "opened" or open_here(path) == []


def test_a_fork_comes_before_those_who_come_later() -> None:
    """Where one thread uses a store again and again, a fork waits for one use and not for luck."""
    stop, used = threading.Event(), [0]

    def work() -> None:
        while not stop.is_set():
            with undisturbed:
                used[0] += 1
                time.sleep(0.005)

    threads = [threading.Thread(target=work, daemon=True) for _ in range(3)]
    for each in threads:
        each.start()
    try:
        until(lambda: used[0] > 10)
        before = used[0]
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        after = used[0]
        os.waitpid(pid, 0)
    finally:
        stop.set()
        for each in threads:
            each.join(WAIT)
    assert after - before <= 6  # those at the gate already, and one round after the fork


def test_a_child_of_a_fork_that_could_not_wait_touches_nothing(tmp_path: Path) -> None:
    """It refuses the store with the reason, ends as any process does, and harms nobody."""
    said = script(tmp_path, """
        forks.LONGEST = 0.2
        store, other = SQLiteStore(path), SQLiteStore(path + ".other")
        store.flip(off("a"), None, None)
        inside, go = threading.Event(), threading.Event()
        def slow():
            with store._writing() as db:
                inside.set()
                go.wait(20)
                db.execute("UPDATE levers SET request = 'slow'")
        thread = threading.Thread(target=slow)
        thread.start()
        inside.wait(20)
        pid = os.fork()
        if pid == 0:
            again = SQLiteStore(path)
            for each in (store, again):
                try:
                    each.read("", -1)
                    print("read")
                except StoreError as error:
                    assert "was in use at the moment this process was forked" in str(error)
                each.close()
            other.flip(off("b"), None, None)
            del store, again
            gc.collect()
            sys.exit(0)
        told = ended(pid)
        go.set()
        thread.join()
        store.flip(off("c"), None, None)
        print(undisturbed._waited, told, whole(), len(store.read("", -1).flips))
    """)  # fmt: skip
    assert said == "False 0 ok 2"


def test_a_fork_that_tells_nobody(tmp_path: Path) -> None:
    """A library of C forks without a hook: the child refuses what is open in its parent."""
    said = script(tmp_path, """
        store = SQLiteStore(path)
        store.flip(off("a"), None, None)
        pid = ctypes.PyDLL(None).fork()
        if pid == 0:
            for _ in range(2):
                try:
                    store.flip(off("b"), None, None)
                    print("flipped")
                except StoreError as error:
                    assert "forked" in str(error), error
            store.close()
            os._exit(0)
        told = ended(pid)
        store.flip(off("c"), None, None)
        print(told, whole(), len(store.read("", -1).flips))
    """)  # fmt: skip
    assert said == "0 ok 2"


def test_a_fork_in_the_middle_of_its_own_flip(tmp_path: Path) -> None:
    """A signal handler or finalizer forks amid a transaction of its thread: nothing is recorded,
    it is told, and both go on."""
    said = script(tmp_path, """
        store, pids = SQLiteStore(path), []
        store.flip(off("a"), None, None)
        try:
            with store._writing() as db:
                db.execute("UPDATE levers SET request = 'half'")
                pids.append(os.fork())
                db.execute("UPDATE levers SET request = 'done'")
            print("recorded")
        except StoreError:
            pass
        store.flip(off("child" if pids[0] == 0 else "parent"), None, None)
        with undisturbed:
            free = undisturbed._forking
        if pids[0] == 0:
            os._exit(free)
        told = ended(pids[0])
        flips = {flip.lever: flip for flip in store.read("", -1).flips}
        print(told, free, whole(), sorted(flips), repr(flips["flag/a"].request))
    """)  # fmt: skip
    assert said == "0 0 ok ['flag/a', 'flag/child', 'flag/parent'] ''"


def test_two_threads_fork_and_one_waits_in_vain(tmp_path: Path) -> None:
    """Who could not wait takes nothing from who did: both forks are made, and work goes on."""
    said = script(tmp_path, """
        forks.LONGEST = 0.3
        ends = []
        class Slow:
            def close(self):
                time.sleep(1.5)
                undisturbed.closed(self)
            def inherited(self): pass
        undisturbed.opened(Slow())
        def fork():
            pid = os.fork()
            if pid == 0:
                with undisturbed:
                    os._exit(0)
            ends.append(ended(pid))
        threads = [threading.Thread(target=fork) for _ in range(3)]
        with undisturbed: pass
        for each in threads: each.start()
        for each in threads: each.join(30)
        with undisturbed:
            print(ends, undisturbed._forking)
    """)  # fmt: skip
    assert said == "[0, 0, 0] 0"


def test_who_holds_a_lock_of_the_fork_is_not_waited_for_for_ever(tmp_path: Path) -> None:
    """A signal handler flips while its thread holds a policy's lock, and another thread forks."""
    said = script(tmp_path, """
        forks.PATIENCE = 0.5
        from resilient import Policy, bulkhead
        policy, store, told = Policy("p", bulkhead(1)), SQLiteStore(path), []
        def fork():
            pid = os.fork()
            if pid == 0:
                os._exit(0)
            told.append(ended(pid))
        with policy._core.lock:
            thread = threading.Thread(target=fork)
            thread.start()
            while not undisturbed._forking: time.sleep(0.01)
            try:
                store.flip(off("a"), None, None)
                print("flipped")
            except StoreError as error:
                print(str(error).rpartition(": ")[2])
        thread.join(20)
        print(told, store.flip(off("a"), None, None).value)
    """)  # fmt: skip
    assert said == "a fork, or another thread, has been at it for 0 s\n[0] off"


def test_a_fork_amid_the_first_import(tmp_path: Path) -> None:
    """A child that needs the module, which another thread was importing, does not hang."""
    said = script(tmp_path, """
        import importlib.abc, resilient
        from resilient import flag, flags
        begun = threading.Event()
        class Slow(importlib.abc.MetaPathFinder):
            def find_spec(self, name, *_):
                if name == "resilient.flags.operations":
                    begun.set()
                    time.sleep(0.5)
        sys.meta_path.insert(0, Slow())
        F = flag("f")
        thread = threading.Thread(target=lambda: flags.off("f", reason="r"))
        thread.start()
        begun.wait(20)
        pid = os.fork()
        if pid == 0:
            flags.on("f", reason="r")
            os._exit(0)
        thread.join()
        print(ended(pid))
    """)  # fmt: skip
    assert said == "0"


def test_a_store_that_is_dropped_is_not_closed_by_the_collector(tmp_path: Path) -> None:
    """It is closed by whoever next has the lock: a collection comes at any moment."""
    path = str(tmp_path / "flags.db")
    store = SQLiteStore(path)
    store.flip(off("a"), None, None)
    db = store._db
    assert db is not None
    del store
    gc.collect()
    assert db.execute("SELECT 1").fetchone() == (1,)
    with undisturbed:
        pass
    with pytest.raises(sqlite3.ProgrammingError):
        db.execute("SELECT 1")


@pytest.mark.parametrize(("worker", "follows"), [(0, False), (1, True)])
def test_the_master_of_uwsgi_opens_no_store(tmp_path: Path, worker: int, follows: bool) -> None:
    """It tells of its forks only afterwards: its workers follow, each by itself."""
    said = script(tmp_path, f"""
        import types
        sys.modules["uwsgi"] = types.SimpleNamespace(
            opt={{"enable-threads": True, "py-call-osafterfork": True}},
            worker_id=lambda: {worker}, mule_id=lambda: 0, i_am_the_spooler=lambda: False)
        os.environ["RESILIENT_STORE"] = "sqlite:///" + path
        from resilient import flag
        from resilient.flags.runtime import here
        F = flag("f")
        print(bool(F), here.follower is not None)
    """)  # fmt: skip
    assert said == f"True {follows}"
