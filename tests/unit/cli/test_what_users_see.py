"""What commands say to another user, of other hosts, without pages, and without a store."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from resilient.flags.stores.base import Process
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.command import Cli, Outcome
from tests.kit.servers.redis_server import RedisServer
from tests.kit.waiting import until
from tests.kit.workers import Worker

NOBODY = 65534
# As nobody, with all modules loaded before: the interpreter may lie where nobody may look.
SCRIPT = """
import os, sys
import encodings.unicode_escape, rich.console, rich.table, rich.box, rich.live, rich._emoji_codes, sqlite3, redis, click, pwd
import resilient.cli.commands, resilient.cli.top_screen, resilient.flags.stores.sqlite
os.chdir('/'); os.setgroups([]); os.setgid(65534); os.setuid(65534)
from resilient.cli import main
main()
"""


def as_nobody(cli: Cli, *words: str) -> Outcome:
    """Run a command as a user who may look at nothing of the service's."""
    began = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, *words], env=cli.env(), stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    return cli.end(process, began)


@pytest.fixture
def seen(make: Callable[..., Worker]) -> Iterator[Cli]:
    """A service of root's whose store others may read, and a circuit of which is open."""
    with tempfile.TemporaryDirectory(prefix="eyes-") as home:  # pytest's own are private
        Path(home).chmod(0o755)
        (Path(home) / "flags.db").touch(0o644)
        cli = Cli(f"sqlite:///{home}/flags.db", Path(home))
        worker = make(cli)
        cli.applied_by(1)
        for _ in range(5):
            worker.ask("failing")
        until(lambda: cli("policies", "--json").json[0]["states"] == {"open": 1})
        yield cli
        worker.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_another_user(seen: Cli) -> None:
    """In one sentence: whose the pages are, and how to look; and what the store knows all the same."""
    for words in (("top", "--once"), ("status",), ("top", "--json"), ("metrics", "alerts")):
        done = as_nobody(seen, *words)
        assert done.code == 4, done
        assert done.err.count("\n") == 1, done
        assert "belongs to another user, root (uid 0)" in done.err
        assert "sudo -u root" in done.err
        if words[0] != "metrics":
            assert "plain" in done.out, done
    for words in (("flags",), ("policies",), ("timeline",), ("processes",), ("doctor",)):
        assert as_nobody(seen, *words).code in (0, 1, 4), words


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_store_that_may_not_be_looked_at(seen: Cli) -> None:
    """It is not said that there is none."""
    (seen.home / "closed").mkdir(mode=0o700)
    store = f"sqlite:///{seen.home}/closed/flags.db"
    done = as_nobody(seen, "flags", "--store", store)
    done.said(4, "can't be looked at by this user")
    assert "does not exist" not in done.err


def test_open_circuits_without_pages(fleet: Cli, make: Callable[..., Worker]) -> None:
    """A store of Redis knows which circuits are open: 1, and that customers are not seen."""
    one = make(fleet)
    fleet.applied_by(1)
    fleet("status").said(0, "what customers get is not known", "all in step")
    for _ in range(5):
        one.ask("failing")
    until(lambda: fleet("status").code == 1)
    fleet("status").said(1, "circuits: plain open; ", "what customers get is not known")
    assert fleet("status", "--json").said(1).json["circuits"] == {"plain": "open"}
    fleet("top", "--once").said(2, "RESILIENT_RUNTIME_DIR", "the store knows; circuits: plain open")


def test_processes_of_other_hosts(cli: Cli, worker: Worker, database: Path) -> None:
    """Their calls are not seen here, and that is said; whom they obey is."""
    store = SQLiteStore(str(database))
    for number in (1, 2):
        other = Process(f"{number:032}", host="web2", pid=99_999_990 + number, program="gunicorn")
        other.about, other.applied = {"flags": {}, "policies": {}}, 10**14
        store.beat(other, about=True)
    store.close()
    cli("status").said(0, "what 2 processes of other hosts or users served is not seen")
    assert cli("status", "--json").json["unseen"] == 2


def test_guards_that_are_switched_off(cli: Cli, worker: Worker, database: Path) -> None:
    """A process in which guards let everything pass is told: 1."""
    store = SQLiteStore(str(database))
    other = Process("a" * 32, host="web2", pid=99_999_999, program="gunicorn", applied=10**14)
    other.about = {"flags": {}, "policies": {}, "active": False}
    store.beat(other, about=True)
    store.close()
    cli("status").said(1, "guards are switched off in 1 process")
    assert cli("status", "--json").json["inactive"] == 1
    cli("doctor").said(1, "web2, pid 99999999 lets every call pass its guards")


