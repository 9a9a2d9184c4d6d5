"""What the log has of events: names and fields that stay, for any formatter."""

from __future__ import annotations

import io
import json
import logging
import re
import time
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import Any, get_args

import pytest
import structlog

import resilient
from resilient import (
    Event,
    Policy,
    bulkhead,
    circuit_breaker,
    flag,
    flags,
    rate_limit,
    retry,
    timeout,
)
from resilient import events as module
from resilient.events import Bus, Kind
from resilient.flags.runtime import here
from resilient.guards.rate_limit.fleet import Answer
from resilient.testing import ManualClock
from tests.kit.paths import ROOT

PAGE = ROOT / "docs" / "howto" / "trace-and-log.md"
FIELDS = {
    "resilient_event": Event,
    "resilient_name": str,
    "resilient_policy": str,
    "resilient_flag": str,
    "resilient_guard": str,
    "resilient_key": str,
    "resilient_cause": str,
    "resilient_reason": str,
    "resilient_before": str,
    "resilient_after": str,
    "resilient_evidence": dict,
    "resilient_times": int,
}
# The names, with the level, the guard, and what is said besides; nobody may have to change a query.
NAMES = {
    "resilient.opened": ("WARNING", "circuit_breaker", "auto", "closed", "open"),
    "resilient.refused": ("WARNING", "circuit_breaker", "auto", "", ""),
    "resilient.half_open": ("INFO", "circuit_breaker", "auto", "open", "half_open"),
    "resilient.closed": ("INFO", "circuit_breaker", "auto", "half_open", "closed"),
    "resilient.would_open": (
        "WARNING", "circuit_breaker", "auto", "metrics_only", "metrics_only",
    ),
    "resilient.forced": ("WARNING", "policy", "operator", "", "forced_closed"),
    "resilient.released": ("INFO", "policy", "operator", "forced_closed", ""),
    "resilient.updated": (
        "INFO", "policy", "operator", "bulkhead.max_concurrent=2", "bulkhead.max_concurrent=3",
    ),
    "resilient.flipped": ("WARNING", "flag", "operator", "on", "off"),
    "resilient.abandoned": ("WARNING", "timeout", "auto", "", ""),
    "resilient.retried": ("INFO", "retry", "auto", "", ""),
    "resilient.not_retried": ("WARNING", "retry", "auto", "", ""),
    "resilient.away": ("WARNING", "rate_limit", "auto", "", ""),
    "resilient.back": ("INFO", "rate_limit", "auto", "", ""),
}  # fmt: skip


def fails(*_: object) -> None:
    raise ConnectionError("down")


@pytest.fixture
def story() -> Iterator[Callable[[], None]]:
    """Return what makes one event of each kind."""
    clock, before = ManualClock(), set(resilient.registry.names())
    switch = flag("told-in-the-log")
    quick = Policy("quick", circuit_breaker(failure_threshold=1, recovery_timeout=5), clock=clock)
    watched = Policy("watched", circuit_breaker(failure_threshold=1, metrics_only=True))
    stuck = Policy("stuck", timeout(0.1, sync="thread"))
    full = Policy("full", bulkhead(2), clock=clock)
    again = Policy("again", retry(on=ConnectionError, attempts=2, wait_initial=0))
    limit: Any = rate_limit(1, scope="fleet")
    shared = Policy("shared", limit, clock=clock)

    def tell() -> None:
        quick.try_call(fails)
        quick.try_call(int)
        clock.advance(5)
        quick.call(int)
        watched.try_call(fails)
        full.force_closed(reason="it is well")
        full.release(reason="over")
        full.update(bulkhead={"max_concurrent": 3}, reason="more")
        flags.off(switch, reason="vendor down", by="ana")
        stuck.try_call(time.sleep, 0.2)
        again.try_call(fails)
        shared.call(int)  # there is no store
        answer = Answer((), 0.0, 1)
        now, core = clock.now(), shared._core  # type: ignore[attr-defined]
        core.locked(limit.told, answer, limit.request(now), now)

    yield tell
    for name in set(resilient.registry.names()) - before:
        resilient.registry.remove(name)
    here.flags.forget(switch)


@pytest.fixture
def records(caplog: pytest.LogCaptureFixture) -> Callable[[], list[Any]]:
    caplog.set_level(logging.INFO, "resilient")
    return lambda: [
        record
        for record in caplog.records
        if record.name == "resilient" and hasattr(record, "resilient_name")
    ]


def test_names_and_fields(story: Callable[[], None], records: Callable[[], list[Any]]) -> None:
    """Each kind of event has its name and level, and every field, of one type."""
    story()
    found = {}
    for record in records():
        there = {name: value for name, value in vars(record).items() if name.startswith("resil")}
        assert {name: type(value) for name, value in there.items()} == FIELDS
        found[record.resilient_name] = (
            record.levelname, record.resilient_guard, record.resilient_cause,
            record.resilient_before, record.resilient_after,
        )  # fmt: skip
        event = record.resilient_event
        assert record.getMessage() == str(event)
        assert record.resilient_name == f"resilient.{event.kind}"
        for name in ("policy", "flag", "guard", "cause", "reason", "before", "after"):
            assert getattr(record, f"resilient_{name}") == getattr(event, name)
        assert record.resilient_evidence == event.evidence
    assert found == NAMES
    assert {name.removeprefix("resilient.") for name in NAMES} == set(get_args(Kind))


def test_policy_or_flag(story: Callable[[], None], records: Callable[[], list[Any]]) -> None:
    """An event is about the one or the other."""
    story()
    for record in records():
        flipped = record.resilient_name == "resilient.flipped"
        assert (record.resilient_policy == "") == flipped
        assert (record.resilient_flag == "told-in-the-log") == flipped


