"""`resilient timeline` and `policies show`: what a store holds, in the order of an incident."""

from __future__ import annotations

import json
import random
import time
from pathlib import Path
from typing import Any

import pytest

from resilient.cli.timeline import told
from resilient.flags.flip import Flip
from resilient.flags.journal import LONGEST
from resilient.flags.stores.base import Process
from resilient.flags.stores.file import FileStore
from resilient.flags.stores.memory import MemoryStore
from tests.kit.command import Command
from tests.unit.flags.journal.kit import Kind, entry

ABOUT: Any = {
    "flags": {},
    "policies": {
        "shop": {"state": "open", "why": "5 of 5 calls failed", "forced": None,
                 "owner": "pay", "tier": 1, "impact": "Orders are charged later."}
    },
}  # fmt: skip
SEEN = {
    "calls": 20, "failures": 12, "failure_rate": 0.6, "slow": 7, "slow_rate": 0.35,
    "consecutive_failures": 3, "exceptions": {"ConnectionError": 9, "ValueError": 3},
    "retry_after": 4.8, "revision": 2,
    "settings": {"failure_rate": 0.5, "minimum_calls": 20, "window": "10 s",
                 "slow_call_duration": 1.0, "slow_call_rate": 0.5},
}  # fmt: skip


def lines(text: str) -> list[str]:
    """Return lines without their time."""
    return [line.split("  ", 1)[1] for line in text.splitlines()]


def record(kind: Kind, *entries: dict[str, Any]) -> None:
    """Put entries into the store."""
    kind.open().record(list(entries), LONGEST)


def flip(kind: Kind, lever: str, value: Any = "off", lasts: float | None = None) -> Flip:
    """Flip a lever in the store."""
    made: Flip = kind.open().flip(
        Flip(lever, value, by="ana", reason="vendor down"), lasts, None
    )  # fmt: skip
    return made


# -- the order ------------------------------------------------------------------


def test_nothing_happened(command: Command) -> None:
    """It says so, of which time."""
    assert command("timeline", "--since", "90s") == "nothing is told of the last 90s\n"
    assert command.json("timeline") == []


def test_all_of_it_in_one_order(command: Command, sqlite: Kind) -> None:
    """Circuits, flips, options, threads and processes: a line each, oldest first, with who and why."""
    now = time.time()
    flipped = flip(sqlite, "flag/recs", lasts=1800)
    entries = [
        entry(1, at=now - 60, kind="process_started", policy="", reason=""),
        entry(2, at=now - 50),
        entry(3, at=now - 40, kind="half_open", reason="the recovery time is over"),
        entry(4, at=now - 30, kind="updated", cause="operator", reason="tuned", guard="policy"),
        entry(5, at=now - 20, kind="abandoned", guard="timeout", reason="1 hangs"),
        entry(6, at=now - 10, kind="flapped", times=38, reason="a probe failed (ConnectionError)"),
        entry(7, at=now - 5, kind="process_left", policy="", reason=""),
    ]
    random.Random(1).shuffle(entries)
    record(sqlite, *entries)
    assert flipped.until is not None
    until = time.strftime("%H:%M", time.gmtime(flipped.until))
    said = lines(command("timeline"))
    assert said[-1].startswith("flag/recs set to off until ")
    assert said[-1].endswith(f"{until} UTC by ana: vendor down")
    assert said[:-1] == [
        "web1, pid 7 (gunicorn) started",
        "shop opened: 5 of 5 calls failed",
        "shop half-open: the recovery time is over",
        "shop updated: tuned",
        "shop abandoned: 1 hangs",
        "shop flapped, 38 moves more, open at the end: a probe failed (ConnectionError)",
        "web1, pid 7 (gunicorn) ended",
    ]
    found = command.json("timeline")
    assert [each["kind"] for each in found] == [
        "process_started", "opened", "half_open", "updated", "abandoned", "flapped",
        "process_left", "lever",
    ]  # fmt: skip
    assert found == sorted(found, key=lambda each: each["at"])


def test_the_time_of_day_has_seconds(command: Command, sqlite: Kind) -> None:
    """Within a minute of an incident, the order is the point; another day is told as well."""
    now = time.time()
    record(sqlite, entry(1, at=now - 3 * 86_400), entry(2, at=now))
    old, new = command("timeline", "--since", "5d").splitlines()
    assert time.strftime("%H:%M:%S", time.gmtime(now)) in new
    assert time.strftime("%Y-%m-%d", time.gmtime(now - 3 * 86_400)) in old


