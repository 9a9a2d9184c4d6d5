"""A recorded trace: when calls came, and how long the service took for each."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from math import isfinite, nan
from pathlib import Path
from typing import Any, cast

from .. import validation


@dataclass(frozen=True, slots=True)
class Trace:
    """A recorded trace; empty where the scenario has none.

    Attributes:
        at: when each call came, in seconds since the first.
        seconds: how long the service took for each, in the same order.
    """

    at: tuple[float, ...] = ()
    seconds: tuple[float, ...] = ()


def read(path: Path, at: str | None, seconds: str | None) -> Trace:
    """Return the trace in a file: JSON lines where it ends in .jsonl or .json, else CSV.

    Args:
        path: the file.
        at: the column of arrivals: seconds, or dates of ISO 8601; None leaves them out.
        seconds: the column of service times, in seconds; None leaves them out.

    Raises:
        OSError: the file can't be read.
        ValueError: a line lacks a column, or has no number there.
    """
    rows: list[tuple[float, float]] = []
    for line, row in _rows(path):
        where = f"{path.name}, line {line}"
        came = 0.0 if at is None else _moment(where, at, _cell(where, row, at))
        took = 0.0 if seconds is None else _number(where, seconds, _cell(where, row, seconds))
        if took < 0:
            raise ValueError(f"{where}: {seconds} must be >= 0; got {took}")
        rows.append((came, took))
    if not rows:
        raise ValueError(f"{path.name}: a trace has at least one line")
    rows.sort(key=lambda row: row[0])  # stable: without arrivals the order of the lines stays
    first = rows[0][0]
    return Trace(
        tuple(came - first for came, _ in rows) if at is not None else (),
        tuple(took for _, took in rows) if seconds is not None else (),
    )


def _rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8", newline="") as file:
        if path.suffix in (".json", ".jsonl", ".ndjson"):
            yield from _objects(path.name, file)
        else:
            reader = csv.DictReader(file)
            for row in reader:
                yield reader.line_num, row


def _objects(name: str, lines: Iterable[str]) -> Iterator[tuple[int, dict[str, Any]]]:
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                found = json.loads(line)
            except ValueError as error:
                raise ValueError(f"{name}, line {number}: not JSON: {error}") from None
            if not isinstance(found, dict):
                raise ValueError(f"{name}, line {number}: must be an object; got {line.strip()}")
            yield number, found


def _cell(where: str, row: dict[str, Any], column: str) -> object:
    if column not in row:
        known = [str(name) for name in row]
        hint = validation.did_you_mean(column, known) or "."
        raise ValueError(f"{where}: no column {column!r}{hint} There is: {', '.join(known)}")
    return row[column]


def _number(where: str, column: str, value: object, allowed: str = "a number") -> float:
    try:
        found = nan if isinstance(value, bool) else float(cast("Any", value))
    except (TypeError, ValueError):
        found = nan
    if not isfinite(found):
        raise ValueError(f"{where}: {column} must be {allowed}; got {validation.shown(value)}")
    return found


def _moment(where: str, column: str, value: object) -> float:
    # "20260301" is a number of seconds: only what has a dash or a colon is tried as a date.
    if isinstance(value, str) and ("-" in value[1:] or ":" in value):
        try:
            date = datetime.fromisoformat(value.strip())
        except ValueError:
            pass
        else:  # local time would repeat an hour in autumn
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    return _number(where, column, value, "a number of seconds or a date of ISO 8601")
