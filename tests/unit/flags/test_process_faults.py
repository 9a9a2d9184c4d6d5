"""What a review found in whole processes, at the command line and in policies."""

from __future__ import annotations

import itertools
import os
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient import CircuitOpenError, FlagOffError, Policy, circuit_breaker, flag, kill_switch
from resilient.errors import StoreError
from resilient.flags.declared import Flags
from resilient.flags.flips import Flip
from resilient.flags.orders import Orders
from resilient.flags.state import State
from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.opening import directory_for
from resilient.flags.stores.sqlite import SQLiteStore
from resilient.testing import ManualClock, flag_off
from tests.kit.followers import Hand, off
from tests.kit.waiting import WAIT

Make = Callable[..., Hand]
SWITCH = flag("reviewed-switch")
_numbers = itertools.count(1)


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


# -- processes -----------------------------------------------------------------------


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
        from resilient.flags.here import here
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
                policy._core.regate()
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
        from resilient.flags import here
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


# -- the command line ----------------------------------------------------------------


def command(*words: str) -> tuple[int, str]:
    """Run the command line here; return its exit code and what it printed."""
    pytest.importorskip("rich")
    runner = pytest.importorskip("click.testing").CliRunner()
    from resilient.cli.commands import cli

    done = runner.invoke(cli, list(words), env={"RESILIENT_STATE_DIR": None})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_what_was_recorded_is_said_though_the_store_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flip stands; that nobody knows who has obeyed is exit 3, not 4."""
    database, real = str(tmp_path / "flags.db"), SQLiteStore.flip

    def dying(self: SQLiteStore, *given: Any) -> Flip:
        made = real(self, *given)

        def dead(*_: object) -> Any:
            raise StoreError("gone")

        monkeypatch.setattr(self, "processes", dead)
        return made

    opened = SQLiteStore(database)
    opened.flip(off("more"), None, None)  # or there would be no file
    monkeypatch.setattr(SQLiteStore, "flip", dying)
    store = f"sqlite:///{database}"
    code, said = command("flags", "off", "x", "--declare", "--reason", "r", "--store", store)
    assert code == 3, said
    assert "recorded; who has obeyed can't be told: gone" in said
    assert [each.lever for each in opened.log(None, 1)] == ["flag/x"]
    opened.close()


def test_status_counts_a_flag_that_is_pinned_off(hand: Make, tmp_path: Path) -> None:
    """One that the environment of a process forces off is off for somebody."""
    database = str(tmp_path / "flags.db")
    one = hand(lambda: SQLiteStore(database), "recs", "more")
    environ: Any = one.flags._environ
    environ["RESILIENT_FLAG_RECS"] = "off"
    one.state.declared(one.made["recs"])
    one.turn()
    code, said = command("status", "--store", f"sqlite:///{database}")
    assert (code, said.startswith("off: recs; ")) == (1, True), said


def test_status_needs_not_write(hand: Make, tmp_path: Path) -> None:
    """While another writes for long, a process that is proved dead is left out all the same."""
    database = str(tmp_path / "flags.db")
    directory = directory_for(f"sqlite:///{database}", None, {})
    for _ in range(2):
        one = hand(lambda: SQLiteStore(database), "recs", directory=directory)
        one.turn()
    one.presence.drop()  # as by a kill
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    code, said = command("status", "--store", f"sqlite:///{database}")
    db.close()
    assert code == 0, said
    assert "1 process; all in step" in said


# -- policies ------------------------------------------------------------------------


def test_an_order_that_ends_while_it_is_put_on_is_released() -> None:
    """The follower ends it between the look at it and the forcing."""
    now = [0.0]
    state = State(Flags(environ={}), lambda: now[0])
    orders, policy = Orders(state), Policy(f"ending-{next(_numbers)}", circuit_breaker())
    state.adopt([Flip(f"forced/{policy.name}", "forced_open", version=1, until=10.0)], 0.0)
    real, once = state.holding, [True]

    def holding(lever: str) -> Flip | None:
        found = real(lever)
        if lever.startswith("forced/") and once:
            once.clear()
            now[0] = 11.0
            orders.follow(state.expire())
        return found

    state.holding = holding  # type: ignore[method-assign]
    orders.follow_policy(policy._core)
    assert not once
    assert policy._core.forced is None


def test_a_switch_that_is_off_goes_before_a_forced_state() -> None:
    """It answers, or raises its own error; with the flag on, forced open is as before."""
    name = f"forced-{next(_numbers)}"
    plain = Policy(f"{name}-plain", kill_switch(SWITCH), circuit_breaker())
    answering = Policy(name, kill_switch(SWITCH, answer=lambda: "top"), circuit_breaker())
    for each in (plain, answering):
        assert each.call(lambda: "body") == "body"
        each._core.force("forced_open", "by ann")
        with pytest.raises(CircuitOpenError, match="forced open: by ann"):
            each.call(lambda: "body")
    with flag_off(SWITCH):
        assert answering.call(lambda: "body") == "top"
        with pytest.raises(FlagOffError):
            plain.call(lambda: "body")
    for each in (plain, answering):
        with pytest.raises(CircuitOpenError):
            each.call(lambda: "body")
        each._core.force(None, "enough")
        assert each.call(lambda: "body") == "body"


def test_a_flip_ends_by_the_systems_clock(hand: Make) -> None:
    """Whoever is refused is told the seconds that are left, whatever the policy's clock shows."""
    store = MemoryStore()
    one = hand(lambda: store, "recs", directory=None)
    policy = Policy(f"clocked-{next(_numbers)}", kill_switch(one.made["recs"]), clock=ManualClock())
    store.flip(off("recs"), 30, None)
    one.turn()
    with pytest.raises(FlagOffError) as caught:
        policy.call(int)
    assert caught.value.retry_after is not None
    assert 20 < caught.value.retry_after <= 30
