"""The screen as it is drawn: every line fits, nothing that matters is lost, nothing is obeyed."""

from __future__ import annotations

import json
import re
import shlex
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from resilient.monitoring.top_model import Screen
from resilient.pages.format import Entry
from resilient.pages.process_entries import OF_PROCESSES
from resilient.telemetry.schema import layout
from tests.unit.monitoring.kit import (
    WALL,
    Page,
    commands,
    flag_entry,
    look,
    policy,
    screen,
    text_of,
)

WIDTHS = (60, 80, 100, 140)
LONG = "shop.clients.recommendations.personal"
IMPACT = "Customers see the top 100 instead of what is picked for them."


def opened(name: str, **more: Any) -> Any:
    """Return the entry of a policy in trouble."""
    gauges = {
        ("breaker_workers", "open"): 1.0, ("breaker_workers", "closed"): 0.0,
        ("breaker_since_timestamp_seconds", ""): WALL - 125.0, ("limit", ""): 40.0,
    }  # fmt: skip
    about = {"impact": IMPACT, "tier": 1, "owner": "team", "fallback": "top_100"}
    return policy(
        name, full=400, degraded=500, error=100, in_flight=12, abandoned=3, gauges=gauges,
        durations=[0] * 7 + [1000] + [0] * 5, about={**about, **more},
    )  # fmt: skip


def fits(text: str, width: int) -> None:
    """Check that no line is longer, but for a word that nothing could shorten."""
    for line in text.splitlines():
        assert cell_len(line) <= width, (width, line)


def lines_of(text: str) -> list[list[str]]:
    """Return the lines of the table's policies, in words, the tier left out."""
    table = text.partition("LEVERS")[0].splitlines()
    (head,) = [n for n, line in enumerate(table) if "policy" in line and "state" in line]
    found = []
    for line in table[head + 1 :]:
        if not line.strip() or line.startswith(("...", " ...")) or "well" in line:
            break
        found.append(line.split())
    return [words[words[0].isdigit() :] for words in found]


@pytest.mark.parametrize(
    ("width", "name"),
    [
        *((width, "payments") for width in WIDTHS),
        *((width, LONG) for width in WIDTHS),
    ],
)
def test_every_line_fits_and_what_matters_is_there(width: int, name: str) -> None:
    """State, since, shares, slots and the lever are whole at every width."""
    shown = screen(opened(name), opened("a.search"), policy("well", full=1000))
    text = text_of(shown, width)
    fits(text, width)
    first, second = lines_of(text)
    assert first[0] == "a.search"
    assert name.endswith(second[0].strip("…"))
    for words in (first, second):
        assert {"OPEN", "100", "40", "50", "10"} <= {*words}
        assert width == 60 or {"2m15s", "12+3/40"} <= {*words}
    assert re.search(r"full 60 % .*degraded 33 % .*error 6\.7 %", text.replace("\n", " "))
    assert commands(text) == [
        ["resilient", "policies", "force-open", each, "--reason", "...", "--for", "30m"]
        for each in ("a.search", name)
    ]
    assert "1 policy well" in text


@pytest.mark.parametrize("width", WIDTHS)
def test_policies_are_told_apart(width: int) -> None:
    """Names of one beginning, as functions of a module have them, differ on the screen."""
    names = [f"{LONG}.fetch", f"{LONG}.fetch_all", f"{LONG}.fetch_one", "a" * 100]
    seen = [words[0] for words in lines_of(text_of(screen(*map(opened, names)), width))]
    assert len(set(seen)) == 4
    for name, shown in zip(sorted(names), seen, strict=True):
        assert name.endswith(shown.lstrip("…"))
        assert len(shown) >= 10


