"""What lies in the fields of Redis: flips, processes, numbers; also where it is none of these."""

from __future__ import annotations

from typing import Any, Final

from ..flip import HIGHEST, Flip, flip_of
from .base import Process
from .records import flips_in, process_of, read_json

_DIGITS: Final = len(str(HIGHEST)) - 1


def text_of(value: Any) -> str:
    """Return the text in a field; raise where it is none."""
    return value.decode() if isinstance(value, bytes) else str(value)


def shown(value: Any) -> str:
    """Return a text also of what is none."""
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def flip_in(field: Any) -> Flip:
    """Return the flip in a field; raise where it is none."""
    version, at, until, text = text_of(field).split(" ", 3)
    decided = {
        "version": int(version),
        "at": float(at),
        "until": None if until == "-" else float(until),
    }
    return flip_of({**read_json(text), **decided})


def readable(lever: str, field: Any) -> Flip | None:
    """Return the flip in a field of a lever, None where it is none."""
    found = flips_of([lever.encode()], [field])[0]
    return found[0] if found else None


def flips_of(keys: list[Any], fields: list[Any]) -> tuple[list[Flip], dict[str, str]]:
    """Return the flips in some fields, and why others are none."""
    return flips_in(zip(map(shown, keys), fields, strict=True), flip_in)


def process_in(name: Any, beat: Any, told: Any) -> Process | None:
    """Return the process that two fields tell of, None where they do not."""
    try:
        seen, applied = text_of(beat).split(" ")
        who = read_json(told)
        return process_of(text_of(name), who, who["about"], applied=int(applied), seen=float(seen))
    except (ValueError, TypeError, KeyError, OverflowError):
        return None


def version_in(said: str, flips: list[Flip] | None) -> int:
    """Return the version of the newest flip; of a field that is none, by the flips themselves."""
    if said.isascii() and said.isdigit() and len(said) <= _DIGITS:
        return int(said)
    return max((flip.version for flip in flips or ()), default=0)


def seconds_in(said: str) -> float:
    """Return the seconds in a text, 0 where they are none."""
    return float(said) if said.isascii() and said.isdigit() and len(said) < _DIGITS else 0.0
