"""The journal of real processes: each tells its own, none tells another's, and all are one."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.command import Command
from tests.kit.hosts import Host, Process
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until

SHOP = """
def opening(name='shop', times=5):
    for _ in range(times): policy(name).try_call(fail)
made = {}
def policy(name):
    if name not in made: made[name] = Policy(name, circuit_breaker(failure_threshold=5, recovery_timeout=60))
    return made[name]
FLAG = flag('recs')
bool(FLAG)
policy('shop').call(int)
"""


class Fleet:
    """Processes that follow one store, and what it knows of them."""

    def __init__(self, host: Host, setting: str) -> None:
        self.host = host
        self.setting = setting
        self.command = Command(setting, host.home)
        self._store: Any = None

    def start(self, code: str = "") -> Process:
        """Start a process."""
        environ = {"RESILIENT_STORE": self.setting, "RESILIENT_RUNTIME_DIR": "off",
                   "RESILIENT_STATE_DIR": str(self.host.home / "state")}  # fmt: skip
        return self.host.start(SHOP + code, **environ)

    def journal(self, **more: Any) -> list[dict[str, Any]]:
        """Return the entries that say so."""
        if self._store is None:
            path = self.setting.removeprefix("sqlite:///")
            redis = path == self.setting
            self._store = RedisStore(self.setting) if redis else SQLiteStore(path)
        found: list[dict[str, Any]] = self._store.journal(0.0, 100_000)
        return [e for e in found if all(e.get(key) == value for key, value in more.items())]

    def has(self, number: int = 1, **more: Any) -> list[dict[str, Any]]:
        """Wait until there are so many such entries; return them."""
        until(lambda: len(self.journal(**more)) >= number)
        found = self.journal(**more)
        assert len(found) == number, found
        return found

    def close(self) -> None:
        """Let go of the store."""
        if self._store is not None:
            self._store.close()


@pytest.fixture(params=["sqlite", "redis"])
def fleet(request: pytest.FixtureRequest, host: Host) -> Any:
    """Every store that processes can share and write."""
    if request.param == "redis":
        server: RedisServer = request.getfixturevalue("redis_server")
        made = Fleet(host, server.url)
    else:
        made = Fleet(host, f"sqlite:///{host.home / 'flags.db'}")
    yield made
    made.close()


def test_the_life_of_a_process(fleet: Fleet) -> None:
    """It started, what happened to it, and it ended: in this order, with who it was."""
    worker = fleet.start()
    (started,) = fleet.has(kind="process_started")
    assert (started["pid"], started["program"]) == (worker.pid, "host_worker.py")
    worker.do("opening()")
    (opened,) = fleet.has(kind="opened")
    assert opened["process"] == started["process"]
    assert opened["evidence"]["exceptions"] == {"ConnectionError": 5}
    assert opened["evidence"]["settings"]["failure_threshold"] == 5
    worker.do("""
p = Policy('slow', timeout(0.01, sync='thread'))
p.try_call(time.sleep, 0.3)
policy('shop').update(circuit_breaker={'failure_rate': 0.4})
""")
    assert fleet.has(kind="abandoned")[0]["policy"] == "slow"
    assert "failure_rate=0.4" in fleet.has(kind="updated")[0]["after"]
    worker.hang_up()  # it ends by itself
    worker.gone()
    fleet.has(kind="process_left")
    mine = fleet.journal(process=started["process"])
    assert [each["kind"] for each in mine] == [
        "process_started", "opened", "abandoned", "updated", "process_left",
    ]  # fmt: skip
    assert [each["number"] for each in mine] == [1, 2, 3, 4, 5]
    assert mine == sorted(mine, key=lambda each: each["at"])
    said = fleet.command("timeline")
    assert f"pid {worker.pid} (host_worker.py) started" in said
    assert f"pid {worker.pid} (host_worker.py) ended" in said


@pytest.mark.parametrize("fleet", ["redis"], indirect=True)
def test_several_processes_are_one_line(fleet: Fleet) -> None:
    """What three of them do within moments is told in one line; the order is that of the clock."""
    workers = [fleet.start() for _ in range(3)]
    for worker in workers:
        worker.do("opening()")
    fleet.has(3, kind="opened")
    workers[0].do("opening('other')")
    fleet.has(1, policy="other")
    said = [line.split("  ", 1)[1] for line in fleet.command("timeline").splitlines()]
    assert any(line.startswith("shop opened in 3 processes: 5 of ") for line in said), said
    assert said[-1].startswith("other opened: 5 of 5 calls failed")
    found = fleet.command.json("timeline", "--policy", "shop")
    assert len(found) == 1
    assert len(set(found[0]["processes"])) == 3
    shown = fleet.command("policies", "show", "shop")
    assert "5x ConnectionError" in shown
    assert all(str(worker.pid) in shown for worker in workers)


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_a_flip_is_one_line_and_its_echoes_none(fleet: Fleet) -> None:
    """Who turned the flag off and why, once, though both processes heard of it."""
    for _ in range(2):
        fleet.start()
    fleet.has(2, kind="process_started")
    fleet.command("flags", "off", "recs", "--reason", "vendor down", "--for", "30m")
    fleet.has(2, kind="flipped")
    said = fleet.command("timeline")
    assert said.count("recs") == 1
    assert "by ana: vendor down" in said


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_a_fork_tells_its_own(fleet: Fleet) -> None:
    """A child does not repeat what its parent had not told yet, and is a process of its own."""
    parent = fleet.start()
    fleet.has(kind="process_started")
    parent.do("opening('before')")
    children = [parent.fork() for _ in range(2)]
    for number, child in enumerate(children):
        child.do(f"bool(FLAG)\nopening('of child {number}'.replace(' ', '-'))")
    fleet.has(3, kind="process_started")
    fleet.has(1, policy="before")
    for number, child in enumerate(children):
        (opened,) = fleet.has(1, policy=f"of-child-{number}")
        assert opened["pid"] == child.pid
        numbers = [each["number"] for each in fleet.journal(process=opened["process"])]
        assert numbers[0] == 1
        heard = child.do("""