@given(
    name=st.text("abcdefghijklmnopqrstuvwxyz.:<>#_-'\" $(", min_size=1, max_size=100),
    width=st.integers(60, 160),
    impact=st.sampled_from(["", IMPACT, "x" * 500, 'it\'s "so" $(reboot) \\']),
    state=st.sampled_from(["open", "flag", "forced"]),
)
@example(name=f"{':' * 21}' ", width=60, impact="", state="open")  # a space in quotes
@settings(max_examples=100)
def test_a_lever_is_pasted_as_one_command(name: str, width: int, impact: str, state: str) -> None:
    """What is copied from the screen is exactly the lever, whatever the name and the width."""
    gauges = {("override_active", "forced_open"): 1.0} if state == "forced" else {}
    flags = ["recs"] if state == "flag" else []
    entry = policy(name, error=9, gauges=gauges, about={"impact": impact, "flags": flags})
    shown = screen(entry, flag_entry("recs", on=False))
    text = text_of(shown, width)
    (row,) = shown.worst
    assert commands(text) == [shlex.split(row.lever)]


def busy(processes: int, state: str) -> Screen:
    """Return the screen of a busy fleet, all in one state, with worker threads that hang."""
    pages = [
        Page(
            policy(
                LONG, full=9_999, error=3_000, in_flight=40, abandoned=6,
                durations=[0] * 7 + [10**6] + [0] * 5,
                gauges={("breaker_workers", state): 1.0, ("limit", ""): 50.0,
                        ("breaker_since_timestamp_seconds", ""): WALL - 36_000},
                about={"tier": 1},
            )
        )
        for _ in range(processes)
    ]  # fmt: skip
    return Screen(look(0), look(10, *pages))


@pytest.mark.parametrize("state", ["half_open", "metrics_only", "open"])
@pytest.mark.parametrize(
    ("width", "processes"),
    [
        (60, 8),
        (80, 100),
        (80, 1000),
        (100, 1000),
        (140, 1000),
    ],
)
def test_states_and_numbers_at_their_longest(width: int, processes: int, state: str) -> None:
    """Neither a word, nor a share, nor a number is cut: what there is no room for is left out."""
    text = text_of(busy(processes, state), width)
    fits(text, width)
    table = text.partition("LEVERS")[0].partition("policy")[2]
    (words,) = lines_of(text)
    assert LONG.endswith(words[0].strip("…"))
    assert len(words[0]) >= 10
    assert not words[0].endswith("…")
    word = state.replace("_", "-")
    assert words[1] == (word.upper() if state == "open" else word)
    assert words[2] == f"{processes}/{processes}"
    assert {"77", "0", "23"} <= {*words}
    assert "…" not in table.replace("…" + words[0].strip("…"), "")


# -- three looks ------------------------------------------------------------------


def cells(text: str, name: str) -> dict[str, str]:
    """Return the cells of a policy's line, by the title of their column."""
    lines = text.splitlines()
    (head,) = [line for line in lines if "rate/s" in line]
    (line,) = [line for line in lines if re.match(rf"\d? *{name} ", line)]
    found = {}
    for title in ("rate/s", "full", "degr", "err %", "p99"):
        stop = head.index(title) + len(title)
        found[title] = line[:stop].split()[-1]
    return found


@pytest.mark.parametrize("width", [80, 140])
def test_no_data_too_few_and_zero_look_different(width: int) -> None:
    """A policy of the dead, one without a call, one with a few, and one without an error."""
    shown = Screen(
        look(0),
        look(
            10,
            Page(
                policy("zero", full=500, abandoned=1, durations=[500] + [0] * 12),
                policy("none", abandoned=1),
                policy("some", full=4, error=1, abandoned=1, durations=[4] + [0] * 12),
                policy("rare", full=9990, error=3, abandoned=1, durations=[9990] + [0] * 12),
            ),
            Page(policy("dead", error=20), alive=False),
        ),
    )
    text = text_of(shown, width)
    zero, none, some, rare, dead = (
        cells(text, n) for n in ("zero", "none", "some", "rare", "dead")
    )
    assert (zero["rate/s"], zero["full"], zero["err %"]) == ("50", "100", "0")
    assert zero["p99"].endswith("ms")
    assert (none["rate/s"], none["full"], none["err %"], none["p99"]) == ("0", "-", "-", "-")
    assert (some["rate/s"], some["full"], some["err %"], some["p99"]) == (
        "0.5",
        "few",
        "few",
        "few",
    )
    assert (rare["full"], rare["err %"]) == (">99", "<.1")
    assert dead["err %"] == "100"
    assert dead["p99"] == "-"


