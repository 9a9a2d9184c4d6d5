"""A recorded trace as the arrivals, as the service times, and as both."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from resilient.simulate import from_data, run
from resilient.simulate.trace import Trace, read
from tests.unit.simulate.kit import calm

ROWS = [(100.0, 0.25), (101.5, 0.5), (101.0, 0.125), (107.0, 2.0)]
SORTED = Trace((0.0, 1.0, 1.5, 7.0), (0.25, 0.125, 0.5, 2.0))


@pytest.fixture(params=["csv", "jsonl", "dates"])
def file(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """The same trace in each form."""
    if request.param == "jsonl":
        path = tmp_path / "trace.jsonl"
        path.write_text(
            "\n".join(json.dumps({"at": at, "took": took}) for at, took in ROWS) + "\n\n"
        )
        return path
    path = tmp_path / "trace.csv"
    dates = request.param == "dates"
    lines = [
        f"{f'2026-03-01T10:{at - 100 + 10:04.1f}'.replace('10:1', '10:00:1') if dates else at},x,{took}"
        for at, took in ROWS
    ]
    path.write_text("at,path,took\n" + "\n".join(lines) + "\n")
    return path


def test_it_is_read_in_the_order_of_arrivals(file: Path) -> None:
    assert read(file, "at", "took") == SORTED
    assert read(file, "at", None) == Trace(SORTED.at, ())
    assert read(file, None, "took") == Trace((), tuple(took for _, took in ROWS))


def traced(file: Path, **changes: Any) -> list[tuple[float, float]]:
    """Return when each call of a run began, and how long it took."""
    data = calm(policy=[{"name": "ours", "guards": []}], **changes)
    data["trace"] = {"file": file.name, "at": "at", "seconds": "took"}
    tape = run(from_data(data, folder=file.parent), seed=1).runs["ours"]._tape
    return list(zip(tape.begun, tape.took, strict=True))


def test_it_is_replayed(file: Path) -> None:
    """Each call comes when it came, and takes what it took."""
    data = calm(service={"time": "trace", "workers": 9}, policy=[{"name": "ours", "guards": []}])
    data["clients"] = {"arrivals": "trace", "deadline": 5.0}
    data["trace"] = {"file": file.name, "at": "at", "seconds": "took"}
    del data["seconds"]
    data["seconds"] = 8
    tape = run(from_data(data, folder=file.parent), seed=1).runs["ours"]._tape
    assert tape.begun == pytest.approx(SORTED.at)
    assert tape.took == pytest.approx(SORTED.seconds)


def test_recorded_times_for_drawn_arrivals(file: Path) -> None:
    """The n-th call takes what the n-th took, and they begin again."""
    took = [took for _, took in traced(file, service={"time": "trace", "workers": 500})]
    expected = [SORTED.seconds[number % 4] for number in range(len(took))]
    assert took[:-60] == pytest.approx(expected[:-60])  # the last may not have ended


def test_all_of_it_is_replayed_where_no_length_is_said(file: Path) -> None:
    """The last call too, which begins just where the run ends."""
    data = calm(service={"time": "trace", "workers": 9}, policy=[{"name": "ours", "guards": []}])
    data["clients"] = {"arrivals": "trace", "deadline": 5.0}
    data["trace"] = {"file": file.name, "at": "at", "seconds": "took"}
    del data["seconds"]
    found = run(from_data(data, folder=file.parent), seed=1).runs["ours"]
    assert (found.calls, found.ends["good"]) == (4, 4)


@pytest.mark.parametrize(
    ("words", "seconds"),
    [
        (["20260301", "20260302"], 1.0),  # seconds, though ISO 8601 knows such days
        (["2026-03-01", "2026-03-02"], 86_400.0),
        (["1e-3", "2e-3"], 0.001),
        (["-2", "-1"], 1.0),
        # No zone is UTC: where the clocks of a place go back, its hours come twice.
        (["2026-10-25T00:30", "2026-10-25T03:30"], 10_800.0),
        (["2026-10-25T00:30+02:00", "2026-10-24T23:30Z"], 3_600.0),
    ],
)
def test_what_is_a_number_and_what_a_date(
    tmp_path: Path, words: list[str], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "t.csv"
    path.write_text("at\n" + "\n".join(words) + "\n")
    with monkeypatch.context() as patched:
        patched.setenv("TZ", "Europe/Berlin")
        time.tzset()
        found = read(path, "at", None).at
    time.tzset()
    assert found == pytest.approx((0.0, seconds))


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("t.csv", "at,took\n1,2\nx,2\n", "t.csv, line 3: at must be a number of seconds or a date of ISO 8601; got 'x'"),
        ("t.csv", "at,tok\n1,2\n", "t.csv, line 2: no column 'took'; did you mean 'tok'? There is: at, tok"),
        ("t.csv", "at,took\n", "t.csv: a trace has at least one line"),
        ("t.csv", "at,took\n1,-2\n", "t.csv, line 2: took must be >= 0; got -2.0"),
        ("t.csv", "at,took\n1,nan\n", "t.csv, line 2: took must be a number; got 'nan'"),
        ("t.csv", "at,took\n1\n", "t.csv, line 2: took must be a number; got None"),
        ("t.jsonl", '{"at": 1, "took": true}\n', "t.jsonl, line 1: took must be a number; got True"),
        ("t.jsonl", '{"at": 1, "took": 1}\n{"at"\n', "t.jsonl, line 2: not JSON"),
        ("t.jsonl", "[1]\n", "t.jsonl, line 1: must be an object; got [1]"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, name: str, text: str, said: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(ValueError, match="line") as caught:
        read(path, "at", "took")
    assert said in str(caught.value)