def test_what_several_processes_do_is_one_line(command: Command, sqlite: Kind) -> None:
    """The same move within moments is told once, with in how many; a later one is another."""
    now = time.time()
    record(
        sqlite,
        *(entry(1, at=now - 60 + n, process=f"p{n}", evidence=SEEN) for n in range(4)),
        entry(2, at=now - 56.5, process="p0", kind="half_open", after="half_open", reason=""),
        entry(3, at=now - 56, process="p0", reason="a probe failed"),  # again: not the same
        entry(1, at=now - 30, process="p9"),
    )
    assert lines(command("timeline")) == [
        "shop opened in 4 processes: 5 of 5 calls failed",
        "shop half-open",
        "shop opened: a probe failed",
        "shop opened: 5 of 5 calls failed",
    ]
    first = command.json("timeline")[0]
    assert first["processes"] == ["p0", "p1", "p2", "p3"]
    assert first["evidence"] == SEEN


def test_other_policies_are_not_the_same(command: Command, sqlite: Kind) -> None:
    """Two circuits, two flags, two states that move at once are lines of their own."""
    now = time.time()
    record(
        sqlite,
        entry(1, at=now, process="a", policy="one"),
        entry(1, at=now, process="b", policy="other"),
        entry(2, at=now, process="b", policy="one", kind="closed", after="closed"),
        entry(3, at=now, process="a", policy="", flag="x", kind="flipped", after="off"),
        entry(3, at=now, process="b", policy="", flag="y", kind="flipped", after="off"),
    )
    assert len(command.json("timeline")) == 5


# -- flips and their echoes ------------------------------------------------------------------


def test_what_a_process_hears_of_a_flip_is_not_told_twice(command: Command, sqlite: Kind) -> None:
    """The order itself is the line, with who gave it and why."""
    flip(sqlite, "flag/recs")
    flip(sqlite, "forced/shop", "forced_open")
    now = time.time()
    record(
        sqlite,
        *(
            entry(1, at=now, process=p, kind="flipped", policy="", flag="recs", cause="operator",
                  before="on", after="off", guard="flag")
            for p in "ab"
        ),
        *(
            entry(2, at=now, process=p, kind="forced", cause="operator", guard="policy",
                  after="forced_open")
            for p in "ab"
        ),
    )  # fmt: skip
    assert [each["kind"] for each in command.json("timeline")] == ["lever", "lever"]


def test_what_code_did_is_told(command: Command, sqlite: Kind) -> None:
    """A state that the application forced, without an order in the store, is in the timeline."""
    now = time.time()
    forced = {"cause": "operator", "guard": "policy"}
    record(
        sqlite,
        entry(1, at=now - 9, kind="forced", after="forced_open", reason="by code", **forced),
        entry(2, at=now - 5, kind="released", after="", reason="", **forced),
    )
    assert lines(command("timeline")) == ["shop forced: by code", "shop released"]


def test_the_end_of_a_timed_order_is_told(command: Command, sqlite: Kind) -> None:
    """Nobody gives an order for it: what the processes did is the line."""
    made = flip(sqlite, "forced/shop", "forced_open", lasts=60)
    why = "released: its order ended, or was taken back"
    more: dict[str, Any] = {"cause": "operator", "guard": "policy", "after": "", "reason": why}
    record(sqlite, entry(1, at=made.at + 60, kind="released", **more))
    assert [each["kind"] for each in command.json("timeline")] == ["lever", "released"]


def test_a_process_that_hears_of_a_flip_late(command: Command, sqlite: Kind) -> None:
    """Who could not reach the store, and obeys a minute later, is told."""
    made = flip(sqlite, "flag/recs")
    record(
        sqlite,
        entry(1, at=made.at + 60, kind="flipped", policy="", flag="recs", cause="operator",
              before="on", after="off", guard="flag", reason="vendor down, by ana"),
    )  # fmt: skip
    assert [each["kind"] for each in command.json("timeline")] == ["lever", "flipped"]


# -- what is asked for ------------------------------------------------------------------


def test_since(command: Command, sqlite: Kind) -> None:
    """Only what happened since then, flips as well."""
    flip(sqlite, "flag/recs")
    now = time.time()
    record(sqlite, entry(1, at=now - 7000), entry(2, at=now - 3000), entry(3, at=now - 10))
    assert len(command.json("timeline")) == 3
    assert len(command.json("timeline", "--since", "1m")) == 2
    assert len(command.json("timeline", "--since", "1h30m")) == 3
    assert len(command.json("timeline", "--since", "2h")) == 4
    time.sleep(0.01)
    left = command.json("timeline", "--since", "0.001s")
    assert [each["kind"] for each in left] == ["still"]  # the flag is off, however long since


