"""Who is counted: processes that live, hang, are frozen, killed, quit, and are forgotten."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from resilient import state_types
from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import Worker

ROW = {"id", "host", "pid", "program", "applied", "behind", "seen", "silent"}


def test_every_process_is_listed(cli: Cli, database: Path, make: Callable[..., Worker]) -> None:
    """`processes` has each by host, pid and program; a goodbye takes one out."""
    cli("processes").said(0, "no process follows this store")
    assert cli("processes", "--json").said(0).json == []
    workers = [make(), make()]
    cli.applied_by(2)
    rows = cli("processes", "--json").said(0).json
    assert all(set(row) == ROW for row in rows)
    assert [row["pid"] for row in rows] == sorted(each.pid for each in workers)
    assert not any(row["silent"] or row["behind"] for row in rows)
    cli("processes").said(0, "worker.py", str(workers[0].pid), rows[0]["id"][:8])
    locks = database.with_name("flags.db-state") / "processes"
    assert sorted(each.name for each in locks.iterdir()) == sorted(row["id"] for row in rows)
    workers[0].quit()
    assert [row["pid"] for row in cli("processes", "--json").json] == [workers[1].pid]
    assert cli("doctor").said(0, "nothing to complain of")


def test_a_killed_process_leaves_the_count_at_once(cli: Cli, make: Callable[..., Worker]) -> None:
    """What is killed with -9 has its lock free: the next flip does not count it, nor wait."""
    workers = [make(), make(), make()]
    cli.applied_by(3)
    workers[0].kill()
    cli.flip("flags", "off", "recs").said(0, "applied by 2 of 2 processes")
    assert len(cli("processes", "--json").json) == 2
    workers[1].kill()
    assert len(cli("processes", "--json").json) == 1


@pytest.mark.parametrize("how", ["busy", "hold"])
def test_a_hung_application_obeys(cli: Cli, make: Callable[..., Worker], how: str) -> None:
    """With the main thread in an endless loop, or stuck with a policy's lock, a flip is applied."""
    make().ask(how)
    cli.applied_by(1)
    cli.flip("flags", "off", "recs").said(0, "applied by 1 of 1 process")
    assert cli.flag("recs")["off_in"] == 1
    cli.flip("policies", "force-open", "shop").said(0, "applied by 1 of 1 process")
    cli("status").said(1, "1 process", "all in step")


def test_a_frozen_process_is_counted_until_it_is_forgotten(
    cli: Cli, make: Callable[..., Worker]
) -> None:
    """A frozen process is `not yet`, then `silent since`, and stays until `forget`; then it comes back."""
    live, frozen = make(), make()
    cli.applied_by(2)
    (row,) = [r for r in cli("processes", "--json").json if r["pid"] == frozen.pid]
    frozen.stop()
    early = cli.flip("flags", "off", "recs", "--wait", "0.5s")
    early.said(3, "applied by 1 of 2 processes", "  not yet: ", f", pid {frozen.pid}")
    assert live.ask("read") == "False"
    cli("forget", row["id"]).said(2, f"pid {frozen.pid} is alive; it would be back at once")
    assert re.search(
        "1 behind|1 silent", cli("status").said(3).out
    )  # on a slow machine silent by now
    said = cli("doctor").said(1, f"pid {frozen.pid}").out
    assert re.search("lags: it has not applied the newest flip yet|is silent since", said)
    until(lambda: cli.flag("recs")["silent"] == 1)
    again = cli.flip("flags", "on", "recs", "--wait", "1h")  # what is silent is not waited for
    again.said(3, "applied by 1 of 2 processes", f"resilient forget {row['id'][:8]}")
    since = rf"  silent since \d\d:\d\d UTC: \S+, pid {frozen.pid}, program cli_worker.py\n"
    assert re.search(since, again.out), again
    data = cli.flip("flags", "off", "recs", "--json").said(3).json
    assert data["silent"][0]["id"] == row["id"]
    assert (data["applied"], data["processes"], data["behind"]) == (1, 2, [])
    cli("flags").said(0, "1 of 2, 1 silent")
    cli("flags", "show", "recs").said(0, "silent since", "not yet")
    cli("processes").said(0, "silent since", "not yet applied")
    cli("status").said(3, "1 silent")
    assert cli("status", "--json").said(3).json["silent"] == 1
    cli("doctor").said(1, f"pid {frozen.pid} is silent since ", f"forget {row['id'][:8]}")
    told = cli("forget", row["id"][:8]).said(3, "forgotten: ", f"pid {frozen.pid}")
    assert f"still runs here: if it is this one (ps -fp {frozen.pid}), it does not obey" in told.out
    cli.flip("flags", "on", "recs").said(0, "applied by 1 of 1 process")
    frozen.cont()
    cli.applied_by(2)
    assert frozen.ask("read") == "True"


def test_a_frozen_process_that_is_killed_is_gone(cli: Cli, make: Callable[..., Worker]) -> None:
    """Silent for long or not: the moment it is dead, the count says so."""
    make()
    frozen = make()
    cli.applied_by(2)
    frozen.stop()
    cli.flip("flags", "off", "recs", "--wait", "0.2s").said(3, "applied by 1 of 2")
    frozen.kill()
    cli.flip("flags", "off", "recs").said(0, "already, since ", "applied by 1 of 1 process")


@pytest.mark.parametrize("given", ["zzzz", "", "abc", "%", "*", "../../etc/passwd", "-"])
def test_forget_needs_the_id_of_one_process(cli: Cli, worker: Worker, given: str) -> None:
    """What is no beginning of one process's id is refused, with how to find one."""
    cli("forget", given).said(2, "resilient processes")
    assert len(cli("processes", "--json").json) == 1