from resilient.events import bus
sum('Journal.heard' in repr(each) for each in bus._listeners)
""")
        assert heard == 1  # its own, and no longer the parent's
    assert len({each["process"] for each in fleet.journal()}) == 3
    parent.do("opening('after')")
    assert [each["pid"] for each in fleet.has(1, policy="after")] == [parent.pid]


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_flapping_of_a_real_circuit(fleet: Fleet) -> None:
    """Two hundred moves, told in a handful of entries at the end at the latest."""
    worker = fleet.start()
    worker.do("""
clock = ManualClock()
p = Policy('flaps', circuit_breaker(failure_threshold=1, recovery_timeout=1), clock=clock)
for _ in range(67):
    p.try_call(fail)
    clock.advance(61)
    p.call(int)
""")
    worker.hang_up()
    worker.gone()
    fleet.has(kind="process_left")
    found = fleet.journal(policy="flaps")
    assert sum(each["times"] for each in found) == 201
    assert [each["kind"] for each in found] == [
        "opened",
        "half_open",
        "closed",
        "opened",
        "flapped",
    ]
    assert found[-1]["after"] == "closed"
    assert "flaps flapped, 197 moves more" in fleet.command("timeline")


def died(fleet: Fleet, worker: Process) -> None:
    """Check that the death of a process is told, with which one it was."""
    (lost,) = fleet.has(kind="process_lost")
    assert (lost["lost"]["pid"], lost["lost"]["program"]) == (worker.pid, "host_worker.py")
    line = [line for line in fleet.command("timeline").splitlines() if "died" in line]
    assert len(line) == 1
    assert f"pid {worker.pid} (host_worker.py) died without a goodbye" in line[0]


@pytest.mark.parametrize("fleet", ["sqlite"], indirect=True)
def test_a_process_that_is_killed(fleet: Fleet) -> None:
    """Another one of the host tells it, once, within some seconds."""
    worker, *others = [fleet.start() for _ in range(3)]
    fleet.has(3, kind="process_started")
    worker.kill()
    died(fleet, worker)
    assert len(others) == 2
    assert len(fleet.journal(kind="process_lost")) == 1


@pytest.mark.parametrize("fleet", ["redis"], indirect=True)
def test_a_process_that_is_killed_and_an_operator_who_looks_first(fleet: Fleet) -> None:
    """Who looks finds it dead, and it is told all the same; also of the last one of its host."""
    worker = fleet.start()
    fleet.has(1, kind="process_started")
    worker.kill()
    for _ in range(2):
        fleet.command("flags")
    died(fleet, worker)


def test_the_store_goes_away_for_a_while(host: Host, redis_server: RedisServer) -> None:
    """What happened meanwhile is told afterwards, at the time when it happened."""
    fleet = Fleet(host, redis_server.url)
    worker = fleet.start()
    fleet.has(1, kind="process_started")
    fleet.close()
    redis_server.kill()
    time.sleep(0.3)
    began = time.time()
    worker.do("opening('meanwhile')")  # while the store is away
    ended = time.time()
    time.sleep(1.5)
    redis_server.restart()
    (opened,) = fleet.has(1, policy="meanwhile")
    assert began - 0.1 <= opened["at"] <= ended + 0.1
    fleet.close()


def test_without_a_store_nothing_is_written(host: Host, tmp_path: Path) -> None:
    """A process of its own memory keeps its news to itself, and ends as ever."""
    worker = host.start(SHOP, RESILIENT_STORE="", RESILIENT_RUNTIME_DIR="off", HOME=str(tmp_path))
    worker.do("opening()")
    worker.hang_up()
    worker.gone()
    assert list(tmp_path.rglob("*")) == []
    assert "Traceback" not in host.errors()