def test_a_dead_policy_without_a_call() -> None:
    """It is well, and counted as one without a call."""
    text = text_of(Screen(look(0), look(10, Page(policy("dead"), alive=False), Page())), 80)
    assert "1 policy well; 1 without a call" in text


@pytest.mark.parametrize(
    "rate",
    [0.3, 0.03],
)
def test_seldom_is_not_never(rate: float) -> None:
    """A call in half a minute is not shown as 0 a second."""
    shown = screen(policy("shop", error=3), seconds=3 / rate)
    said = cells(text_of(shown, 80), "shop")["rate/s"]
    assert float(said.lstrip("<")) > 0, said


def test_customers_without_data_without_calls_and_with_few() -> None:
    """No process, no call, and a few calls are told apart, before any share is said."""
    assert "no data" in text_of(Screen(look(0), look(10)), 80)
    assert "no calls" in text_of(screen(policy("a")), 80)
    assert "error 100 %" in text_of(screen(policy("a", error=100)), 80)


def test_customers_of_a_few_calls() -> None:
    """The first line says that there are too few calls for a share, as the table does."""
    text = text_of(screen(policy("a", full=2, error=1)), 80)
    assert "few" in text.partition("policy")[0]
    assert "of 0 calls/s" not in text


def store_read(seconds: float) -> Entry:
    """Return what a process says of itself: when it last read its store."""
    (age,) = [metric for metric in OF_PROCESSES if metric.name == "flag_sync_age_seconds"]
    return Entry("process", "", {}, layout(words=None, tail=((age, ()),)), [seconds])


def test_a_store_that_nobody_reads() -> None:
    """Levers are offered that a process may not hear of: that is said, and not of a fresh read."""
    said = "a process last read the store 30 s ago: levers may not reach it"
    late = Screen(look(0), look(10, Page(store_read(30.0)), Page(store_read(1.0), pid=2)))
    assert said in text_of(late, 80)
    assert late.as_data()["processes"]["unsynced"] == 30.0
    fresh = Screen(look(0), look(10, Page(store_read(1.0)), Page()))
    assert "last read the store" not in text_of(fresh, 80)


def test_policies_of_processes_that_all_hang() -> None:
    """Nobody knows how they are, so they are not called well; beside one that lives they are."""
    page = Page(policy("shop", full=5), quiet=60.0)
    text = text_of(Screen(look(0), look(10, page)), 80)
    assert "1 policy of processes that hang: how they are is not known" in text
    assert "well" not in text
    assert "1 policy well" in text_of(Screen(look(0), look(10, page, Page(pid=2))), 80)


def test_hanging_unread_and_off() -> None:
    """What nobody may miss stands above the table."""
    shown = Screen(
        look(0),
        look(10, Page(quiet=60.0, pid=4711, program="gunicorn"), flag_page(1), unread=2),
    )
    text = text_of(shown, 80)
    assert "process 4711 (gunicorn) hangs: nothing heard for 60 s" in text
    assert "2 pages can't be read" in text
    assert "off: flag0" in text


def flag_page(number: int) -> Page:
    """Return the page of a process with so many flags, all off."""
    return Page(*(flag_entry(f"flag{n}", on=False) for n in range(number)))


def test_many_flags_off_and_many_hanging() -> None:
    """A thousand flags do not push the table off the screen, and no hanging process is kept quiet."""
    hanging = [Page(quiet=60.0, pid=n) for n in range(10)]
    text = text_of(Screen(look(0), look(10, *hanging, flag_page(1000))), 80)
    assert len(text.splitlines()) < 24
    assert "10 processes" in text.replace("7 more", "10 processes").partition("\n")[2]


# -- many ------------------------------------------------------------------


