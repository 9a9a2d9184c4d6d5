"""`resilient top` of real processes: that hang, that are killed, that are not there."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from resilient.pages.reader import Reader
from tests.kit.command import Cli, Command, Outcome
from tests.kit.hosts import Host, Process
from tests.kit.waiting import until
from tests.unit.monitoring.kit import lasting

SHOP = """
p = Policy('shop', circuit_breaker(failure_threshold=3, recovery_timeout=60), bulkhead(40), owner='pay', tier=1)
q = Policy('search', bulkhead(9))
for _ in range(20): q.call(int)
"""
HANGS = """
import ctypes
def hang():
    ctypes.PyDLL(None).sleep(60)  # and never lets go of the GIL
threading.Thread(target=lambda: (time.sleep(1.2), hang()), daemon=True).start()
"""
BUSY = """
here.begin()
refresh, looks = here.refresh, [0]
def slow(**more):
    looks[0] += 1
    end = time.thread_time() + 0.15  # as a thousand policies have it
    while time.thread_time() < end: pass
    refresh(**more)
here.refresh = slow
"""
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def top(host: Host, *words: str, **environ: str | None) -> Outcome:
    """Run the command once."""
    cli = Cli("", host.home)
    given = {"RESILIENT_STORE": None, "RESILIENT_RUNTIME_DIR": str(host.pages), **environ}
    return cli("top", *(words or ("--once",)), "--every", "0.3s", **given)


def open_circuit(worker: Process) -> None:
    """Have the circuit of a process open."""
    lasting(worker, "for _ in range(5): p.try_call(fail)\nhere.refresh()")


class Trouble:
    """A host: a process works, one is stopped, one never lets go of the GIL, one is dead.

    A fifth one has so many policies that it takes long to look after them.
    """

    def __init__(self, host: Host) -> None:
        self.host, self.began = host, time.time()
        self.well, self.stopped, self.stuck, self.dead = (host.start(SHOP) for _ in range(4))
        self.busy = host.start()
        lasting(self.busy, BUSY)
        lasting(self.well, "")
        open_circuit(self.stopped)
        lasting(self.stuck, "p.call(int)\nhere.refresh()" + HANGS)
        open_circuit(self.dead)
        self.dead.kill()
        self.stopped.stopped()
        page = Reader(host.page_of(self.busy))
        silent = [Reader(host.page_of(each)) for each in (self.stopped, self.stuck)]
        beats, looks = set[float](), self.busy.do("signal.alarm(600)\nlooks[0]")

        def seen() -> bool:
            page.read()
            beats.add(page.beat)
            for each in silent:
                each.read()
            if max(each.beat for each in silent) > time.monotonic() - 6:
                return False
            self.more = len(beats) - (self.busy.do("signal.alarm(600)\nlooks[0]") - looks)
            return self.more > 2

        with contextlib.suppress(AssertionError):  # the one test that is about it will say so
            until(seen, seconds=40)


@pytest.fixture(scope="module")
def trouble(shared: Host) -> Generator[Trouble]:
    """The host for the tests of this module."""
    made = Trouble(shared)
    yield made
    os.kill(made.stopped.pid, signal.SIGCONT)


@pytest.fixture(scope="module")
def data(trouble: Trouble) -> Any:
    """What `top --json` says of it."""
    return top(trouble.host, "--json").said(0).json


def of(data: Any, name: str) -> Any:
    """Return what is said of a policy."""
    (found,) = [each for each in data["policies"] if each["policy"] == name]
    return found


def test_processes_that_hang_are_told(trouble: Trouble, data: Any) -> None:
    """Stopped by a signal, or stuck in C with the GIL: silent, by pid; those that work are not."""
    silent = {each["pid"]: each["seconds"] for each in data["processes"]["silent"]}
    assert set(silent) == {trouble.stopped.pid, trouble.stuck.pid}
    assert min(silent.values()) > 5
    assert data["processes"]["living"] == 4


def test_a_busy_process_gives_signs_of_life(trouble: Trouble) -> None:
    """However long it takes to look after what it has, and so rarely as it does that."""
    assert trouble.more > 2


def test_what_they_last_counted_is_there(trouble: Trouble, data: Any) -> None:
    """The open circuit of the stopped one is shown; that of the dead one is not."""
    shop = of(data, "shop")
    assert shop["state"] == "open 1/3"
    assert shop["limit"] == 120
    assert trouble.began <= shop["since"] <= time.time()
    assert (shop["owner"], shop["tier"], shop["live"]) == ("pay", 1, True)
    search = of(data, "search")
    assert (search["state"], search["calls"]) == ("", 0)


def test_the_screen_says_so(trouble: Trouble) -> None:
    """Above the table, and in the table; without a colour, since nothing is a terminal."""
    said = top(trouble.host).said(0).out
    assert "4 processes" in said
    for worker in (trouble.stopped, trouble.stuck):
        assert f"process {worker.pid} (host_worker.py) hangs: nothing heard for" in said
    assert "OPEN 1/3" in said
    assert "# shop: no fallback, so no lever helps customers; call pay" in said
    assert "\nresilient policies show shop\n" in said
    assert "1 policy well; 1 without a call" in said


@pytest.mark.parametrize("width", [60, 140])
def test_it_fits_where_columns_says_so(trouble: Trouble, width: int) -> None:
    """As over ssh, with no terminal to ask."""
    said = top(trouble.host, COLUMNS=str(width)).said(0).out
    assert max(map(len, said.splitlines())) <= width
    assert "OPEN 1/3" in said


def test_calls_that_are_made_meanwhile(trouble: Trouble) -> None:
    """The one that works is counted while the others hang."""
    over = trouble.host.home / "over"
    trouble.well.tell(f"while not os.path.exists({str(over)!r}): q.call(int); time.sleep(0.001)")
    try:
        data = top(trouble.host, "--json").said(0).json
    finally:
        over.touch()
    trouble.well.hear()
    search = of(data, "search")
    assert search["calls"] > 0
    assert search["served"] == {"full": 1, "degraded": 0, "error": 0, "caller_error": 0}
    assert 0 < search["p50"] <= search["p99"]
    assert data["customers"]["full"] == 1
    assert data["customers"]["rate"] == pytest.approx(search["rate"])


# -- nobody is there ------------------------------------------------------------------


def test_no_process_at_all(host: Host) -> None:
    """All are dead: there is no data, which is not the same as no calls."""
    worker = host.start(SHOP)
    top(host).said(0, "no calls", "1 process")
    worker.kill()
    said = top(host).said(0, "no data", "0 processes").out
    assert "no calls" not in said
    assert top(host, "--json").said(0).json["customers"]["full"] is None


def here(pages: Path | str, code: int, store: str = "") -> str:
    """Run the command in this process; return what it says."""
    command = Command(store, Path("/nowhere"))
    command.environ["RESILIENT_RUNTIME_DIR"] = str(pages)
    return command("top", "--once", "--every", "0.05s", code=code)


def test_no_directory(tmp_path: Path) -> None:
    """It does not exist, is none, or none is set: each is told, with its code."""
    said = here(tmp_path / "none", code=4)
    assert "does not exist: no process has ever shared its counts there" in said
    for nothing in ("", "off"):
        said = here(nothing, code=2)
        assert "no directory is set" in said
        assert "RESILIENT_RUNTIME_DIR" in said
    (tmp_path / "file").touch()
    assert "does not exist" in here(tmp_path / "file", code=4)


def test_an_empty_directory(tmp_path: Path) -> None:
    """Nobody has shared anything: no data."""
    tmp_path.chmod(0o700)
    assert "no data" in here(tmp_path, code=0)
    assert list(tmp_path.iterdir()) == []  # to look changes nothing


@root_only
def test_a_directory_of_another_user(tmp_path: Path) -> None:
    """It is not trusted, and says why."""
    pages = tmp_path / "pages"
    pages.mkdir(0o700)
    os.chown(pages, 4711, -1)
    assert "belongs to another user" in here(pages, code=4)
    os.chown(pages, 0, -1)
    pages.chmod(0o777)
    assert "everybody may write" in here(pages, code=4)


def test_a_page_that_cannot_be_read(host: Host) -> None:
    """It is told, and the others are shown."""
    worker = host.start(SHOP)
    open_circuit(worker)
    (host.pages / "1-broken.page").write_bytes(b"nonsense")
    os.mkfifo(host.pages / "2-fifo.page")
    top(host).said(0, "2 pages can't be read", "OPEN", "1 process")
    unread = top(host, "--json").json["processes"]["unread"]
    assert set(unread) == {"1-broken.page", "2-fifo.page"}


def test_beside_a_store_of_sqlite(host: Host) -> None:
    """Without a variable of its own, the pages are those beside the file."""
    store = f"sqlite:///{host.home / 'flags.db'}"
    worker = host.start(SHOP, RESILIENT_STORE=store, RESILIENT_RUNTIME_DIR="")
    open_circuit(worker)
    top(host, RESILIENT_RUNTIME_DIR=None, RESILIENT_STORE=store).said(0, "OPEN", "1 process")


def test_a_process_that_ends_and_one_that_comes(
    host: Host, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Between two looks: what the one had counted is not lost, nor counted twice."""
    first = host.start(SHOP)
    first.do("for _ in range(100): q.call(int)\nhere.refresh()")

    def between(_: float) -> None:
        monkeypatch.undo()
        first.do("for _ in range(7): q.call(int)\nhere.refresh()")
        first.kill()
        second = host.start(SHOP)
        second.do("for _ in range(5): q.call(int)\nhere.refresh()")
        until(lambda: second.scrape() and "departed.page" in host.names())

    command = Command("", host.home)
    command.environ["RESILIENT_RUNTIME_DIR"] = str(host.pages)
    monkeypatch.setattr(time, "sleep", between)
    data = command.json("top", "--every", "0.3s")
    assert of(data, "search")["calls"] == 7 + 20 + 5


@pytest.mark.parametrize("every", ["0s", "-1s", "x", "", "5", "1e3s", "999999999999d", "4000d"])
def test_bad_every(every: str) -> None:
    """It is told, with what would be right, before anything is looked at."""
    from click.testing import CliRunner

    from resilient.cli.commands import cli

    done = CliRunner(env={"RESILIENT_RUNTIME_DIR": "/nowhere"}).invoke(
        cli, ["top", "--every", every]
    )
    assert done.exit_code == 2, done.output
    assert "--every must be" in done.output
