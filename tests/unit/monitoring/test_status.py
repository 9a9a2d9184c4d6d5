"""`resilient status`: the line, and the exit code, in each case."""

from __future__ import annotations

import json
import os
import signal
import tempfile
import time
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.stores.sqlite import SQLiteStore
from resilient.monitoring.page_samples import PageSample
from tests.kit.command import Command
from tests.kit.hosts import Host, Process
from tests.kit.waiting import until
from tests.unit.monitoring.kit import Page, lasting, look, policy

SHOP = """
RECS = flag('recs')
p = Policy('shop', circuit_breaker(failure_threshold=3, recovery_timeout=60))
q = Policy('picks', kill_switch(RECS), fallback(value=0))
p.call(int), q.call(int)
going = ['none']
def go():
    while True:
        {'well': lambda: p.try_call(int), 'degraded': lambda: q.try_call(fail), 'none': int}[going[0]]()
        time.sleep(0.005)
threading.Thread(target=go, daemon=True).start()
"""


class Service:
    """A process that follows a store, and shares its counts, and the command that looks at it."""

    def __init__(self, host: Host) -> None:
        self.store = f"sqlite:///{host.home / 'flags.db'}"
        self.host = host
        self.both = Command(self.store, host.home)
        self.both.environ["RESILIENT_RUNTIME_DIR"] = str(host.pages)
        self.levers = Command(self.store, host.home)
        self.pages = Command("", host.home)
        self.pages.environ["RESILIENT_RUNTIME_DIR"] = str(host.pages)
        self.worker = self.start()

    def start(self) -> Process:
        """Start a process, and wait until it follows."""
        environ = {
            "RESILIENT_STORE": self.store,
            "RESILIENT_STATE_DIR": str(self.host.home / "state"),
        }
        worker = self.host.start(SHOP, **environ)
        lasting(worker, "")
        self.obeyed()
        return worker

    def obeyed(self) -> None:
        """Wait until every process is in step."""
        until(lambda: self.levers.json("processes") != [])
        until(lambda: not any(row["behind"] for row in self.levers.json("processes")))

    def serves(self, how: str) -> None:
        """Have its customers get something from now on."""
        lasting(self.worker, f"going[0] = {how!r}")


@pytest.fixture(scope="module")
def service(shared: Host) -> Service:
    """The service for the tests of this module."""
    return Service(shared)


@pytest.fixture
def at_rest(service: Service) -> Generator[Service]:
    """The service, which nobody calls; its circuit is closed again after the test."""
    service.serves("none")
    # The store hears of it by a heartbeat.
    until(lambda: not any("open" in row["states"] for row in service.levers.json("policies")))
    yield service
    lasting(service.worker, "p.force_closed()\np.release()\ngoing[0] = 'none'\nhere.refresh()")


def status(command: Command, *words: str, code: int) -> str:
    """Return the one line."""
    said = command("status", "--over", "0.2s", *words, code=code)
    assert said.count("\n") == 1 or words
    return said.strip()


WELL = "no flag is off; no policy is forced; 1 process; all in step"
UNKNOWN = "what customers get is not known: no pages of processes here (RESILIENT_RUNTIME_DIR)"


def test_all_is_well(at_rest: Service) -> None:
    """What customers get, and that nothing is off, forced or behind: 0."""
    assert (
        status(at_rest.both, code=0)
        == f"customers: no calls meanwhile (a longer --over may see some); {WELL}"
    )
    at_rest.serves("well")
    said = status(at_rest.both, code=0)
    assert said.startswith("customers: full 100.0%, degraded 0.0%, error 0.0% of ")
    assert said.endswith(f" calls/s; {WELL}")


def test_degraded(at_rest: Service) -> None:
    """Fallbacks answer: 1, and the share is told."""
    at_rest.serves("degraded")
    assert "full 0.0%, degraded 100.0%, error 0.0%" in status(at_rest.both, code=1)
    assert "degraded 100.0%" in status(at_rest.pages, code=1)


