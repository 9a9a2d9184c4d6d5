"""Flips under crashes and load: what was acknowledged is there, whole, and nobody sees half."""

from __future__ import annotations

import gc
import os
import random
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.declarations import Flags
from resilient.flags.flip import Flip, flip_of
from resilient.flags.state import State
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.waiting import WAIT

ROUNDS = int(os.environ.get("RESILIENT_ROUNDS", "50"))
FLIPPER = Path(__file__).with_name("flipper.py")


def killed_amid_flips(path: Path, seconds: float) -> list[tuple[int, str, str]]:
    """Have a process flip, kill it after a while; return what it said was recorded."""
    process = subprocess.Popen([sys.executable, str(FLIPPER), str(path)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        said = process.stdout.readline()
        timer = threading.Timer(seconds, process.send_signal, [signal.SIGKILL])
        timer.start()
        said += process.stdout.read()
        process.wait(WAIT)
        timer.join()
    lines = said.decode().splitlines(keepends=True)
    whole = [line.split() for line in lines if line.endswith("\n")]
    return [(int(version), lever, value) for version, lever, value in whole]


def half_recorded(path: Path) -> list[Any]:
    """Return what stands at a lever and not at the end of its log, as other means see it."""
    with sqlite3.connect(path) as db:
        found = db.execute(
            "SELECT lever FROM levers l WHERE flip IS NOT (SELECT flip FROM log g "
            "WHERE g.lever = l.lever ORDER BY number DESC LIMIT 1)"
        ).fetchall()
    db.close()
    return found


def test_an_acknowledged_flip_survives_the_kill_of_its_process(tmp_path: Path) -> None:
    """Round after round: every acknowledged flip is in the log, and levers and log agree."""
    path, draw = tmp_path / "flags.db", random.Random(7)
    acknowledged: list[tuple[int, str, str]] = []
    for _ in range(ROUNDS):
        acknowledged += killed_amid_flips(path, draw.uniform(0, 0.03))
        assert half_recorded(path) == []
    store = SQLiteStore(str(path))
    log = store.log(None, 10**6)
    there = {(flip.version, flip.lever, flip.value) for flip in log}
    assert len(acknowledged) >= ROUNDS
    assert set(acknowledged) <= there
    assert [flip.version for flip in log] == sorted({flip.version for flip in log}, reverse=True)
    newest: dict[str, Flip] = {}
    for flip in log:
        newest.setdefault(flip.lever, flip)
    seen = store.read("", -1)
    assert {flip.lever: flip.as_data() for flip in seen.flips or []} == {
        lever: flip.as_data() for lever, flip in newest.items()
    }
    store.close()
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = db.execute("SELECT lever, version, flip FROM levers").fetchall()
    db.close()
    assert all(flip_of(text).version == version for _, version, text in rows)


def test_a_fork_amid_a_save_does_not_end_the_saving(tmp_path: Path) -> None:
    """A child that was forked while the copy was written does not keep the lock of the copy."""
    script = """
        import os, sys, time
        from pathlib import Path
        from resilient.flags.flip import Flip
        from resilient.flags.local_copy import LocalCopy
        copy, replace = LocalCopy(Path(sys.argv[1])), os.replace
        def forking(*names, **where):
            if os.fork() == 0:
                time.sleep(8)
                os._exit(0)
            replace(*names, **where)
        os.replace = forking
        assert copy.save("a", [Flip("flag/a", "off", version=1)], 0.0)
        os.replace = replace
        print(copy.save("a", [Flip("flag/a", "on", version=2)], 0.0), flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "state")],
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"True\n"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait(WAIT)
        process.stdout.close()


def test_flips_under_load_are_never_seen_torn(caplog: pytest.LogCaptureFixture) -> None:
    """10,000 flips of two flags at once, sixteen readers: both are the same in every view."""
    caplog.set_level("CRITICAL", logger="resilient")  # or pytest would keep 20,000 records
    state = State(Flags(environ={}))
    state.flags.on_declared = state.declared
    one, two = state.flags.declare("one"), state.flags.declare("two")
    state.read(fresh=False)
    stop, torn, views = threading.Event(), [], [0] * 16

    def look(place: int) -> None:
        last = 0
        while not stop.is_set():
            view = state.snapshot()
            if view[one] != view[two]:
                torn.append("views")
            flip = state.flips.get("flag/one")
            version = 0 if flip is None else flip.version
            if version < last:
                torn.append(f"{version} after {last}")
            last = version
            bool(one)
            views[place] += 1
            if views[place] % 10 == 0:
                time.sleep(0.001)  # or the flips would never get their turn

    readers = [threading.Thread(target=look, args=(place,), daemon=True) for place in range(16)]
    for each in readers:
        each.start()
    early = 0
    for number in range(1, 10_001):
        value = "off" if number % 2 else "on"
        state.adopt(
            [
                Flip(f"flag/{name}", value, version=number, by="x", reason="y")
                for name in ("one", "two")
            ],
            0.0,
        )
        if number == 2_000:
            early = len(gc.get_objects())
    late = len(gc.get_objects())
    stop.set()
    for each in readers:
        each.join(WAIT)
    assert not torn
    assert min(views) > 0
    assert (bool(one), bool(two)) == (True, True)
    assert (one.changes, state.version) == (10_000, 10_000)
    assert late - early < 2_000, (early, late)
