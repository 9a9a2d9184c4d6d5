"""The live screen, in a real terminal."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator

import pytest

from tests.kit.hosts import Host
from tests.kit.waiting import until
from tests.unit.monitoring.kit import Terminal, environ_of

MANY = """
ps = [Policy(f'shop.clients.number{n:02}', circuit_breaker(failure_threshold=3, recovery_timeout=60),
             impact='Customers see the top 100.') for n in range(40)]
for p in ps:
    for _ in range(3): p.try_call(fail)
here.refresh()
"""
Start = Callable[..., Terminal]


@pytest.fixture(scope="module")
def many(shared: Host) -> Host:
    """A host with a process that has more open circuits than a screen has lines."""
    worker = shared.start(MANY)
    worker.tell("""
signal.alarm(600)
while True:
    for p in ps: p.try_call(fail)
    time.sleep(0.05)
""")
    return shared


@pytest.fixture
def terminal() -> Generator[Start]:
    """Start commands in terminals; they end with the test."""
    made: list[Terminal] = []

    def start(host: Host, *words: str, **more: str | int) -> Terminal:
        made.append(Terminal("top", *words, **{**environ_of(host.pages), **more}))  # type: ignore[arg-type]
        return made[-1]

    yield start
    for each in made:
        each.close()


def shown(one: Terminal, number: int = 1) -> list[str]:
    """Wait for so many screens; return the last one that is complete."""
    end = time.monotonic() + 60
    while len(one.screens) < number + 1:
        assert time.monotonic() < end, one.out[-2000:]
        assert one.process.poll() is None, one.out[-2000:]
        one.read(0.1)
    return one.screens[-2]


@pytest.mark.parametrize("how", ["key", "signal"])
def test_ctrl_c_ends_it_and_restores_the_terminal(many: Host, terminal: Start, how: str) -> None:
    """With code 0, the old screen and the cursor back, and no word of an interrupt."""
    one = terminal(many, "--every", "0.3s")
    shown(one)
    assert "\x1b[?1049h" in one.out  # a screen of its own
    assert "\x1b[?25l" in one.out
    one.key(b"\x03") if how == "key" else one.process.send_signal(signal.SIGINT)
    assert one.ended() == 0
    assert one.after == one.before
    assert one.out.rindex("\x1b[?1049l") > one.out.rindex("\x1b[?1049h")
    assert one.out.rindex("\x1b[?25h") > one.out.rindex("\x1b[?25l")
    left = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", one.out[one.out.rindex("\x1b[?1049l") :])
    assert left.strip() in ("", "^C")


def test_ctrl_c_at_any_moment(many: Host, terminal: Start) -> None:
    """While it looks, draws or sleeps: never a traceback, always code 0."""
    for pause in (0.0, 0.013, 0.05):
        one = terminal(many, "--every", "0.01s")
        shown(one)
        time.sleep(pause)
        one.key(b"\x03")
        assert one.ended() == 0, one.out[-1000:]
        assert "Traceback" not in one.out


def test_more_than_fits_into_80x24(many: Host, terminal: Start) -> None:
    """The worst are shown, the rest counted, and levers are whole: nothing is wider or longer."""
    one = terminal(many, "--every", "0.3s", TERM="xterm")
    lines = [line.rstrip() for line in shown(one, 2)]
    assert len(lines) <= 24
    assert all(len(line) <= 80 for line in lines)
    assert re.match(r"\d\d:\d\d:\d\d UTC  1 process  over \d+ s", lines[0])
    assert lines[1].startswith("CUSTOMERS  full 0 %  degraded 0 %  error 100 %")
    named = [line.split()[0] for line in lines if "OPEN" in line]
    (more,) = [line for line in lines if "more that are not well" in line]
    assert more == f"... and {40 - len(named)} more that are not well"
    assert len(named) >= 5
    levers = lines[lines.index("LEVERS") + 1 :]
    found = [shlex.split(line) for line in levers if line and line[0] != "#"]
    assert found
    assert all(words[:3] == ["resilient", "policies", "show"] for words in found)
    assert levers[-1] == "" or levers[-1][0] != "#"


@pytest.mark.parametrize(("rows", "columns"), [(8, 60), (60, 200)])
def test_other_sizes(many: Host, terminal: Start, rows: int, columns: int) -> None:
    """Small and large: it fits, and customers come first."""
    one = terminal(many, "--every", "0.3s", rows=rows, columns=columns)
    lines = [line.rstrip() for line in shown(one, 2)]
    assert len(lines) <= rows
    assert all(len(line) <= columns for line in lines)
    assert lines[1].startswith("CUSTOMERS")


def test_a_terminal_that_changes_its_size(many: Host, terminal: Start) -> None:
    """The next screens fit into it."""
    one = terminal(many, "--every", "0.2s")
    shown(one)
    one.resize(12, 66)
    one.out = ""
    lines = shown(one, 3)
    assert len(lines) <= 12
    assert max(map(len, lines)) <= 66


def test_a_sigterm_restores_the_terminal(many: Host, terminal: Start) -> None:
    """Who ends it otherwise gets the terminal back as well."""
    one = terminal(many, "--every", "0.2s")
    shown(one)
    one.process.send_signal(signal.SIGTERM)
    one.ended()
    assert "\x1b[?1049l" in one.out
    assert one.out.rindex("\x1b[?25h") > one.out.rindex("\x1b[?25l")


def test_it_follows_what_happens(host: Host, terminal: Start) -> None:
    """The first screen comes within a second or so, and each later one has the news."""
    worker = host.start(
        "signal.alarm(600)\np = Policy('shop', circuit_breaker(failure_threshold=3))"
    )
    worker.do("p.call(int)")
    one = terminal(host, "--every", "0.3s")
    assert "1 policy well" in "\n".join(shown(one))
    worker.do("for _ in range(12): p.try_call(fail)\nhere.refresh()")
    one.out = ""
    until(lambda: "OPEN" in one.read(0.1))
    worker.kill()
    one.out = ""
    until(lambda: "no data" in one.read(0.1))


def test_the_first_screen_is_soon(many: Host, terminal: Start) -> None:
    """Nobody waits ten minutes before an empty screen."""
    one = terminal(many, "--every", "10m")
    one.read(60, until="CUSTOMERS")
    assert "CUSTOMERS" in one.out


def test_colours(many: Host, terminal: Start) -> None:
    """They are there on a terminal, and not where NO_COLOR or a dumb terminal says so."""
    assert "\x1b[1;31m" in terminal(many, "--once", "--every", "0.1s").read(60, until="LEVERS")
    for environ in ({"NO_COLOR": "1"}, {"TERM": "dumb"}):
        one = terminal(many, "--once", "--every", "0.1s", **environ)
        one.read(60, until="LEVERS")
        assert "OPEN" in one.out
        assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", one.out)


def piped(host: Host, *words: str, **environ: str) -> subprocess.Popen[bytes]:
    """Start the command with its output in a pipe."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", "resilient.cli", "top", *words],
        env={**kept, **environ_of(host.pages), **environ},
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def test_without_a_terminal(many: Host) -> None:
    """In a pipe, as over ssh: screens come one after the other, without a colour or an escape."""
    process = piped(many, "--every", "0.2s", TERM="xterm", FORCE_COLOR="")
    assert process.stdout is not None
    seen = b""
    while seen.count(b"CUSTOMERS") < 2:
        more = process.stdout.read1(65536)  # type: ignore[attr-defined]
        assert more, process.stderr
        seen += more
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 0
    assert errors == b""
    assert b"\x1b" not in seen


def test_a_pipe_whose_reader_goes_away(many: Host) -> None:
    """As with `| head`: it ends, and blames nothing."""
    process = piped(many, "--every", "0.1s")
    assert process.stdout is not None
    process.stdout.readline()
    process.stdout.close()
    assert process.stderr is not None
    said = process.stderr.read()
    process.wait(60)
    process.stderr.close()
    assert said == b""
    assert process.returncode == 0