def test_an_open_circuit(at_rest: Service) -> None:
    """It is named with its state, also while nobody calls: 1."""
    lasting(at_rest.worker, "for _ in range(3): p.try_call(fail)\nhere.refresh()")
    assert (
        status(at_rest.both, code=1)
        == f"customers: no calls meanwhile (a longer --over may see some); circuits: shop open; {WELL}"
    )
    data = json.loads(status(at_rest.both, "--json", code=1))
    assert (data["circuits"], data["exit"]) == ({"shop": "open"}, 1)


def test_a_flag_that_is_off_and_a_forced_policy(at_rest: Service) -> None:
    """They are named: 1, whatever customers get; and 0 when they are taken back."""
    reason = ("--reason", "x", "--wait", "8s")
    at_rest.levers("flags", "off", "recs", *reason)
    at_rest.levers("policies", "force-closed", "shop", *reason)
    said = status(at_rest.both, code=1)
    assert said.endswith("off: recs; forced or changed: shop; 1 process; all in step")
    assert status(at_rest.levers, code=1) == f"{said.partition('; ')[2]}; {UNKNOWN}"
    at_rest.levers("flags", "release", "recs", *reason)
    at_rest.levers("policies", "release", "shop", *reason)
    lasting(at_rest.worker, "p.force_closed()\np.release()\nhere.refresh()")
    at_rest.obeyed()
    assert (
        status(at_rest.both, code=0)
        == f"customers: no calls meanwhile (a longer --over may see some); {WELL}"
    )


def test_no_store_but_pages(at_rest: Service) -> None:
    """Only what customers get."""
    assert status(at_rest.pages, code=0) == (
        "customers: no calls meanwhile (a longer --over may see some); what is off or forced is not known"
    )
    data = json.loads(status(at_rest.pages, "--json", code=0))
    assert data == {
        "customers": {"rate": 0.0, "full": None, "degraded": None, "error": None},
        "circuits": {}, "hanging": [], "unseen": 0, "inactive": 0, "exit": 0,
    }  # fmt: skip


def test_a_store_but_no_pages(at_rest: Service) -> None:
    """Only what operators did, and who obeys."""
    assert status(at_rest.levers, code=0) == f"{WELL}; {UNKNOWN}"
    at_rest.levers.environ["RESILIENT_RUNTIME_DIR"] = str(at_rest.host.home / "nowhere")
    try:
        said = at_rest.levers("status", code=4)
        assert "nowhere does not exist: no process has ever shared its counts there" in said
        assert f"{WELL}; what customers get is not known" in said
    finally:
        at_rest.levers.environ["RESILIENT_RUNTIME_DIR"] = "off"


def test_the_store_of_the_command_goes_over_that_of_the_environment(at_rest: Service) -> None:
    """`--store` names the store, and the pages beside it."""
    nothing = Command("", at_rest.host.home)
    assert status(nothing, "--store", at_rest.store, code=0).strip() == f"{WELL}; {UNKNOWN}"


def test_neither(tmp_path: Path) -> None:
    """It says what to set: 2."""
    assert "no store is set" in status(Command("", tmp_path), code=2)
    assert "status" not in status(Command("nonsense://x", tmp_path), code=2)


