"""Floods: what happens again and again hides nothing, in the log, the journal and the timeline."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any, get_args

import pytest

from resilient import events as module
from resilient.cli import timeline
from resilient.event_folding import CALM, SPAN
from resilient.events import Bus, Event, Kind
from resilient.flags.flip import Flip
from resilient.flags.journal import LONGEST, Journal
from resilient.flags.stores.base import Process
from resilient.flags.stores.memory import MemoryStore
from tests.kit.command import Command
from tests.unit.flags.journal.kit import Kind as StoreKind
from tests.unit.flags.journal.kit import entry


class Time:
    """The clock of the log and the journal, moved by the test."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Time:
    """A clock that only the test moves."""
    return Time(monkeypatch)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """What the logger of the library logs."""
    seen: list[logging.LogRecord] = []
    handler, logger = logging.Handler(), logging.getLogger("resilient")
    handler.emit = seen.append  # type: ignore[method-assign]
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield seen
    logger.removeHandler(handler)
    logger.setLevel(before)


def event(kind: Kind = "abandoned", policy: str = "pay", **more: Any) -> Event:
    """Return something that happened to a policy."""
    return Event(kind, guard="timeout", at=0.0, reason="no answer", policy=policy, **more)


def tell(bus: Bus, *told: Event) -> None:
    """Have a bus deliver events."""
    for each in told:
        bus.enqueue(each)
    bus.deliver()


@pytest.mark.parametrize("kind", get_args(Kind))
@pytest.mark.parametrize("cause", ["auto", "operator"])
def test_every_kind_is_folded_in_the_log(
    clock: Time, records: list[logging.LogRecord], kind: Kind, cause: module.Cause
) -> None:
    """A thousand of one kind are a few lines, whose numbers add up; and nothing is kept back long."""
    bus = Bus()
    for _ in range(1000):
        tell(bus, event(kind, cause=cause))
        clock.now += 0.05
    clock.now += CALM
    bus.look_back()
    assert len(records) <= 24
    assert sum(vars(each)["resilient_times"] for each in records) == 1000
    assert "(the last of " in records[-1].getMessage()


def test_who_listens_hears_every_one(clock: Time) -> None:
    """Folding is for the log: a listener is called for each event."""
    bus, heard = Bus(), list[Event]()
    bus.subscribe(heard.append)
    for _ in range(500):
        tell(bus, event())
    assert len(heard) == 500


def test_the_two_that_matter_are_told_at_once(
    clock: Time, records: list[logging.LogRecord]
) -> None:
    """Amid a flood of another kind, of another policy, or of the same one."""
    bus = Bus()
    for number in range(300):
        tell(bus, event())
        if number == 150:
            tell(bus, event("opened"), event("forced", "search", cause="operator"))
    names = [vars(each)["resilient_name"] for each in records]
    assert names[1:] == ["resilient.opened", "resilient.forced"]


def test_what_is_calm_again_is_told_one_by_one(
    clock: Time, records: list[logging.LogRecord]
) -> None:
    """And nothing is remembered for ever."""
    bus = Bus()
    for _ in range(3):
        tell(bus, event())
        clock.now += 2 * SPAN
        bus.look_back()
    assert [vars(each)["resilient_times"] for each in records] == [1, 1, 1]
    tell(bus, *(event(policy=f"p{n}") for n in range(500) for _ in range(2)))
    clock.now += 3 * SPAN
    bus.look_back()
    bus.look_back()
    assert not bus._log._folds.seen
    assert not bus._log._folds.floods


def test_a_flood_that_goes_on_is_told_of_less_and_less(
    clock: Time, records: list[logging.LogRecord]
) -> None:
    """An hour of it is a dozen lines."""
    bus = Bus()
    for _ in range(7200):
        tell(bus, event())
        clock.now += 0.5
    assert 8 <= len(records) <= 16