def test_evidence(story: Callable[[], None], records: Callable[[], list[Any]]) -> None:
    """Why a circuit opened is there as plain data, a copy of the event's own."""
    story()
    (record,) = [each for each in records() if each.resilient_name == "resilient.opened"]
    said = record.resilient_evidence
    assert (said["calls"], said["failures"], said["exceptions"]) == (1, 1, {"ConnectionError": 1})
    assert said["settings"]["failure_threshold"] == 1
    assert json.loads(json.dumps(said, allow_nan=False)) == said
    said["exceptions"].clear()
    assert record.resilient_event.evidence["exceptions"] == {"ConnectionError": 1}
    assert all(
        each.resilient_evidence == {}
        for each in records()
        if each.resilient_guard != "circuit_breaker" or each.resilient_name == "resilient.refused"
    )


def test_odd_evidence(records: Callable[[], list[Any]]) -> None:
    """What JSON does not know becomes text."""
    odd = {
        "inf": float("inf"), "nan": float("nan"), "none": None, "yes": True, "list": (1, [2.5]),
        "inside": MappingProxyType({1: {"error": ValueError("x")}}),
    }  # fmt: skip
    event = Event("opened", guard="circuit_breaker", at=1.0, policy="odd",
                  evidence=MappingProxyType(odd))  # fmt: skip
    Bus()._send(event)
    (record,) = records()
    assert record.resilient_evidence == {
        "inf": "inf", "nan": "nan", "none": None, "yes": True, "list": [1, [2.5]],
        "inside": {"1": {"error": "x"}},
    }  # fmt: skip
    json.dumps(record.resilient_evidence, allow_nan=False)


def test_nothing_is_made_for_a_log_that_nobody_reads(
    story: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the level is off, no record and no field is made."""
    made: list[Event] = []
    real = module._fields
    monkeypatch.setattr(module, "_fields", lambda event: made.append(event) or real(event))
    logger = logging.getLogger("resilient")
    before = logger.level
    try:
        logger.setLevel(logging.CRITICAL)
        story()
        assert not made
    finally:
        logger.setLevel(before)


def test_a_handler_that_raises_costs_nobody_anything(story: Callable[[], None]) -> None:
    """Listeners hear of all events, and the calls go on."""

    class Broken(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise RuntimeError("the handler is broken")

    heard: list[str] = []
    unsubscribe = resilient.registry.subscribe(lambda event: heard.append(event.kind))
    handler, logger = Broken(), logging.getLogger("resilient")
    logger.addHandler(handler)
    try:
        story()
    finally:
        logger.removeHandler(handler)
        unsubscribe()
    assert set(heard) == set(get_args(Kind))


def test_a_json_formatter(story: Callable[[], None]) -> None:
    """The fields are there for a formatter of the standard library, as on the page."""

    class Json(logging.Formatter):
        def format(self, record: logging.LogRecord) -> str:
            fields = {
                name: value
                for name, value in vars(record).items()
                if name.startswith("resilient_") and name != "resilient_event"
            }
            return json.dumps({"message": record.getMessage(), **fields}, allow_nan=False)

    lines = _written(Json(), story)
    assert next(line["resilient_name"] for line in lines) == "resilient.opened"
    assert {line["resilient_name"] for line in lines} == set(NAMES)
    assert all(set(line) == {"message", *FIELDS} - {"resilient_event"} for line in lines)


def test_structlog(story: Callable[[], None]) -> None:
    """structlog renders our records beside its own, with all fields."""
    shared: list[Any] = [
        structlog.stdlib.add_log_level, structlog.stdlib.add_logger_name,
        structlog.stdlib.ExtraAdder(),
    ]  # fmt: skip
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=shared,
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    lines = _written(formatter, story)
    assert {line["resilient_name"] for line in lines} == set(NAMES)
    first = lines[0]
    assert first["event"].startswith("quick: circuit_breaker opened (closed -> open)")
    assert first["level"] == "warning"
    assert first["logger"] == "resilient"
    assert first["resilient_policy"] == "quick"
    assert first["resilient_evidence"]["exceptions"] == {"ConnectionError": 1}
    assert "opened" in first["resilient_event"]  # the object, as its repr


def test_structlog_allows_some(story: Callable[[], None]) -> None:
    """`ExtraAdder(allow=...)` picks fields by their names."""
    formatter = structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=[structlog.stdlib.ExtraAdder(allow={"resilient_name"})],
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            structlog.processors.JSONRenderer(),
        ],
    )
    assert {tuple(line) for line in _written(formatter, story)} == {("event", "resilient_name")}


def _written(formatter: logging.Formatter, story: Callable[[], None]) -> list[dict[str, Any]]:
    """Return what a handler with a formatter writes, line by line."""
    out = io.StringIO()
    handler, logger = logging.StreamHandler(out), logging.getLogger("resilient")
    handler.setFormatter(formatter)
    before = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        story()
    finally:
        logger.removeHandler(handler)
        logger.setLevel(before)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_the_page_tells_of_every_name_and_field() -> None:
    """The tables of the page are those of the code."""
    text = PAGE.read_text(encoding="utf-8")
    fields = re.findall(
        r"^\| `(resilient_\w+)` \|", text.partition("### The fields")[2], re.MULTILINE
    )
    assert set(fields) == set(FIELDS)
    levels = re.findall(r"^\| `(resilient\.\w+)` \| (INFO|WARNING) \|", text, flags=re.MULTILINE)
    assert dict(levels) == {name: said[0] for name, said in NAMES.items()}
