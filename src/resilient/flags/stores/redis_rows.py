"""Parsing of the fields of Redis: flips, processes, numbers; they may be invalid."""

from __future__ import annotations

from typing import Any, Final

from ..flip import HIGHEST, Flip, flip_of
from .base import Process
from .records import flips_in, process_of, read_json

_DIGITS: Final = len(str(HIGHEST)) - 1


def text_of(value: Any) -> str:
    """Return the text in a field; raise if it is not text."""
    return value.decode() if isinstance(value, bytes) else str(value)


def shown(value: Any) -> str:
    """Return a printable text for any field."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def flip_in(field: Any) -> Flip:
    """Return the flip in a field; raise if it is invalid."""
    version, at, until, text = text_of(field).split(" ", 3)
    decided = {
        "version": int(version),
        "at": float(at),
        "until": None if until == "-" else float(until),
    }
    return flip_of({**read_json(text), **decided})


def readable(lever: str, field: Any) -> Flip | None:
    """Return the flip in a lever's field, None if it is invalid."""
    found = flips_of([lever.encode()], [field])[0]
    return found[0] if found else None


def flips_of(keys: list[Any], fields: list[Any]) -> tuple[list[Flip], dict[str, str]]:
    """Return the flips of some fields, and why the others are invalid."""
    return flips_in(zip(map(shown, keys), fields, strict=True), flip_in)


def process_in(name: Any, beat: Any, told: Any) -> Process | None:
    """Return the process that two fields describe, None if they are invalid."""
    try:
        seen, applied = text_of(beat).split(" ")
        who = read_json(told)
        return process_of(text_of(name), who, who["about"], applied=int(applied), seen=float(seen))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def version_in(said: str, flips: list[Flip] | None) -> int:
    """Return the version of the newest flip; if the field is invalid, take it from the flips."""
    if said.isascii() and said.isdigit() and len(said) <= _DIGITS:
        return int(said)
    return max((flip.version for flip in flips or ()), default=0)


def seconds_in(said: str) -> float:
    """Return the seconds in a text, 0 if it has none."""
    return float(said) if said.isascii() and said.isdigit() and len(said) < _DIGITS else 0.0