def test_policy_and_most(command: Command, sqlite: Kind) -> None:
    """One policy or flag, and the newest of it."""
    now = time.time()
    flip(sqlite, "flag/recs")
    flip(sqlite, "forced/shop", "forced_open")
    flip(sqlite, "option/shop/bulkhead.max_concurrent", 5)
    record(sqlite, *(entry(n, at=now - 60 + n, policy=("shop", "other")[n % 2]) for n in range(20)))
    shop = command.json("timeline", "--policy", "shop")
    assert [each["kind"] for each in shop] == ["opened"] * 10 + ["lever"] * 2
    assert [each["flag"] for each in command.json("timeline", "--policy", "recs")] == ["recs"]
    assert command.json("timeline", "--policy", "nobody") == []
    newest = command.json("timeline", "--most", "3")
    assert [each["kind"] for each in newest] == ["lever"] * 3
    assert newest == command.json("timeline")[-3:]


def test_a_quiet_policy_beside_a_busy_one(command: Command, sqlite: Kind) -> None:
    """What is asked for is looked for in all that the store keeps."""
    now = time.time()
    record(
        sqlite,
        entry(5000, at=now - 100, policy="quiet"),
        *(entry(n, at=now - 90 + n / 100, policy="busy") for n in range(1500)),
    )
    assert len(command.json("timeline", "--policy", "quiet")) == 1
    assert len(command.json("timeline", "--most", "10000")) == 1501


@pytest.mark.parametrize(
    "words",
    [
        ["--since", "x"], ["--since", ""], ["--since", "0s"], ["--since", "-1h"],
        ["--since", "9999999999d"], ["--since"], ["--most", "0"], ["--most", "x"],
        ["--most", "10001"], ["--policy"], ["nonsense"], ["--store", "nonsense://"],
    ],
    ids=str,
)  # fmt: skip
def test_bad_input(command: Command, words: list[str]) -> None:
    """It is told what is wrong, with the code for that, and nothing is shown."""
    said = command("timeline", *words, code=2)
    assert "opened" not in said
    assert len(said) > 20


def test_a_store_that_is_not_there(tmp_path: Path) -> None:
    """It can't be reached, and says so."""
    said = Command(f"sqlite:///{tmp_path / 'none.db'}", tmp_path)("timeline", code=4)
    assert "does not exist" in said


def test_stores_that_keep_no_journal(tmp_path: Path) -> None:
    """Of a file, and of a package that knows no journal: the flips that there are."""
    path = tmp_path / "flags.toml"
    path.write_text('[flags]\nrecs = "off"\n')
    assert "nothing is told" in Command(f"file:{path}", tmp_path)("timeline")
    assert told(FileStore(str(path)), 0.0) == []

    class Foreign:
        def __init__(self) -> None:
            self._inner = MemoryStore()

        def __getattr__(self, name: str) -> Any:
            if name == "journal":
                raise AttributeError(name)
            return getattr(self._inner, name)

    store: Any = Foreign()
    store.flip(Flip("flag/recs", "off", by="ana", reason="x"), None, None)
    assert [each["kind"] for each in told(store, 0.0)] == ["lever"]


# -- a store that was tampered with ------------------------------------------------------------------

EVIL = "\x1b[2J\x1b]0;owned\x07red\r\u202egnp.\u2066\x9b31m\x00\x7f\u2028[bold]x[/bold] end"
LIES: dict[str, dict[str, Any]] = {
    "the end of time": {"at": 1e300}, "no time": {"at": float("nan")}, "before all": {"at": -1e18},
    "a lever": {"kind": "lever"}, "a list as policy": {"policy": ["x"]},
    "a list as flag": {"flag": [1]}, "a table as kind of cause": {"cause": {}},
    "a text as number": {"number": "x"}, "no number": {"number": None},
    "a list as process": {"process": [1]}, "a table as state": {"after": {"x": 1}},
    "a number as evidence": {"evidence": 5}, "a list as evidence": {"evidence": [1]},
    "a number as exceptions": {"evidence": SEEN | {"exceptions": 5}},
    "texts as numbers": {"evidence": SEEN | {"calls": "x", "failure_rate": "y", "retry_after": "z"}},
    "a number as settings": {"evidence": SEEN | {"settings": 7}},
    "infinity": {"evidence": SEEN | {"retry_after": float("inf")}},
    "a list of times": {"kind": "flapped", "times": [1]}, "a number as reason": {"reason": 5},
    "a text as lost": {"kind": "process_lost", "lost": "abc"},
    "a list as lost": {"kind": "process_lost", "lost": [1]},
}  # fmt: skip


