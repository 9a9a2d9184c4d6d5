"""`resilient flags`: looking, flipping, and what is told of it."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

import pytest

from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import Worker

COLUMNS = ("flag", "state", "since", "by", "why", "until", "owner", "applied", "pinned")
ROW = {
    "flag", "state", "since", "by", "reason", "until", "version", "applied", "processes", "silent",
    "faults", "owner", "impact", "review", "default", "declared", "off_in", "pinned_in", "pinned_by",
}  # fmt: skip
FLIP = {"lever", "value", "by", "reason", "at", "until", "version", "request"}
DONE = {
    "flip", "changed", "applied", "processes", "behind", "silent", "pinned", "faults", "seconds",
    "flips", "unchecked",
}  # fmt: skip


def test_a_store_that_nobody_follows_says_so(cli: Cli) -> None:
    """With nothing in the store, the lists are empty and say why."""
    cli("flags").said(0, "no flag is declared by a running process, and none was ever flipped")
    assert cli("flags", "--json").said(0).json == []
    assert cli("flags", "log", "--json").said(0).json == []
    cli("flags", "log").said(0)


def test_the_list_shows_every_flag(cli: Cli, worker: Worker) -> None:
    """The list has each declared flag with its state, owner, and who has applied it."""
    cli("flags").said(0, *COLUMNS, "team-recs", "1 of 1")
    rows = {row["flag"]: row for row in cli("flags", "--json").said(0).json}
    assert set(rows) == {"recs", "beta"}
    assert all(set(row) == ROW for row in rows.values())
    assert rows["recs"]["state"] == "on" == rows["recs"]["default"]
    assert rows["beta"]["state"] == "off" == rows["beta"]["default"]
    assert rows["recs"]["since"] is None
    assert rows["recs"]["impact"] == "The page shows the top 100."


def test_off_and_on_reach_the_process(cli: Cli, worker: Worker) -> None:
    """A flag that is turned off is off in the process before the command ends, and on again."""
    began = time.time()
    done = cli.flip("flags", "off", "recs", "--by", "ana", reason="vendor down, INC-1234")
    done.said(0, "recs (team-recs): The page shows the top 100.\n")
    done.said(0, "\noff by ana: vendor down, INC-1234\napplied by 1 of 1 process in ")
    assert worker.ask("read") == "False"
    assert worker.ask("shop") == "FlagOffError"
    row = cli.flag("recs")
    assert (row["state"], row["by"], row["off_in"]) == ("off", "ana", 1)
    assert row["reason"] == "vendor down, INC-1234"
    assert began - 1 <= row["since"] <= time.time() + 1
    cli("flags").said(0, "OFF", "vendor down, INC-1234", "ana")
    cli.flip("flags", "on", "recs").said(0, "\non by ana: because\n")
    assert worker.ask("read") == "True"


def test_a_flip_in_json_has_all_that_is_told(cli: Cli, worker: Worker) -> None:
    """With --json a flip is told as one object."""
    done = cli.flip("flags", "off", "recs", "--json", "--for", "1h30m")
    data = done.said(0).json
    assert set(data) == DONE
    assert set(data["flip"]) == FLIP
    assert data["changed"] is True
    assert (data["applied"], data["processes"]) == (1, 1)
    assert data["behind"] == data["silent"] == data["pinned"] == []
    assert data["flip"]["until"] - data["flip"]["at"] == pytest.approx(5400, abs=0.01)
    assert 0 < data["seconds"] < done.took


@pytest.mark.parametrize(
    ("given", "who"),
    [
        ({"RESILIENT_BY": "deploy-bot", "SUDO_USER": "eve"}, "deploy-bot"),
        ({"SUDO_USER": "eve"}, "eve"),
        ({"USER": "bob", "LOGNAME": "bob"}, "bob"),
    ],
)
def test_who_is_taken_from_the_environment(cli: Cli, given: dict[str, str], who: str) -> None:
    """Without --by it is RESILIENT_BY, then SUDO_USER, then the user of the system."""
    assert cli.flip("flags", "off", "x", "--declare", "--json", **given).json["flip"]["by"] == who


def test_who_is_named_even_without_an_environment(cli: Cli) -> None:
    """Over ssh without any variable, somebody is named all the same."""
    bare = {"USER": None, "LOGNAME": None, "HOME": None}
    done = cli.flip("flags", "off", "x", "--declare", "--json", **bare)
    assert done.said(0).json["flip"]["by"]


def test_the_same_order_twice_changes_nothing(cli: Cli, worker: Worker) -> None:
    """Said again, an order says since when it holds; the log has one entry."""
    first = cli.flip("flags", "off", "recs", "--by", "ana", "--json", reason="one").json
    again = cli.flip("flags", "off", "recs", "--by", "bob", reason="two")
    again.said(0, "\nalready, since ", "UTC: off by ana: one\n", "applied by 1 of 1")
    second = cli.flip("flags", "off", "recs", "--json", reason="three").json
    assert second["changed"] is False
    assert second["flip"]["version"] == first["flip"]["version"]
    assert len(cli("flags", "log", "--json").json) == 1


def test_an_order_with_an_end_is_shown_and_lifts(cli: Cli, worker: Worker) -> None:
    """A flag that is off for 12 s says until when, and is on again by itself, not before."""
    began = time.monotonic()
    cli.flip("flags", "off", "recs", "--for", "12s").said(0, "\noff until ", " UTC by ana: because")
    assert worker.ask("read") == "False"
    row = cli.flag("recs")
    assert row["until"] - row["since"] == pytest.approx(12, abs=0.01)
    assert re.search(r"OFF +\d\d:\d\d UTC +ana +because +\d\d:\d\d:\d\d UTC", cli("flags").out)
    until(lambda: worker.ask("read") == "True")
    assert time.monotonic() - began > 11.5
    row = cli.flag("recs")
    assert (row["state"], row["since"], row["until"], row["by"]) == ("on", None, None, None)
    cli("status").said(0, "no flag is off")


def test_an_end_can_be_put_off_and_taken_away(cli: Cli, worker: Worker) -> None:
    """An order with --for over one that holds moves its end; one without has none."""
    first = cli.flip("flags", "off", "recs", "--for", "10m", "--json").json
    longer = cli.flip("flags", "off", "recs", "--for", "1h", "--json", reason="longer").json
    assert longer["changed"] is True
    assert longer["flip"]["until"] > first["flip"]["until"] + 2900
    assert cli.flag("recs")["reason"] == "longer"
    for_ever = cli.flip("flags", "off", "recs", "--json").json
    assert for_ever["changed"] is True
    assert for_ever["flip"]["until"] is None
    assert worker.ask("read") == "False"


def test_an_order_that_ended_can_be_given_again(cli: Cli, worker: Worker) -> None:
    """An order that has ended by itself is no reason to do nothing."""
    cli.flip("flags", "off", "recs", "--for", "1s").said(0)
    until(lambda: worker.ask("read") == "True")
    assert cli.flip("flags", "off", "recs", "--json").said(0).json["changed"] is True
    assert worker.ask("read") == "False"


def test_a_flag_of_the_future_is_turned_off_by_declare(
    cli: Cli, make: Callable[..., Worker]
) -> None:
    """With --declare a flag that no process has declared yet is off from its first read on."""
    cli.flip("flags", "off", "recs").said(2, "no process declares a flag named recs")
    done = cli.flip("flags", "off", "recs", "--declare")
    done.said(0, "no process that declares it is running; those that start will obey")
    assert cli.flip("flags", "on", "beta", "--declare", "--json").said(0).json["processes"] == 0
    one = make()
    assert (one.ask("read"), one.ask("beta")) == ("False", "True")
    cli.applied_by(1)
    assert cli.flag("recs")["declared"] is True


def test_show_tells_of_one_flag_and_each_process(cli: Cli, worker: Worker) -> None:
    """`show` has the impact, the order, and what each process says."""
    cli.flip("flags", "off", "recs", "--for", "2h").said(0)
    shown = cli("flags", "show", "recs")
    shown.said(0, "recs (team-recs): The page shows the top 100.\noff until ", "by ana: because")
    shown.said(0, "applied by 1 of 1", "decided by", "OFF", "store", str(worker.pid), "worker.py")
    data = cli("flags", "show", "recs", "--json").said(0).json
    assert set(data) == {*ROW, "in"}
    (one,) = data["in"]
    assert (one["pid"], one["on"], one["decided_by"]) == (worker.pid, False, "store")
    cli("flags", "show", "beta").said(0, "nothing is said of what off means", "declared")


def test_show_has_the_review(cli: Cli, make: Callable[..., Worker]) -> None:
    """`show` says when a flag is to be reviewed."""
    make(WORKER_REVIEW="2099-03-01")
    cli.applied_by(1)
    cli("flags", "show", "recs").said(0, "to be reviewed on 2099-03-01")


def test_the_log_has_every_flip_newest_first(cli: Cli, worker: Worker) -> None:
    """`log` has who, when, what and why, of all levers or of one flag, as many as asked for."""
    cli.flip("flags", "off", "recs", "--by", "ana", reason="first").said(0)
    cli.flip("flags", "on", "beta", "--by", "bob", reason="second").said(0)
    cli.flip("policies", "force-open", "shop", "--by", "eve", reason="third").said(0)
    cli.flip("flags", "on", "recs", "--by", "ana", "--for", "1h", reason="fourth").said(0)
    log = cli("flags", "log", "--json").said(0).json
    assert all(set(each) == FLIP for each in log)
    assert [each["reason"] for each in log] == ["fourth", "third", "second", "first"]
    assert [each["lever"] for each in log[:2]] == ["flag/recs", "forced/shop"]
    assert len({each["version"] for each in log}) == 4
    one = cli("flags", "log", "recs", "--json").said(0).json
    assert [each["value"] for each in one] == ["on", "off"]
    assert [e["reason"] for e in cli("flags", "log", "--most", "1", "--json").json] == ["fourth"]
    text = cli("flags", "log").said(0, "when", "lever", "to", "until", "by", "why").out
    assert text.index("fourth") < text.index("first")
    assert "second" not in cli("flags", "log", "recs").said(0).out


GROUPS = [("flags", "log"), ("policies", "release", "shop", "--reason", "x")]


@pytest.mark.parametrize("words", GROUPS)
def test_the_store_of_a_group_holds_for_its_commands(
    cli: Cli, worker: Worker, words: tuple[str, ...]
) -> None:
    """`flags --store URL log` is as good as `flags log --store URL`."""
    group, *rest = words
    cli(group, "--store", cli.store, *rest, RESILIENT_STORE=None).said(0)


@pytest.mark.parametrize("words", GROUPS)
def test_the_json_of_a_group_holds_for_its_commands(
    cli: Cli, worker: Worker, words: tuple[str, ...]
) -> None:
    """`flags --json log` is as good as `flags log --json`, or is refused: it is not passed over."""
    group, *rest = words
    done = cli(group, "--json", *rest)
    assert done.code == 2 or isinstance(done.json, (list, dict)), done


def test_the_option_goes_over_the_variable(cli: Cli, worker: Worker) -> None:
    """--store names another store than RESILIENT_STORE."""
    (cli.home / "other.db").touch()
    other = f"sqlite:///{cli.home / 'other.db'}"
    assert cli("flags", "--json", "--store", other).said(0).json == []
    assert cli("flags", "--json", "--store", cli.store, RESILIENT_STORE=other).json


def test_it_explains_itself() -> None:
    """--help has every command and the exit codes; -h, --version and no command do no harm."""
    from pathlib import Path

    alone = Cli("", Path("/tmp"))  # noqa: S108 - nothing is written there
    words = ("flags", "policies", "status", "doctor", "processes", "forget", "Exit codes:", "  6  ")
    alone("--help").said(0, *words)
    alone("-h").said(0)
    assert re.fullmatch(r"resilient, version \S+\n", alone("--version").said(0).out)
    alone("flags", "off", "--help").said(0, "--reason", "--for", "--by", "--declare", "--json")
    alone().said(2, "Usage:")
