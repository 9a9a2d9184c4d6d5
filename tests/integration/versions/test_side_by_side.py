"""During a deployment processes of two versions share a host's pages and a store, both ways."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path

import pytest

from tests.integration.versions.conftest import Start, Versioned
from tests.kit.command import Cli
from tests.kit.servers.redis_server import send
from tests.kit.waiting import until

ways = pytest.mark.parametrize("way", ["this", "before"])
Both = tuple[Versioned, Versioned]


def command(way: str, home: Cli, older: Cli) -> Cli:
    """Return the command of one version."""
    return home if way == "this" else older


@ways
def test_both_obey_either_command(way: str, home: Cli, older: Cli, both: Both) -> None:
    """Flags, forced states and options: whoever orders is told that both have obeyed."""
    cli = command(way, home, older)
    obeyed = "applied by 2 of 2 processes"
    cli.flip("flags", "off", "recs").said(0, obeyed)
    assert [each.ask("read") for each in both] == [False, False]
    assert [each.ask("call") for each in both] == ["FlagOffError"] * 2
    cli.flip("flags", "on", "recs").said(0, obeyed)
    assert [each.ask("call") for each in both] == ["0", "0"]
    cli.flip("policies", "force-open", "shop").said(0, obeyed)
    assert [each.ask("call") for each in both] == ["CircuitOpenError"] * 2
    cli.flip("policies", "release", "shop").said(0, obeyed)
    cli.flip("policies", "set", "shop", "bulkhead.max_concurrent=3").said(0, obeyed)
    assert [each.ask("limit") for each in both] == [3, 3]


@ways
def test_either_takes_back_what_the_other_ordered(
    way: str, home: Cli, older: Cli, both: Both
) -> None:
    """The one sees what the other recorded, with its reason, and can end it."""
    one, other = command(way, home, older), home if way == "before" else older
    one.flip("flags", "off", "recs", "--by", "ana", reason="INC-1").said(0)
    row = other.flag("recs")
    assert (row["state"], row["by"], row["reason"]) == ("off", "ana", "INC-1")
    other("flags", "log").said(0, "INC-1")
    other.flip("flags", "on", "recs").said(0, "applied by 2 of 2 processes")
    assert [each.ask("read") for each in both] == [True, True]
    one("status").said(0)


@ways
def test_an_end_that_either_set_is_kept_by_both(
    way: str, home: Cli, older: Cli, both: Both
) -> None:
    """A timed flip ends in both processes by itself."""
    command(way, home, older).flip("flags", "off", "recs", "--for", "8s").said(0)
    assert [each.ask("read") for each in both] == [False, False]
    until(lambda: [each.ask("read") for each in both] == [True, True])


def test_a_process_that_begins_obeys_what_the_other_version_recorded(
    home: Cli, older: Cli, start: Start
) -> None:
    """Also where nobody of its own version has ever been."""
    older.flip("flags", "off", "recs", "--declare").said(0)
    assert start("this").ask("read") is False
    home.flip("flags", "on", "recs").said(0)
    home.flip("flags", "off", "recs", reason="again").said(0)
    assert start("before").ask("read") is False


def test_counts_of_both_add_up_whoever_is_asked(both: Both) -> None:
    """Success, failure and refusal of either are in a scrape of either."""
    ours, theirs = both
    assert ours.ask("many", 3) == theirs.ask("many", 4) == ["0"]
    for each in both:
        until(lambda each=each: each.ask("counts")["success"] == 7)  # type: ignore[misc]
        assert each.ask("counts")["full"] == 7


@ways
def test_what_either_leaves_behind_is_kept_by_the_other(
    way: str, home: Cli, start: Start, both: Both
) -> None:
    """The page of one that was killed is folded by the other version, and no count is lost."""
    ours, theirs = both
    dead, left = (ours, theirs) if way == "this" else (theirs, ours)
    ours.ask("many", 30)
    theirs.ask("many", 12)
    until(lambda: left.ask("counts")["success"] == 42)
    dead.kill()
    assert left.ask("counts")["success"] == 42
    pages = Path(home.environ["RESILIENT_RUNTIME_DIR"])
    until(lambda: left.ask("counts") and not list(pages.glob(f"{dead.process.pid}-*")))
    assert left.ask("counts")["success"] == 42
    new = start(way)
    new.ask("many", 1)
    until(lambda: new.ask("counts")["success"] == 43)
    until(lambda: left.ask("counts")["success"] == 43)


def test_rows_that_the_version_before_does_not_know_harm_none_that_it_does(both: Both) -> None:
    """What is the caller's own doing has a row of its own here; the other still adds up the rest."""
    ours, theirs = both
    ours.ask("many", 5)
    assert ours.ask("ignored") == theirs.ask("ignored") == "LookupError"
    theirs.ask("many", 2)
    for each in both:
        until(lambda each=each: each.ask("counts").get("ignored") == 2)  # type: ignore[misc]
        seen = each.ask("counts")
        assert (seen["success"], seen["full"], seen.get("failure", 0)) == (7, 7, 0)
        assert seen["error"] == 1  # as the version before served its own
    assert ours.ask("counts")["caller_error"] == 1


def test_orders_of_a_kind_that_nobody_knows_yet(home: Cli, older: Cli, both: Both) -> None:
    """A later version's orders are passed over by both, and hold up none that they know."""
    home.flip("flags", "on", "recs")
    flip = {
        "lever": "share/shop", "value": "0.5", "by": "ana", "reason": "later", "at": time.time(),
        "until": None, "version": int(time.time() * 1000) + 5000, "request": "", "boot": "",
        "due": None, "more": [1, 2],
    }  # fmt: skip
    put(home, flip)
    for cli in (home, older):
        cli.flip("flags", "off", "recs").said(0, "applied by 2 of 2 processes")
        assert [each.ask("read") for each in both] == [False, False]
        cli.flip("flags", "on", "recs").said(0, "applied by 2 of 2 processes")
        for words in (("flags",), ("policies",), ("status",), ("processes",), ("flags", "log")):
            codes = (0, 1, 3) if words == ("status",) else (0, 1)  # 3: one can't be obeyed
            assert cli(*words).code in codes, words


def put(home: Cli, flip: dict[str, object]) -> None:
    """Record an order by other means."""
    if home.store.startswith("sqlite"):
        with sqlite3.connect(home.home / "flags.db") as db:
            db.execute(
                "INSERT INTO levers (lever, version, request, flip) VALUES (?, ?, '', ?)",
                (flip["lever"], flip["version"], json.dumps(flip)),
            )
        db.close()
        return
    port = int(home.store.rpartition(":")[2].partition("/")[0])
    send(port, "HSET", "{resilient}:levers", str(flip["lever"]), json.dumps(flip))


@ways
def test_either_command_shows_what_both_count(way: str, home: Cli, older: Cli, both: Both) -> None:
    """`top` of either version counts the processes of both."""
    for each in both:
        each.ask("many", 5)
    data = command(way, home, older)("top", "--json", "--every", "1s").said(0).json
    assert data["processes"]["living"] == 2
    assert "shop" in [each["policy"] for each in data["policies"]]
