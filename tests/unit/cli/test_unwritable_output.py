"""An answer that can't be written: what was asked for was done, and the exit code says what."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command import Cli
from tests.kit.workers import Worker

LOOKS = [
    ("flags",), ("flags", "--json"), ("flags", "log"), ("flags", "show", "recs"), ("policies",),
    ("policies", "show", "shop"), ("processes",), ("processes", "--json"), ("timeline",),
    ("timeline", "--json"), ("top", "--once", "--every", "0.1s"),
    ("top", "--json", "--every", "0.1s"), ("metrics", "dashboard"), ("metrics", "alerts"),
    ("status", "--over", "0.1s"), ("status", "--over", "0.1s", "--json"), ("doctor",),
    ("--help",), ("--version",), ("flags", "off", "--help"),
]  # fmt: skip
HOW = {
    "a full disk": "{} >/dev/full", "closed": "{} >&-", "both closed": "{} >&- 2>&-",
    "both full": "{} >/dev/full 2>/dev/full", "all closed": "{} <&- >&- 2>&-",
    "read only": "{} 1</dev/null",
}  # fmt: skip
UNWRITTEN = 7


def run(cli: Cli, how: str, *words: str) -> tuple[int, str]:
    """Run a command with its output somewhere else; return its exit code, and what it complains."""
    quoted = " ".join(f"'{word}'" for word in (sys.executable, "-m", "resilient.cli", *words))
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", how.format(quoted)],
        env=cli.env(), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30,
        check=False,
    )  # fmt: skip
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stderr


@pytest.mark.parametrize("words", LOOKS, ids=" ".join)
def test_every_look(cli: Cli, worker: Worker, words: tuple[str, ...]) -> None:
    """It exits with 7, and in one sentence says why, where there is somewhere left to say it."""
    for how, said in (("{} >/dev/full", "No space left"), ("{} >&-", "it is closed")):
        code, errors = run(cli, how, *words)
        assert code == UNWRITTEN, errors
        assert errors.startswith("resilient: the answer can't be written: ")
        assert said in errors
        assert errors.count("\n") == 1


@pytest.mark.parametrize("how", HOW.values(), ids=HOW)
@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_is_ordered_is_done(cli: Cli, worker: Worker, how: str, form: tuple[str, ...]) -> None:
    """The flag is off, and everybody has obeyed: 7, and nothing that says it was not done."""
    code, errors = run(cli, how, "flags", "off", "recs", "--reason", "x", *form)
    assert code == UNWRITTEN, errors
    assert cli.flag("recs")["state"] == "off"
    assert worker.ask("read") == "False"


def test_the_code_of_what_came_of_it_goes_first(cli: Cli, worker: Worker) -> None:
    """What is off is 1, not obeyed is 3, not understood 2: whether or not it could be written."""
    full = "{} >/dev/full"
    assert run(cli, full, "flags", "off", "nope", "--reason", "x")[0] == 2
    worker.stop()
    assert run(cli, full, "flags", "off", "recs", "--reason", "x", "--wait", "0.1s")[0] == 3
    worker.cont()
    assert run(cli, full, "flags", "off", "recs", "--reason", "x")[0] == UNWRITTEN
    assert run(cli, full, "status", "--over", "0.1s")[0] == 1
    assert run(cli, "{} 2>/dev/full", "flags", "off", "nope", "--reason", "x")[0] == 2
    assert run(cli, "{} 2>&-", "flags", "off", "recs", "--reason", "x")[0] == 0


@pytest.mark.parametrize("words", [("flags", "off", "recs", "--reason", "x"), ("processes",)])
def test_a_reader_that_has_had_enough(cli: Cli, worker: Worker, words: tuple[str, ...]) -> None:
    """A pipe that is closed, as by `head`, is no fault: the code is that of what was done."""
    code, errors = run(cli, "trap '' PIPE; {} | true", *words)
    assert (code, errors) == (0, "")


def test_nothing_is_written_over_a_store(cli: Cli, worker: Worker, database: Path) -> None:
    """With all three files closed the store's file does not get the number of one of them."""
    for _ in range(3):
        run(cli, "{} <&- >&- 2>&-", "flags", "off", "recs", "--reason", "x")
        run(cli, "{} <&- >&- 2>&-", "flags", "on", "recs", "--reason", "x")
    assert len(cli("flags", "log", "--json").said(0).json) == 6
    assert database.read_bytes().startswith(b"SQLite format 3\0")


def test_top_ends_with_its_reader(cli: Cli, worker: Worker) -> None:
    """The screens that nobody reads any more are not drawn for ever."""
    process = cli.start("top", "--every", "0.1s")
    assert process.stdout is not None
    process.stdout.read(10)
    process.stdout.close()
    assert process.wait(20) == 0
    assert process.stderr is not None
    assert process.stderr.read() == b""
    process.stderr.close()


def test_an_interrupt_is_not_taken_for_a_refusal(cli: Cli, worker: Worker) -> None:
    """Ctrl-C while it waits for a process: the flip is recorded, and that is what is said."""
    worker.stop()
    process = cli.start("flags", "off", "recs", "--reason", "x", "--wait", "60s")
    while not cli("flags", "log", "--json").json:
        pass
    os.kill(process.pid, signal.SIGINT)
    cli.end(process).said(3, "recorded; interrupted before it was known who has obeyed")
    worker.cont()
    assert cli.flag("recs")["state"] == "off"
