"""Every field that the docs promise is there and filled: the tests go by the pages."""

from __future__ import annotations

import inspect
import logging
import re
import time
from collections.abc import Iterator
from typing import Any

import pytest

import resilient
from resilient import (
    CallTimeoutError,
    Event,
    Policy,
    RefusedError,
    ResilientError,
    circuit_breaker,
    errors,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.command import Cli
from tests.kit.paths import ROOT
from tests.kit.waiting import until
from tests.kit.workers import Worker

DOCS = ROOT / "docs"


def tables(page: str) -> dict[str, set[str]]:
    """Return the names in the first columns of a page's tables, by the heading above."""
    found: dict[str, set[str]] = {}
    heading = ""
    for line in (DOCS / page).read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            heading = line.lstrip("# ")
        elif line.startswith("A row of `policies`"):
            heading = "top, a row"
        elif line.startswith("| `"):
            found.setdefault(heading, set()).update(re.findall(r"`(\w+)`", line.split("|")[1]))
    return found


PROMISED = tables("reference/json.md")


@pytest.fixture
def seen(cli: Cli, worker: Worker) -> Iterator[Cli]:
    """A service of which there is something to say under every key."""
    cli.flip("flags", "off", "recs", "--for", "1h").said(0)
    cli.flip("policies", "set", "shop", "bulkhead.max_concurrent=3").said(0)
    for _ in range(12):
        worker.ask("failing"), worker.ask("shop")
    until(lambda: [e for e in cli("timeline", "--json").json if e["kind"] == "opened"])
    yield cli
    worker.close()


def test_json(seen: Cli) -> None:
    """The keys are those of the page, in every row, and no others."""
    asked = {
        "flags": seen("flags", "--json").json,
        "policies": seen("policies", "--json").json,
        "flags log": seen("flags", "log", "--json").json,
        "processes": seen("processes", "--json").json,
        "doctor": [seen("doctor", "--json").json],
        "status": [seen("status", "--json").json],
        "simulate": [seen("simulate", str(ROOT / "examples" / "replay.toml"), "--json").json],
        "flags off, flags on, policies force-open, policies set": [
            seen.flip("flags", "on", "recs", "--json").json
        ],
    }
    top = seen("top", "--json", "--every", "0.1s").json
    asked |= {"top": [top], "top, a row": top["policies"]}
    assert set(asked) == set(PROMISED) - {"timeline"}
    for name, rows in asked.items():
        assert rows, name
        for row in rows:
            assert set(row) == PROMISED[name], name
    assert {each["state"] for each in asked["flags"]} == {"off"}
    (shop,) = [row for row in asked["policies"] if row["policy"] == "shop"]
    assert set(shop["options"]["bulkhead.max_concurrent"]) > {"value", "since", "by", "reason"}
    (status,) = asked["status"]
    assert all(status[key] is not None for key in PROMISED["status"])
    assert set(status["customers"]) == {"rate", "full", "degraded", "error"}


def test_one_flag_and_one_policy(seen: Cli) -> None:
    """They have their row, and all processes."""
    process = PROMISED["processes"]
    flag = seen("flags", "show", "recs", "--json").json
    assert set(flag) == PROMISED["flags"] | {"in"}
    assert set(flag["in"][0]) == process | {"on", "decided_by"}
    policy = seen("policies", "show", "shop", "--json").json
    assert set(policy) == PROMISED["policies"] | {"in", "moves"}
    assert set(policy["in"][0]) == process | {"policy"}


def test_the_timeline(seen: Cli) -> None:
    """Each entry has what the page says of its kind."""
    own = PROMISED["timeline"] - {"times", "until_at"}
    kinds = set()
    for entry in seen("timeline", "--json").json:
        kinds.add(entry["kind"])
        assert entry["kind"]
        assert isinstance(entry["processes"], list)
        if "lever" in entry:
            assert {"value", "by", "reason", "until"} < set(entry)
        elif entry["kind"] in ("opened", "updated"):
            assert own <= set(entry)
            assert all(entry[word] for word in ("policy", "guard", "cause", "host", "pid"))
    assert kinds >= {"opened", "lever", "process_started", "updated"}
    seen.flip("flags", "on", "recs").said(0)


# -- events, and the log ------------------------------------------------------------------


@pytest.fixture
def told() -> Iterator[tuple[list[Event], list[logging.LogRecord]]]:
    """The events and the records of the log that come meanwhile."""
    events: list[Event] = []
    records: list[logging.LogRecord] = []
    handler, logger = logging.Handler(logging.INFO), logging.getLogger("resilient")
    handler.emit = records.append  # type: ignore[method-assign]
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    forget = resilient.registry.subscribe(events.append)
    yield events, records
    forget()
    logger.removeHandler(handler)
    logger.setLevel(before)


def attributes(kind: type) -> set[str]:
    """Return the attributes that a docstring promises."""
    _, _, after = inspect.cleandoc(kind.__doc__ or "").partition("Attributes:")
    return set(re.findall(r"^ {4}(\w+):", after, re.MULTILINE))


def test_events_and_the_log(told: tuple[list[Event], list[logging.LogRecord]]) -> None:
    """Attributes are those of the docstring; the log's fields and names those of the page."""
    events, records = told
    assert {"policy", "evidence"} < attributes(Event)
    clock = ManualClock()
    policy = Policy("told", circuit_breaker(failure_threshold=1), clock=clock)

    def fail() -> None:
        raise ConnectionError("down")

    policy.try_call(fail)
    policy.try_call(fail)
    clock.advance(60)
    policy.try_call(int)
    policy.force_open("INC-1")
    policy.release()
    policy.update(circuit_breaker={"recovery_timeout": 3})
    page = tables("howto/trace-and-log.md")
    fields = page["The fields"]
    for event, record in zip(events, records, strict=True):
        there = {name for name in vars(record) if name.startswith("resilient_")}
        assert there == fields
        assert vars(record)["resilient_event"] is event
        for name in attributes(Event):
            assert getattr(event, name) is not None, name
    (opened,) = [each for each in events if each.kind == "opened"]
    promised = set(re.findall(r"``(\w+)``", (Event.__doc__ or "").partition("evidence:")[2]))
    assert set(opened.evidence) >= promised - {"exceptions", "settings", "revision"}
    assert all(opened.evidence[word] for word in ("calls", "failures", "exceptions", "settings"))
    assert all((opened.policy, opened.guard, opened.reason, opened.before, opened.after))
    names = {word.removeprefix("resilient.") for word in _names()}
    assert {event.kind for event in events} <= names == set(_kinds())


def _names() -> list[str]:
    text = (
        (DOCS / "howto/trace-and-log.md").read_text(encoding="utf-8").partition("### The names")[2]
    )
    return re.findall(r"^\| `(resilient\.\w+)`", text.partition("###")[0], re.MULTILINE)


def _kinds() -> tuple[str, ...]:
    from typing import get_args

    from resilient.events import Kind

    return get_args(Kind)


# -- errors ------------------------------------------------------------------


def test_errors() -> None:
    """What a refusal and a timeout promise in their docstrings is there and filled."""
    clock = ManualClock()
    policy = Policy(
        "ends", circuit_breaker(failure_threshold=1), timeout(0.01, sync="thread"), clock=clock
    )
    late = Policy("late", timeout(0.01, sync="thread")).try_call(time.sleep, 0.1).error
    keyed = policy.keyed(lambda *args: "a")
    keyed.try_call(int, "x")
    refused = keyed.try_call(int).error
    assert isinstance(refused, RefusedError)
    assert isinstance(late, CallTimeoutError)
    for error in (refused, late):
        for kind in type(error).__mro__:
            if issubclass(kind, ResilientError):
                for name in attributes(kind):
                    assert getattr(error, name) not in (None, ""), (error, name)
    assert (refused.policy, refused.guard, late.timeout) == ("ends", "circuit_breaker", 0.01)
    named = [each for each in vars(errors).values() if isinstance(each, type)]
    documented = [each for each in named if issubclass(each, ResilientError) and attributes(each)]
    assert len(documented) >= 3


# -- snapshots ------------------------------------------------------------------


def test_snapshots_are_whole() -> None:
    """Every word for an outcome and for what was served is a key, from the start."""
    said: Any = Policy("whole").snapshot()
    assert {"success", "failure", "ignored", "cancelled", "refused"} <= set(said["calls"])
    assert set(said["served"]) == {"full", "degraded", "error", "caller_error"}
