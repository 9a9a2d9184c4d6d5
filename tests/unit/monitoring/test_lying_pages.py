"""Pages that lie: they are told as unread, or passed over, and the others are shown."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from resilient.monitoring.page_samples import PagePoller
from resilient.monitoring.top_model import Screen
from tests.kit.command import Command
from tests.unit.monitoring.kit import policy, screen, text_of, written

Write = Callable[..., None]
GAUGES = {("breaker_workers", "open"): 1.0, ("limit", ""): 5.0, ("override_active", "forced_open"): 0.0,
          ("breaker_since_timestamp_seconds", ""): 1e9}  # fmt: skip


@pytest.fixture
def write(tmp_path: Path) -> Iterator[Write]:
    """Write pages of processes that live until the end of the test."""
    opened: dict[str, int] = {}

    def page(name: str, *entries: Any, **more: Any) -> None:
        if name in opened:
            os.close(opened.pop(name))
        opened[name] = written(tmp_path / "pages" / f"{name}.page", *entries, **more)

    yield page
    for fd in opened.values():
        os.close(fd)


def shown(tmp_path: Path) -> Screen:
    """Return the screen of what lies there; it can be drawn, and is JSON."""
    watch = PagePoller(tmp_path / "pages")
    made = Screen(watch.look(), watch.look())
    for width in (60, 140):
        assert "honest" in text_of(made, width)
    json.dumps(made.as_data(), allow_nan=False)
    return made


def honest() -> Any:
    """Return what a process says that does not lie."""
    return policy("honest", error=5, abandoned=1, gauges=GAUGES)


ABOUT: list[dict[str, Any]] = [
    *({"flags": value} for value in (5, True, "ab", {"a": 1}, [1, None, ["x"]], None)),
    *({word: value} for word in ("owner", "impact", "fallback") for value in (5, [1], {"a": 1}, None)),
    *({"tier": value} for value in ("x", True, 1.5, 10**30, [1], -1)),
    {},
]  # fmt: skip


@pytest.mark.parametrize("about", ABOUT, ids=str)
def test_what_is_said_about_a_policy(tmp_path: Path, write: Write, about: dict[str, Any]) -> None:
    """Words of another kind than they have are no reason for anything."""
    write("1-a", honest())
    write("2-b", policy("liar", error=5, abandoned=1, about=about, gauges=GAUGES))
    made = shown(tmp_path)
    assert {row.policy.name for row in made.worst} == {"honest", "liar"}
    assert len(made.processes) == 2


@pytest.mark.parametrize(
    "about",
    [
        {"pid": "x"}, {"pid": None}, {"pid": [1]}, {"pid": 1e400}, {"pid": -5}, {"pid": True},
        {"program": None}, {"program": ["x"]}, {"program": {"a": 1}}, {"started": "x"}, {},
    ],
    ids=str,
)  # fmt: skip
def test_what_a_process_says_of_itself(tmp_path: Path, write: Write, about: Any) -> None:
    """One that hangs, too, and has to be named."""
    write("1-a", honest())
    write("2-b", policy("liar", error=5, abandoned=1), about=about, quiet=60.0)
    made = shown(tmp_path)
    assert "honest" in {row.policy.name for row in made.worst}
    assert len(made.processes) + len(made.unread) >= 1
    assert "hangs" in text_of(made, 80) or made.unread or not about


@pytest.mark.parametrize("value", [inf, -inf, nan, 1e300, -5.0], ids=str)
def test_numbers_that_nobody_counts(tmp_path: Path, write: Write, value: float) -> None:
    """In any cell: shares stay shares, and nothing of it is no JSON."""
    write("1-a", honest())
    liar = policy("liar", error=5, abandoned=1, gauges=GAUGES)
    for place in range(len(liar.row)):
        lies = policy("liar", error=5, abandoned=1, gauges=GAUGES)
        lies.row = (*lies.row[:place], value, *lies.row[place + 1 :])
        write("2-b", lies)
        made = shown(tmp_path)
        assert "honest" in {row.policy.name for row in made.worst}
        for row in (*made.worst, *made.well):
            assert 0 <= row.full <= 1
            assert 0 <= row.error <= 1


def test_status_beside_a_page_that_lies(tmp_path: Path, write: Write) -> None:
    """The line is told all the same."""
    write("1-a", honest())
    write("2-b", policy("liar", in_flight=inf, about={"flags": 5}), about={"pid": None})
    command = Command("", tmp_path)
    command.environ["RESILIENT_RUNTIME_DIR"] = str(tmp_path / "pages")
    said = command("status", "--over", "0.01s", code=1)
    assert "circuits: honest open" in said


def test_the_written_page_is_like_one_of_a_process(tmp_path: Path, write: Write) -> None:
    """What this file writes is read as it was meant, or it would test nothing."""
    write("1-a", policy("honest", full=3, error=2, abandoned=1, in_flight=4, gauges=GAUGES))
    look = PagePoller(tmp_path / "pages").look()
    there = screen(policy("honest", full=3, error=2, abandoned=1, in_flight=4, gauges=GAUGES))
    assert look.policies["honest"][("served_total", ("error",))] == 2
    assert look.processes[0].pid == 4711
    (row,) = there.worst
    assert row.in_flight == look.policies["honest"][("in_flight", ())] == 4