def test_forget_in_json(cli: Cli, make: Callable[..., Worker]) -> None:
    """--json names the id in full; three characters of it are too few."""
    frozen = make()
    cli.applied_by(1)
    (row,) = cli("processes", "--json").json
    frozen.stop()
    until(lambda: cli("processes", "--json").json[0]["silent"])
    cli("forget", row["id"][:3]).said(2)
    told = cli("forget", row["id"][:4], "--json").said(3).json
    assert told == {"forgotten": row["id"], "runs": True}
    assert cli("processes", "--json").json == []


def test_a_process_pinned_by_its_environment(cli: Cli, make: Callable[..., Worker]) -> None:
    """Where RESILIENT_FLAG_RECS=off pins a flag, `on` says where, and exits with 3."""
    make()
    pinned = make(RESILIENT_FLAG_RECS="off")
    cli.applied_by(2)
    assert cli.flag("recs")["pinned_in"] == 1
    cli.flip("flags", "off", "recs").said(0, "applied by 2 of 2 processes")
    done = cli.flip("flags", "on", "recs")
    done.said(3, "applied by 2 of 2", "pinned off by its environment: ", f"pid {pinned.pid}")
    cli("status").said(1, "off: recs (held off in 1 process, by no order); ")
    assert cli("status", "--json").json["held_off"] == {"recs": 1}
    assert pinned.ask("read") == "False"
    assert len(cli.flip("flags", "on", "recs", "--json").said(3).json["pinned"]) == 1
    cli("flags").said(0, "OFF in 1", "in 1, by its environment")
    cli("flags", "show", "recs").said(
        0, "on by ana", "OFF in 1 process all the same, held off by its environment"
    )
    cli("doctor").said(1, f"but off in {_host()}, pid {pinned.pid}: its environment holds it off")


def _host() -> str:
    import socket

    return socket.gethostname()


def test_status_has_a_code_for_scripts(cli: Cli, make: Callable[..., Worker]) -> None:
    """0: all is on, 1: something is off or forced, 3: not everybody obeys."""
    cli("status").said(3, "no flag is off; no policy is forced; 0 processes; nobody obeys")
    make()
    cli.applied_by(1)
    cli("status").said(0, "no flag is off; no policy is forced; 1 process; all in step\n")
    cli.flip("flags", "off", "recs").said(0)
    cli("status").said(1, "off: recs; no policy is forced; 1 process; all in step\n")
    cli.flip("policies", "force-closed", "shop").said(0)
    said = cli("status", "--json").said(1).json
    assert said.pop("customers")["error"] in (0, None)
    assert said == {
        "off": ["recs"], "held_off": {}, "unread": [], "forced": ["shop"], "processes": 1, "silent": 0, "behind": 0, "exit": 1,
        "circuits": {}, "hanging": [], "unseen": 0, "inactive": 0, "faulty": 0,
    }  # fmt: skip


def test_doctor_finds_each_fault(cli: Cli, make: Callable[..., Worker]) -> None:
    """Flags past review, unknown levers, stray variables, copies that can't be written."""
    cli("doctor").said(1, "can be read", "no process follows this store", "1 finding")
    make(WORKER_REVIEW="2020-01-01", RESILIENT_FLAG_RECSS="off")
    cli.applied_by(1)
    cli.flip("flags", "off", "nobody", "--declare").said(0)
    cli.flip("policies", "force-open", "nothing", "--declare").said(0)
    found = cli("doctor", "--json").said(1).json
    assert found["store"] == cli.store
    wanted = [
        "flag recs is due for a review since 2020-01-01, owner team-recs",
        "flag nobody is set in the store, and no process declares it",
        "policy nothing is set in the store, and no process declares it",
        "has RESILIENT_FLAG_RECSS set, and declares no such flag",
    ]
    for each in wanted:
        assert sum(each in finding for finding in found["findings"]) == 1, (each, found)
    assert len(found["findings"]) == len(wanted)


def test_doctor_tells_which_core_runs(cli: Cli, make: Callable[..., Worker]) -> None:
    """Each process says whether the compiled core runs its calls, and if not, why."""
    pure = os.environ.get("RESILIENT_PURE", "")
    one, other = make(RESILIENT_PURE="1"), make(RESILIENT_PURE=pure)
    cli.applied_by(2)
    known = cli("doctor", "--json").said(0).json["cores"]
    here = state_types.why_pure or "compiled"
    assert sorted(known.values()) == sorted(["RESILIENT_PURE is set", here])
    compiled = 1 if state_types.compiled is not None else 0
    said = cli("doctor").said(0, f"the compiled core runs in {compiled} of 2 processes")
    assert f"not in {_host()}, pid {one.pid}: RESILIENT_PURE is set" in said.out
    assert (f"pid {other.pid}" in said.out) is not compiled


def test_doctor_finds_an_option_of_a_policy_that_is_not_there(cli: Cli, worker: Worker) -> None:
    """An option that is set for a policy which no process declares is a finding like any other."""
    cli.flip("policies", "set", "nowhere", "bulkhead.max_concurrent=1", "--declare").said(0)
    cli("doctor").said(1, "policy nowhere is set in the store, and no process declares it")


def test_doctor_finds_a_copy_that_is_not_kept(cli: Cli, make: Callable[..., Worker]) -> None:
    """A process that can keep no local copy is named, with why."""
    cli.environ["RESILIENT_STATE_DIR"] = "/dev/null/state"
    one = make()
    until(lambda: "keeps no local copy" in cli("doctor").out)
    cli("doctor").said(1, f"pid {one.pid} keeps no local copy: ")