def test_a_child_does_not_tell_what_its_parent_kept_back(
    clock: Time, records: list[logging.LogRecord]
) -> None:
    """After a fork the log begins anew."""
    bus = Bus()
    tell(bus, *(event() for _ in range(5)))
    bus.reset()
    clock.now += 3 * SPAN
    bus.look_back()
    assert len(records) == 1


@pytest.mark.parametrize("kind", ["abandoned", "would_open"])
def test_the_journal_folds(clock: Time, kind: Kind) -> None:
    """One entry at first, then one with how often, of the same kind: older versions read it too."""
    journal, store = Journal(Process("aa")), MemoryStore()
    for _ in range(400):
        journal.heard(event(kind))
        clock.now += 0.01
    journal.tell(store, now=True)
    found = store.journal(0, 100)
    assert [(each["kind"], each["times"]) for each in found] == [(kind, 1), (kind, 399)]


# -- the timeline ------------------------------------------------------------------


def test_a_flood_of_an_older_version_is_one_line(command: Command, sqlite: StoreKind) -> None:
    """What was written one by one is read as one, with how often and until when."""
    now, store = time.time(), sqlite.open()
    store.record(
        [entry(n, at=now - 1000 + n, kind="abandoned", after="") for n in range(900)], LONGEST
    )
    store.record([entry(901, at=now - 500)], LONGEST)
    said = command("timeline").splitlines()
    assert len(said) == 3
    assert "shop abandoned 899 times until " in said[1]
    assert "shop opened" in said[2]
    assert len(command.json("timeline")) == 3


def test_what_is_true_outlives_what_is_evicted(command: Command, sqlite: StoreKind) -> None:
    """An open circuit, a flag that is off and an order are told, whatever came after them."""
    store, now = sqlite.open(), time.time()
    store.flip(Flip("flag/recs", "off", by="ana", reason="vendor down"), None, None)
    store.flip(Flip("forced/picks", "forced_open", by="ana", reason="INC-1"), None, None)
    process = Process("a" * 32, host="web1", pid=7, program="gunicorn")
    row = {"owner": "", "impact": "", "tier": None}
    process.about = {"flags": {}, "policies": {
        "shop": {**row, "state": "open", "why": "5 of 5 calls failed", "since": now - 4000.0},
        "calm": {**row, "state": "closed", "why": "", "since": now - 5000.0},
    }}  # fmt: skip
    store.beat(process, about=True)
    store.record([entry(0, at=now - 4000)], LONGEST)
    noise = [
        entry(n, at=now - 100, kind="updated", policy="busy", after="x") for n in range(1, 5001)
    ]
    for _ in range(3):
        store.record(noise, LONGEST)
    for number in range(1100):
        store.flip(Flip("flag/noise", ("on", "off")[number % 2], by="bot"), 0.001, None)
    said = command("timeline", "--most", "10")
    assert "begun before, and still so:\n" in said
    for words in (
        "flag/recs set to off by ana: vendor down", "forced/picks set to forced_open by ana: INC-1",
        "shop open: 5 of 5 calls failed",
    ):  # fmt: skip
        assert said.count(words) == 1, said
    assert "calm" not in said
    assert "shop open" in command("timeline", "--policy", "shop", "--since", "1s")
    assert "shop open" not in command("timeline", "--policy", "picks")
    data = [each for each in command.json("timeline", "--since", "1s") if each["kind"] == "still"]
    assert {each.get("policy") or each["flag"] for each in data} >= {"shop", "picks", "recs"}


def test_an_order_within_the_time_is_told_once() -> None:
    """The policy's state that it made is no second entry, as if it had begun before."""
    holding = {"policy": "pay", "state": "forced_open", "processes": ["1"]}
    orders = [{"lever": "forced/pay", "value": value} for value in ("forced_open", "released")]
    assert timeline._is_told(holding, orders[:1])
    assert not timeline._is_told(holding, orders)  # it has forced itself since
    assert not timeline._is_told(holding, [{"lever": "forced/shop", "value": "forced_open"}])