def test_a_process_that_hangs(at_rest: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is named by its pid, and by the store as silent: 3, and 1 where there are only pages."""
    for module in (
        "monitoring.page_samples.SILENT",
        "cli.store_view.SILENT_AFTER",
        "flags.operations.SILENT_AFTER",
    ):
        monkeypatch.setattr(f"resilient.{module}", 2.5)
    at_rest.worker.stopped()
    try:
        time.sleep(2.8)
        said = status(at_rest.both, code=3)
        assert f"hanging: pid {at_rest.worker.pid}" in said
        assert said.endswith("1 process; 1 silent")
        assert f"hanging: pid {at_rest.worker.pid}" in status(at_rest.pages, code=1)
    finally:
        os.kill(at_rest.worker.pid, signal.SIGCONT)


def test_few_calls_of_which_some_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks on until there are enough to tell, and does not call well what it could not tell."""
    looked: list[float] = []
    every, errors = [2.0], [0.0]  # calls, and errors among them, in each second

    class Slow:
        """A policy that is called now and then."""

        def __init__(self, path: Path) -> None: ...

        def look(self) -> PageSample:
            at = sum(looked)
            return look(
                at, Page(policy("shop", full=(every[0] - errors[0]) * at, error=errors[0] * at))
            )

    monkeypatch.setattr("resilient.cli.status.PagePoller", Slow)
    monkeypatch.setattr("resilient.cli.status.time.sleep", looked.append)
    command = Command("", tmp_path)
    command.environ["RESILIENT_RUNTIME_DIR"] = str(tmp_path)
    assert "full 100.0%" in command("status", code=0)
    assert looked == [1.0]
    looked.clear()
    errors[0] = 2.0
    assert "error 100.0% of 2 calls/s" in command("status", code=1)
    assert sum(looked) == 5.0
    looked.clear()
    assert "error 100.0%" in command("status", "--over", "20s", code=1)
    assert sum(looked) == 20.0
    looked.clear()
    every[0], errors[0] = 0.5, 0.5  # five calls in all the time that it takes
    assert "error 100.0%" in command("status", code=1)
    assert sum(looked) == 10.0
    looked.clear()
    errors[0] = 0.04  # less than a tenth of few calls is no news
    command("status", code=0)


def test_what_customers_get_while_the_store_is_down(at_rest: Service) -> None:
    """The pages are there all the same: they are told, with that the store can't be reached: 4."""
    at_rest.serves("degraded")
    down = Command("redis://127.0.0.1:1/0", at_rest.host.home)
    down.environ["RESILIENT_RUNTIME_DIR"] = str(at_rest.host.pages)
    said = down("status", "--over", "0.2s", code=4)
    assert "degraded 100.0%" in said
    assert "the store can't be used" in said


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root")
def test_levers_while_the_pages_cannot_be_read(at_rest: Service) -> None:
    """What the store says is told, and that the pages are another user's: 4."""
    with tempfile.TemporaryDirectory() as other:
        os.chown(other, 4711, -1)
        command = Command(at_rest.store, at_rest.host.home)
        command.environ["RESILIENT_RUNTIME_DIR"] = other
        said = command("status", "--over", "0.2s", code=4)
    assert "belongs to another user" in said
    assert WELL in said


@pytest.mark.parametrize("over", ["0s", "x", "-1s", "", "5000d"])
def test_bad_input(at_rest: Service, over: str) -> None:
    """It is told, with what would be right: 2."""
    assert "--over must be" in at_rest.both("status", "--over", over, code=2)


def test_nobody_lives(host: Host) -> None:
    """All have died: with a store and without one, that is not well: 3."""
    service: Any = Service(host)
    service.worker.kill()
    assert status(service.pages, code=3) == (
        "customers: no data; what is off or forced is not known"
    )
    said = status(service.both, code=3)
    assert said.startswith("customers: no data; ")
    assert said.endswith("0 processes; nobody obeys")


def test_guards_that_are_switched_off(at_rest: Service) -> None:
    """`set_active(False)` in some process is told by its page and by the store alike: 1."""
    lasting(at_rest.worker, "import resilient\nresilient.set_active(False)\nhere.refresh()")
    try:
        until(lambda: [p for p in _processes(at_rest) if p.about["active"] is False])
        for command in (at_rest.both, at_rest.levers, at_rest.pages):
            assert "guards are switched off in 1 process" in status(command, code=1)
        assert "guards are switched off in 1 process" in at_rest.both("top", "--once")
    finally:
        lasting(at_rest.worker, "resilient.set_active(True)\nhere.refresh()")
        at_rest.obeyed()


def _processes(service: Service) -> list[Any]:
    """Return what the store knows of each process."""
    store = SQLiteStore(service.store.removeprefix("sqlite:///"))
    try:
        return store.processes()[0]
    finally:
        store.close()