@pytest.mark.parametrize("what", LIES)
def test_an_entry_that_lies_breaks_no_command(command: Command, sqlite: Kind, what: str) -> None:
    """Beside an entry that no process makes, the others are told."""
    declare(sqlite)
    now = time.time()
    record(sqlite, entry(1, at=now - 9, reason="true"))
    at = now - 9 if "number" in LIES[what] else now  # at the moment of the true one
    for number in (2, 3):
        sqlite.spoil(json.dumps(entry(number, at=at) | LIES[what]))
    for words in (["timeline"], ["timeline", "--json"], ["timeline", "--policy", "shop"],
                  ["policies", "show", "shop"], ["policies", "show", "shop", "--json"]):  # fmt: skip
        assert "true" in command(*words), words


def test_nothing_raw_of_a_store_is_printed(command: Command, sqlite: Kind) -> None:
    """Escapes and control characters in any word of an entry are no more than words."""
    declare(sqlite)
    words = ("host", "program", "reason", "flag", "cause", "before", "after", "guard", "process")
    evil = dict.fromkeys(words, EVIL)
    for kind in ("opened", "process_started", "flapped", "updated", EVIL):
        record(sqlite, entry(1, **(evil | {"kind": kind})))
        record(sqlite, entry(2, **(evil | {"kind": kind, "policy": EVIL})))
    record(
        sqlite, entry(3, evidence=SEEN | {"exceptions": {EVIL: 1}, "settings": {"window": EVIL}})
    )
    for ask in (["timeline"], ["policies", "show", "shop"]):
        assert "[bold]x[/bold]" in command(*ask)
    assert len(command("timeline").splitlines()) == len(command.json("timeline"))


# -- policies show ------------------------------------------------------------------


def declare(kind: Kind) -> None:
    """Have two processes declare the policy."""
    store = kind.open()
    for number in (1, 2):
        process = Process(f"{number}a" * 8, host=f"web{number}", pid=number, program="gunicorn",
                          about=ABOUT)  # fmt: skip
        store.beat(process, about=True)


def test_policies_show(command: Command, sqlite: Kind) -> None:
    """Whose it is, what customers see, its state in each process and why, and its moves."""
    declare(sqlite)
    flip(sqlite, "forced/shop", "forced_open", lasts=600)
    record(sqlite, entry(1, evidence=SEEN), entry(2, policy="other"))
    said = command("policies", "show", "shop")
    first, second, *rest = said.splitlines()
    assert first == "shop (pay, tier 1): Orders are charged later."
    assert second.startswith("forced_open until ")
    assert second.endswith("by ana: vendor down")
    whole = " ".join("\n".join(rest).split())
    assert "web1 1 gunicorn open 5 of 5 calls failed" in whole
    assert "web2 2 gunicorn open 5 of 5 calls failed" in whole
    assert "shop opened: 5 of 5 calls failed" in whole
    assert "other" not in whole


def test_every_move_says_what_it_went_by(command: Command, sqlite: Kind) -> None:
    """Rate, volume, exceptions with counts, when it tries again, the settings and their version."""
    declare(sqlite)
    record(sqlite, entry(1, evidence=SEEN))
    said = command("policies", "show", "shop")
    for word in ("12 of 20 calls failed", "60%", "9x ConnectionError", "3x ValueError",
                 "tries again after 4.8 s", "settings 2", "failure_rate=0.5", "minimum_calls=20",
                 "window=10 s"):  # fmt: skip
        assert word in said, word


def test_every_move_says_how_many_were_slow(command: Command, sqlite: Kind) -> None:
    """The slow share, and the settings that it is held against."""
    declare(sqlite)
    record(sqlite, entry(1, evidence=SEEN))
    said = command("policies", "show", "shop").partition("tries again")
    assert "7 slow" in "".join(said)
    assert "slow_call_duration=1.0" in "".join(said)


def test_policies_show_as_json(command: Command, sqlite: Kind) -> None:
    """The same, as data: the row, the processes, and the last twenty moves."""
    declare(sqlite)
    now = time.time()
    record(sqlite, *(entry(n, at=now - 100 + n * 3, evidence=SEEN) for n in range(30)))
    data = command.json("policies", "show", "shop")
    assert (data["policy"], data["owner"], data["tier"]) == ("shop", "pay", 1)
    assert data["states"] == {"open": 2}
    assert [each["pid"] for each in data["in"]] == [1, 2]
    assert data["in"][0]["policy"]["why"] == "5 of 5 calls failed"
    assert len(data["moves"]) == 20
    assert data["moves"][-1]["number"] == 29
    assert data["moves"][-1]["evidence"] == SEEN
    around = command("policies", "--json", "show", "shop")
    assert json.loads(around)["policy"] == "shop"


def test_policies_show_of_nobody(command: Command, sqlite: Kind) -> None:
    """A name that no process has is an error, with the nearest one."""
    declare(sqlite)
    assert "Did you mean shop?" in command("policies", "show", "shap", code=2)
    command("policies", "show", code=2)
