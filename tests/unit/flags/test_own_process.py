"""A process and its store, each in a Python of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.kit.waiting import WAIT


def run(script: str, **environ: str) -> str:
    """Run a script in a Python of its own to its end, soon; return what it printed."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


def test_flags_off_holds_though_the_store_fails_then() -> None:
    """What was recorded is obeyed here, also where the store can't be read right after."""
    script = """
        import resilient
        from resilient import flag, flags
        from resilient.errors import StoreError
        from resilient.flags.stores.memory import MemoryStore
        class Failing(MemoryStore):
            failed = False
            def flip(self, *given):
                made = super().flip(*given)
                self.failed = True
                return made
            def read(self, *given):
                if self.failed:
                    raise StoreError("gone")
                return super().read(*given)
        store = Failing()
        resilient.configure(store=lambda: store)
        RECS = flag("recs")
        flags.off(RECS, reason="vendor down")
        print(bool(RECS))
    """
    assert run(script) == "False"


def test_a_finalizer_that_takes_a_snapshot_waits_for_nobody() -> None:
    """It runs amid anything, also where a policy's lock is held and another flips its flag."""
    script = """
        import gc, os, sys, threading, time
        from resilient import Policy, flag, flags, kill_switch
        from resilient.flags.runtime import here
        F = flag("f")
        policy = Policy("p", kill_switch(F))
        policy.call(int)
        class Cycle:
            def __init__(self): self.me = self
            def __del__(self): flags.snapshot()
        done = [0, 0]
        def collect():
            gc.set_threshold(3)  # it comes amid regate
            while True:
                Cycle()
                policy._core.refresh_gate()
                done[0] += 1
        def flip():
            while True:
                here.state.override("f", False)
                here.state.override("f", None)
                done[1] += 1
        sys.setswitchinterval(1e-5)
        for each in (collect, flip):
            threading.Thread(target=each, daemon=True).start()
        time.sleep(0.5)
        before = list(done)
        end = time.monotonic() + 40
        while time.monotonic() < end and not any(a > b for a, b in zip(done, before)):
            time.sleep(0.01)
        print(any(a > b for a, b in zip(done, before)), flush=True)  # one may starve
        os._exit(0)
    """
    assert run(script) == "True"


def test_a_process_of_policies_alone_tries_again_to_follow(tmp_path: Path) -> None:
    """Where there was no thread to be had at its first call, a later one has it follow."""
    script = """
        import logging, threading, time
        from resilient import Policy, circuit_breaker
        from resilient.flags import runtime as here
        here._RETRY = 0.1
        logging.getLogger("resilient").setLevel("CRITICAL")
        real, tries = threading.Thread.start, []
        def start(self):
            tries.append(self.name)
            if len(tries) == 1:
                raise RuntimeError("can't start new thread")
            real(self)
        threading.Thread.start = start
        policy = Policy("shop", circuit_breaker())
        policy.call(int)
        assert here.here.follower is None
        end = time.monotonic() + 40
        while here.here.follower is None and time.monotonic() < end:
            policy.call(int)
            time.sleep(0.01)
        print(here.here.follower is not None, tries.count("resilient-follower"))
    """
    database = f"sqlite:///{tmp_path / 'flags.db'}"
    assert run(script, RESILIENT_STORE=database) == "True 2"


def test_a_timed_flip_of_the_own_memory_ends_in_a_child_too() -> None:
    """A child that was forked meanwhile has no follower yet, and needs one to end it."""
    script = """
        import os, time
        from resilient import flag, flags
        F = flag("f")
        flags.off(F, reason="vendor down", duration=3)
        pid = os.fork()
        first, end = bool(F), time.monotonic() + 40
        while not F and time.monotonic() < end:
            time.sleep(0.02)
        if pid == 0:
            os._exit(0 if (first, bool(F)) == (False, True) else 1)
        print(first, bool(F), os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    """
    assert run(script) == "False True 0"
