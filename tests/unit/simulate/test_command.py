"""`resilient simulate`: a table, JSON, a picture, several seeds, and the exit code."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from resilient.simulate import from_data, run
from resilient.simulate.picture import save
from tests.kit.command import Command
from tests.unit.simulate.kit import calm, guards

SCENARIO = """
name = "Calm"
seconds = 60
{top}
[clients]
rate = 20
deadline = 1.0
[service]
workers = 4
time = 0.1
[[fault]]
kind = "stall"
at = 10
seconds = 8
[[policy]]
name = "ours"
guards = [{{guard = "circuit_breaker"}}, {{guard = "timeout", seconds = 0.5}}]
{expect}
"""


@pytest.fixture
def command(tmp_path: Path) -> Command:
    return Command("", tmp_path)


@pytest.fixture
def file(tmp_path: Path) -> str:
    return written(tmp_path)


def written(folder: Path, top: str = "", expect: str = "") -> str:
    """Write a scenario; return its path."""
    path = folder / "calm.toml"
    path.write_text(SCENARIO.format(top=top, expect=expect))
    return str(path)


def test_a_table(command: Command, file: str) -> None:
    said = command("simulate", file)
    assert "Calm: 60 virtual seconds, seed 1" in said
    assert "100.0%" in said
    assert "ours" in said


def test_json(command: Command, file: str) -> None:
    found = command.json("simulate", file, "--seed", "7")
    ours = found["policies"]["ours"]
    assert (found["seed"], found["unmet"], ours["back"]) == (7, [], 1.0)
    assert len(ours["points"]) == 60
    assert sum(point["calls"] for point in ours["points"]) == ours["calls"]
    assert sum(point["attempts"] for point in ours["points"]) == ours["attempts"]
    assert ours["points"][16]["states"] == {"open": 1}


def test_several_seeds(command: Command, file: str, tmp_path: Path) -> None:
    assert "3 seeds, from 5" in command("simulate", file, "--seed", "5", "--seeds", "3")
    found = command.json("simulate", file, "--seeds", "3")["policies"]["ours"]
    assert (found["met"], found["back_least"], found["never_back"]) == (3, 1.0, 0)


@pytest.mark.parametrize(
    ("expect", "code", "said"),
    [
        ("goodput_back = 0.95", 0, ""),
        ("goodput_back = 0.95\nwithin = 0", 1, "not met: ours: 95.0% of the goodput was expected to be back 0 s after"),
        ("goodput = 0.99", 1, "not met: ours: goodput is"),
        ("attempts = 0.5", 1, "not met: ours: a call made 0."),
    ],
)  # fmt: skip
def test_the_exit_code_says_whether_it_came_true(
    command: Command, tmp_path: Path, expect: str, code: int, said: str
) -> None:
    path = written(tmp_path, expect=f"[expect]\n{expect}")
    assert said in command("simulate", path, code=code)
    command("simulate", path, "--seeds", "2", code=code)
    command("simulate", path, "--json", code=code)


def test_what_is_wrong_is_said_in_one_line(command: Command, tmp_path: Path) -> None:
    said = command("simulate", written(tmp_path, top="secnds = 3"), code=2)
    assert "calm.toml: a scenario has no key 'secnds'; did you mean 'seconds'?" in said
    assert said.count("\n") == 1
    assert "none.toml can't be read" in command("simulate", "none.toml", code=2)
    assert "can't be read" in command("simulate", str(tmp_path), code=2)


@pytest.mark.parametrize(("name", "begins"), [("a.svg", b"<?xml"), ("a.png", b"\x89PNG")])
def test_a_picture(command: Command, file: str, tmp_path: Path, name: str, begins: bytes) -> None:
    pytest.importorskip("matplotlib")
    command("simulate", file, "--picture", str(tmp_path / name))
    assert (tmp_path / name).read_bytes().startswith(begins)


def test_a_picture_that_can_not_be_drawn_is_refused_first(
    command: Command, file: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "--picture must end in .png or .svg; got x.gif" in command(
        "simulate", file, "--picture", "x.gif", code=2
    )
    pytest.importorskip("matplotlib")
    said = command("simulate", file, "--picture", str(tmp_path / "no" / "x.svg"), code=2)
    assert "there is no such folder" in said
    (tmp_path / "x.svg").mkdir()
    said = command("simulate", file, "--picture", str(tmp_path / "x.svg"), code=7)
    assert "can't be written" in said
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said = command("simulate", file, "--picture", "x.svg", code=2)
    assert "pip install 'resilient-guards[simulate]'" in said
    command("simulate", file)  # without one it is not needed


def test_the_same_report_gives_the_same_picture(tmp_path: Path) -> None:
    """So that a picture in the docs changes only when what it shows does."""
    pytest.importorskip("matplotlib")
    data: dict[str, Any] = calm(policy=guards({"guard": "circuit_breaker"}))
    report = run(from_data(data), seed=1)
    first, second = tmp_path / "1.svg", tmp_path / "2.svg"
    save(report, first)
    save(report, second)
    assert first.read_text() == second.read_text()
    assert "good answers/s" in first.read_text()
    json.dumps(report.as_data())
