"""Several operators at once, and what they read in the log afterwards."""

from __future__ import annotations

import threading
from pathlib import Path

from resilient.flags.flip import Flip
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.command import Cli
from tests.kit.workers import Worker


def test_whoever_comes_second_is_told_and_changes_nothing(
    cli: Cli, database: Path, worker: Worker
) -> None:
    """With another operator at the same lever, a flip holds, or exits with 5 and says whose does."""
    over = threading.Event()

    def rival() -> None:
        store = SQLiteStore(str(database))
        number = 0
        while not over.is_set():
            number += 1
            flip = Flip("flag/recs", ("on", "off")[number % 2], by="rival", reason="mine")
            store.flip(flip, None, None)
            over.wait(0.004)
        store.close()

    thread = threading.Thread(target=rival, daemon=True)
    thread.start()
    try:
        done = []
        for number in range(40):
            words = ("flags", "off", "recs", "--for", "1h", "--wait", "1s")
            done.append(cli.flip(*words, reason=f"try {number}"))
            if done[-1].code == 5:
                break
    finally:
        over.set()
        thread.join(60)
    assert done[-1].code == 5, [each.code for each in done]
    done[-1].said(5, "rival has", "set flag/recs to ", "(mine)")
    recorded = {flip["reason"] for flip in cli("flags", "log", "--most=100000", "--json").json}
    for number, each in enumerate(done):
        known = each.code in (0, 3) or "recorded, but" in each.err
        assert (f"try {number}" in recorded) == known, each


def test_many_operators_at_once(cli: Cli, worker: Worker) -> None:
    """Of six commands at once each is recorded, found done already, or refused; all agree after."""
    running = [
        cli.start("flags", ("off", "on")[n % 2], "recs", "--reason", f"by {n}", "--by", f"op{n}")
        for n in range(6)
    ]
    done = [cli.end(process) for process in running]
    log = cli("flags", "log", "--json").said(0).json
    recorded = {flip["reason"] for flip in log}
    for number, each in enumerate(done):
        assert each.code in (0, 3, 5), each
        changed = each.code in (0, 3) and "already" not in each.out
        changed = changed or "recorded, but" in each.err
        assert (f"by {number}" in recorded) == changed, each
    versions = [flip["version"] for flip in log]
    assert versions == sorted(versions, reverse=True)
    assert len(set(versions)) == len(versions)
    newest = log[0]["value"]
    assert cli.flag("recs")["state"] == newest
    cli.flip("flags", newest, "recs").said(0, "already")
    assert worker.ask("read") == str(newest == "on")


def test_two_levers_are_not_in_each_others_way(cli: Cli, worker: Worker) -> None:
    """Operators at different levers are never refused."""
    running = [
        cli.start(*words, "--reason", "at once")
        for words in (
            ("flags", "off", "recs"), ("flags", "on", "beta"),
            ("policies", "force-open", "shop"), ("policies", "force-closed", "plain"),
        )
    ]  # fmt: skip
    for process in running:
        cli.end(process).said(0, "applied by 1 of 1")
    assert len(cli("flags", "log", "--json").json) == 4


def test_an_interrupted_command_has_flipped_or_not(cli: Cli, worker: Worker) -> None:
    """Ctrl-C while it waits ends it at once; what was recorded stays recorded."""
    import signal

    from tests.kit.waiting import until

    worker.stop()
    process = cli.start("flags", "off", "recs", "--reason", "cut short", "--wait", "1h")
    until(lambda: cli("flags", "log", "--json").json)
    process.send_signal(signal.SIGINT)
    _out, err = process.communicate(timeout=60)
    assert process.returncode not in (0, 2, 4, 5)
    assert b"Traceback" not in err
    worker.cont()
    cli.flip("flags", "off", "recs").said(0, "already, since")
    assert worker.ask("read") == "False"