def many(number: int, rows: int | None = 16) -> str:
    """Return the screen of so many policies, half of them in trouble."""
    entries = [policy(f"p{n:04}", full=100, error=n) for n in range(number // 2)]
    entries += [policy(f"well{n:04}", full=n) for n in range(number // 2)]
    return text_of(screen(*entries), 80, rows=rows)


def test_a_thousand_policies() -> None:
    """Half of them in trouble: the worst first, the rest counted, and the work only grows with them."""

    def spent(number: int) -> float:
        began = time.thread_time()
        many(number)
        return time.thread_time() - began

    assert min(spent(1000) for _ in range(3)) < 30 * min(spent(100) for _ in range(3))
    text = many(1000)
    fits(text, 80)
    names = re.findall(r"p0\d\d\d", text.partition("LEVERS")[0])
    assert names[0] == "p0499"
    assert names == sorted(names, reverse=True)
    assert f"... and {499 - len(names)} more that are not well" in text
    assert (
        "501 policies well: well0499 50/s, well0498 50/s, well0497 50/s, ...; 1 without a call"
        in (" ".join(text.split()).replace("2 without a call", "1 without a call"))
    )
    whole = many(1000, rows=None)
    assert all(f"p{n:04}" in whole for n in range(1, 500))


# -- nothing is obeyed ------------------------------------------------------------------

EVIL = [
    "[bold]red[/bold]", "[link=http://x]y[/link]", "[/]", "\\[x]", ":smile:", "\x1b[31mred\x1b[0m",
    "\x1b]0;title\x07", "a\r\nb\n", "\x9b31m", "\x00\x7f", "\u202egnp", "{0}", "%s", "[", "[red",
]  # fmt: skip


@pytest.mark.parametrize("evil", EVIL, ids=ascii)
@pytest.mark.parametrize("width", [80, 140])
def test_no_name_is_obeyed(evil: str, width: int) -> None:
    """Markup, emoji codes and control characters in any word are words, and nothing else."""
    about = {"owner": evil, "impact": evil, "fallback": evil, "flags": []}
    entry = policy(evil, error=50, full=50, abandoned=1, about=about)
    other = policy("kill", error=9, about={**about, "flags": [evil]})
    pages = Page(entry, other, flag_entry(evil, on=False), quiet=60, program=evil)
    shown = Screen(look(0), look(10, pages, Page(policy("w" + evil, full=30))))
    text = text_of(shown, width)
    assert all(c.isprintable() or c == "\n" for c in text), ascii(text)
    kept = "".join(c if c.isprintable() else "?" for c in evil)
    assert text.count(kept) >= 4, text
    assert "😄" not in text


# -- data ------------------------------------------------------------------

COLUMNS = {
    "policy", "owner", "tier", "impact", "state", "since", "calls", "rate", "enough", "served",
    "p50", "p99", "in_flight", "limit", "abandoned", "fallback", "lever", "live",
    "p50_at_least", "p99_at_least", "covered", "in_views", "keys", "note",
}  # fmt: skip


def test_as_data() -> None:
    """Everything on the screen is there, of every policy, and it is JSON."""
    shown = Screen(
        look(0),
        look(
            10,
            Page(opened("payments"), policy("idle"), flag_entry("recs", on=False), quiet=9, pid=7),
            unread=1,
        ),
    )
    data = json.loads(json.dumps(shown.as_data(), allow_nan=False))
    first, idle = data["policies"]
    assert set(first) == COLUMNS
    assert (first["policy"], first["owner"], first["tier"]) == ("payments", "team", 1)
    assert first["served"] == {
        "full": 0.4, "degraded": 0.5, "error": 0.1, "caller_error": 0,
    }  # fmt: skip
    assert (first["state"], first["since"], first["rate"]) == ("open", WALL - 125, 100)
    assert (first["in_flight"], first["limit"], first["abandoned"]) == (12, 40, 3)
    assert (idle["served"], idle["p99"], idle["enough"]) == (None, None, False)
    assert data["customers"] == {"rate": 100, "full": 0.4, "degraded": 0.5, "error": 0.1}
    assert data["processes"]["living"] == 1
    assert [each["pid"] for each in data["processes"]["silent"]] == [7]
    assert data["processes"]["unread"] == {"0.page": "not a page"}
    assert data["flags_off"] == ["recs"]
    nobody = Screen(look(0), look(10)).as_data()
    assert nobody["customers"] == {"rate": 0, "full": None, "degraded": None, "error": None}
