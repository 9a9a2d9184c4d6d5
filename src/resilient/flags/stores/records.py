"""Flips, processes and journal entries as read from a store, whose writers we can't trust."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from math import isfinite
from typing import Any, Final, NoReturn, cast

from ...validation import clean
from ..flip import HIGHEST, Flip
from .base import Process

_LATEST: Final = 1e11  # seconds since 1970
_WORDS_OF_ENTRIES: Final = (
    "policy", "flag", "guard", "cause", "reason", "before", "after", "process", "host", "program",
)  # fmt: skip
_OF_FLAG: Final[dict[str, Any]] = {
    "on": bool, "source": str, "default": bool, "owner": str, "impact": str,
    "review": (str, type(None)),
}  # fmt: skip
_OF_POLICY: Final[dict[str, Any]] = {
    "state": str, "owner": str, "impact": str, "tier": (int, type(None)),
}  # fmt: skip


def read_json(text: object) -> Any:
    """Return the plain and finite values of JSON text from an untrusted writer.

    Raises:
        ValueError: it is empty, or has what JSON excludes, such as NaN.
    """
    try:
        return json.loads(
            text if isinstance(text, (str, bytes)) else "",
            parse_constant=_no_number,
            parse_float=_finite,
        )
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"too deep, or too large: {type(error).__name__}") from None


def _no_number(word: str) -> NoReturn:
    raise ValueError(f"{word} is no number")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError("a number is too large")
    return number


def flips_in(
    rows: Iterable[tuple[object, Any]], read: Callable[[Any], Flip]
) -> tuple[list[Flip], dict[str, str]]:
    """Return the flips of some rows, and why the others are invalid; one must not block others."""
    found, unread = list[Flip](), dict[str, str]()
    for lever, field in rows:
        try:
            flip = read(field)
            if flip.lever != lever:
                raise ValueError(f"it says that it is of {flip.lever}")
            found.append(flip)
        except (ValueError, TypeError, AttributeError, OverflowError) as error:
            unread[clean(lever)[:200]] = clean(error)[:200]
    return found, unread


def process_of(
    id: object, who: object, about: object, *, applied: int, seen: float
) -> Process | None:
    """Return a process as stored, None if the record is invalid."""
    if type(id) is not str or not id or not (0 <= seen < _LATEST and 0 <= applied < HIGHEST):
        return None
    if not isinstance(who, dict) or not isinstance(about, dict):
        return None
    known = cast("dict[str, Any]", who)
    host, pid, program = known.get("host"), known.get("pid"), known.get("program")
    if type(host) is not str or type(pid) is not int or type(program) is not str:
        return None
    told = cast("dict[str, Any]", about)
    unmatched = told.get("unmatched")
    listed = cast("list[object]", unmatched) if isinstance(unmatched, list) else []
    stacks = told.get("stacks")
    read: dict[str, Any] = {
        "flags": _table(told.get("flags"), _OF_FLAG),
        "policies": _table(told.get("policies"), _OF_POLICY),
        "faults": _words(told.get("faults")),
        "unmatched": [str(each) for each in listed],
        "active": told.get("active") is not False,
        "core": str(told.get("core") or ""),
        "copy_error": str(told.get("copy_error") or ""),
        "stacks": stacks if isinstance(stacks, dict) else {},
    }
    for row in read["policies"].values():
        row["patches"] = _words(row.get("patches"))
    return Process(id, host=host, pid=pid, program=program, applied=applied, seen=seen, about=read)


def _words(given: object) -> dict[str, str]:
    rows = cast("dict[str, Any]", given) if isinstance(given, dict) else dict[str, Any]()
    return {name: str(value) for name, value in rows.items()}


def _table(given: object, columns: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the rows of a table that have every column with the right type."""
    rows = cast("dict[str, Any]", given) if isinstance(given, dict) else dict[str, Any]()
    found: dict[str, dict[str, Any]] = {}
    for name, row in rows.items():
        if isinstance(row, dict):
            cells = cast("dict[str, Any]", row)
            if all(isinstance(cells.get(word), kind) for word, kind in columns.items()):
                found[name] = cells
    return found


def entry_of(text: object) -> dict[str, Any] | None:
    """Return a journal entry as stored, None if the record is invalid."""
    try:
        known: dict[str, Any] = read_json(text)
        known["at"] = float(known["at"])
    except (ValueError, TypeError, KeyError, OverflowError):
        return None
    words = all(isinstance(known.get(word, ""), str) for word in _WORDS_OF_ENTRIES)
    right = type(known.get("kind")) is str and known["kind"] not in ("", "lever") and words
    sane = 0 < known["at"] < _LATEST and type(known.get("number", 0)) is int
    if not isinstance(known.get("evidence"), dict):
        known["evidence"] = {}
    return known if right and sane else None