def test_nobody_follows(cli: Cli, worker: Worker) -> None:
    """Zero of zero is no success: nobody has obeyed, and that is what is said."""
    worker.quit()
    until(lambda: cli("processes", "--json").json == [])
    cli.flip("flags", "off", "recs").said(2, "no process declares a flag named recs")
    cli.flip("flags", "off", "recs", "--declare").said(0, "nobody follows")
    cli.flip("flags", "on", "recs").said(3, "nobody follows")
    cli("flags").said(0, "nobody follows")
    cli("flags", "show", "recs").said(0, "nobody follows")
    cli("status").said(3, "0 processes; nobody obeys")


def test_a_store_that_knows_no_processes(cli: Cli, tmp_path: Path) -> None:
    """What can't be known of a file in Git is not shown as nothing."""
    (tmp_path / "flags.toml").write_text("[flags.recs]\nstate = 'off'\n")
    cli.store = f"file:{tmp_path / 'flags.toml'}"
    cli("policies").said(0, "does not know its processes")
    cli("processes").said(0, "does not know its processes")
    cli("doctor").said(0, "whether they obey can't be told")
    cli("timeline").said(0, "which circuits are open is not known")
    cli("status").said(1, "processes not known", "what customers get is not known")


def test_of_a_policy_without_a_fallback(cli: Cli, worker: Worker) -> None:
    """Who forces it open is told what its callers get; with a fallback there is nothing to say."""
    harm = "nothing answers in its place: every call of it is an error now"
    cli.flip("policies", "force-open", "shop").said(0, harm)
    assert harm not in cli.flip("policies", "force-open", "plain").said(0).out


def test_of_a_policy_with_a_view_that_answers(cli: Cli, worker: Worker) -> None:
    """Nobody is told of errors for calls that are answered, nor of answers for those that are not."""
    assert worker.ask("view") == "ok"
    until(lambda: cli("policies", "show", "shop", "--json").json["in"][0]["policy"].get("in_views"))
    said = cli.flip("policies", "force-open", "shop").said(0)
    assert "only views of shop have an answer in its place: other calls are errors now" in said.out
    assert (worker.ask("view"), worker.ask("shop")) == ("instead", "CircuitOpenError")
    cli.flip("policies", "release", "shop").said(0)
    said = cli.flip("flags", "off", "recs").said(0)
    assert "only views of shop have an answer: its other calls are errors now, unless" in said.out
    assert (worker.ask("view"), worker.ask("shop")) == ("instead", "FlagOffError")


def test_of_a_switch_without_an_answer(cli: Cli, worker: Worker) -> None:
    """Who turns it off is told what its callers get, and who looks at the policy what cuts it off."""
    harm = "nothing answers in the place of shop: every call of it is an error now"
    cut = "shop is cut off by its kill switch: flag recs is off"
    assert cut not in cli("policies", "show", "shop").out
    cli.flip("flags", "off", "recs").said(0, harm)
    cli("policies", "show", "shop").said(0, cut)
    cli("policies").said(0, cut)
    assert cli("policies", "show", "shop", "--json").json["flags_off"] == ["recs"]
    assert harm not in cli.flip("flags", "on", "recs").said(0).out


def test_of_a_policy_without_a_circuit(cli: Cli, make: Callable[..., Worker]) -> None:
    """It is not called closed."""
    make(WORKER_SLOTS="yes")
    cli.applied_by(1)
    shown = cli("policies", "show", "slots").said(0, "no circuit").out
    assert "closed" not in shown
    rows = {row["policy"]: row["states"] for row in cli("policies", "--json").json}
    assert rows == {"plain": {"closed": 1}, "shop": {"closed": 1}, "slots": {"no circuit": 1}}


def test_doctor_looks_at_pages(cli: Cli, worker: Worker, tmp_path: Path) -> None:
    """What can't be read there is a finding, and that there are none."""
    pages = tmp_path / "pages"
    pages.mkdir(mode=0o700)
    (pages / "x.page").write_bytes(b"RSLNTP01 and then nothing")
    assert "x.page can't be read" in cli("doctor", RESILIENT_RUNTIME_DIR=str(pages)).said(1).out
    nowhere = str(tmp_path / "nowhere")
    cli("doctor", RESILIENT_RUNTIME_DIR=nowhere).said(1, f"{nowhere} does not exist")
    cli("doctor", RESILIENT_RUNTIME_DIR="off").said(0, "were not looked for")


def test_a_fleet_of_redis(redis_server: RedisServer, fleet: Cli) -> None:
    """A process of an older version says nothing of its options: that they are unchecked is told."""
    store = RedisStore(redis_server.url)
    old = Process("b" * 32, host="web2", pid=7, program="gunicorn", applied=10**14)
    row = {"state": "closed", "owner": "", "impact": "", "tier": None}
    old.about = {"flags": {}, "policies": {"shop": row}}
    store.beat(old, about=True)
    store.close()
    done = fleet.flip("policies", "set", "shop", "bulkhead.nonsense=1", "--wait", "0.1s")
    assert "not checked, for they are of an older version: web2, pid 7" in done.out
