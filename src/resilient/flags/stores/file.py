"""The store that others write: a TOML or JSON file, from Git or a ConfigMap."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Generator
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from ... import validation
from ...admin.options import unknown
from ...errors import StoreError
from ...validation import clean
from ..flip import FLAG, FORCED, KEY, OPTION, Flip, checked_lever, checked_value, next_version
from ..local_copy import read_small
from .base import Process, Reading, ReadOnlyStoreError

LARGEST: Final = 2**20
_DIGITS: Final = 400
_TABLES: Final = ("flags", "policies", "options", "keys")
_WORDS: Final = ("state", "reason", "by", "until")


class FileStore:
    """Polls a file for flips. Operators change it at its source, not through this library.

    It compares contents, not times of change, so that it sees a swapped symbolic link and two edits
    within one tick of the clock.
    """

    writable = False

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._digest = b""
        self._flips: list[Flip] = []
        self._version: int = 0
        self._unread: dict[str, str] = {}

    def read(self, incarnation: str, version: int) -> Reading:
        now = time.time()
        try:
            content = read_small(self._path, LARGEST)
            digest = hashlib.sha256(content).digest()
            if digest != self._digest:
                self._flips = self._parsed(content, next_version(max(version, self._version), now))
                self._digest = digest
                self._version = max((flip.version for flip in self._flips), default=0)
                self._version = self._version or next_version(version, now)
        except (OSError, ValueError, TypeError, RecursionError, OverflowError) as error:
            raise StoreError(f"{self._path}: {error}") from None
        known = version == self._version and incarnation == "file"
        flips = None if known else self._flips
        return Reading(
            incarnation="file", version=self._version, now=now, flips=flips, whole=True,
            unread=self._unread,
        )  # fmt: skip

    def unreadable(self) -> list[str]:
        """Describe in words what can't be read in it."""
        return self.read("", -1).faults()

    def _parsed(self, content: bytes, version: int) -> list[Flip]:
        text = content.decode("utf-8-sig")
        if self._path.suffix == ".json":
            data = json.loads(text, object_pairs_hook=_without_twins, parse_int=_number)
        else:
            import tomllib

            data = tomllib.loads(text)
        if not isinstance(data, dict):
            validation.refuse_type("the file", data, f"a table of {', '.join(_TABLES)}")
        before = {flip.lever: flip for flip in self._flips}
        found, unread = list[Flip](), dict[str, str]()
        for flip in _flips(cast("dict[str, Any]", data), unread):
            old = before.get(flip.lever)
            same = old is not None and _order(old) == _order(flip)
            flip.version = old.version if same and old is not None else version
            flip.at = flip.version / 1000
            found.append(flip)
        # A lever whose entry is there but unreadable is not let go: it keeps its flip.
        there = {flip.lever for flip in found}
        hidden = [where for where in unread if "/" not in where]
        found += [
            flip
            for lever, flip in before.items()
            if lever not in there and (lever in unread or any(_is_in(lever, w) for w in hidden))
        ]
        self._unread = unread
        if all(flip.version != version for flip in found) and found:
            max(found, key=lambda flip: flip.version).version = version  # a lever was let go
        return found

    def hint(self, seconds: float) -> bool:
        time.sleep(seconds)
        return False

    def processes(self) -> tuple[list[Process], float]:
        return [], time.time()

    def log(self, lever: str | None, most: int) -> list[Flip]:
        return []

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        return None

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        return []

    def beat(self, process: Process, *, about: bool) -> None:
        return None

    def leave(self, id: str) -> bool:
        return False

    def restore(self, flips: list[Flip]) -> None:
        return None

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> NoReturn:
        raise ReadOnlyStoreError(
            f"{self._path} is read and never written: change it where it comes from (Git, a "
            "ConfigMap); every process reads it again within a second"
        )

    def close(self) -> None:
        return None


def _order(flip: Flip) -> tuple[object, ...]:
    return flip.value, flip.reason, flip.by, flip.until


def _is_in(lever: str, where: str) -> bool:
    """Return whether a lever may be in an unreadable part of the file."""
    table, _, rest = where.partition(".")
    head = {"flags": FLAG, "policies": FORCED, "options": OPTION, "keys": KEY}.get(table)
    return head is not None and lever.startswith(f"{head}/{rest.replace('.', '/', 1)}")


def _flips(data: dict[str, Any], unread: dict[str, str]) -> Generator[Flip]:
    """Yield the valid flips of a file; note the others, which must not block them."""
    for table in data:
        with _noted(clean(table), unread):
            if table not in _TABLES:
                unknown("the file has an unknown table", table, list(_TABLES))
    for kind, table in ((FLAG, "flags"), (FORCED, "policies")):
        for name, said in _rows(table, data.get(table, {}), unread):
            yield from _one(f"{kind}/{name}", said, unread)
    for policy, keys in _rows("keys", data.get("keys", {}), unread):
        for key, said in _rows(f"keys.{policy}", keys, unread):
            yield from _one(f"{KEY}/{policy}/{key}", said, unread)
    for policy, guards in _rows("options", data.get("options", {}), unread):
        for guard, options in _rows(f"options.{policy}", guards, unread):
            for option, value in _rows(f"options.{policy}.{guard}", options, unread):
                yield from _one(f"{OPTION}/{policy}/{guard}.{option}", {"state": value}, unread)


def _one(lever: str, said: object, unread: dict[str, str]) -> Generator[Flip]:
    with _noted(clean(lever), unread):
        yield _flip(lever, said)


def _rows(name: str, value: object, unread: dict[str, str]) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    with _noted(clean(name), unread):
        found += _table(name, value).items()
    return found


@contextmanager
def _noted(where: str, unread: dict[str, str]) -> Generator[None]:
    """Note an error of the body, and go on."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        unread[where[:200]] = clean(error)[:300]


def _flip(lever: str, said: object) -> Flip:
    checked_lever(lever)
    words: dict[str, Any] = {"state": said}
    if isinstance(said, dict):
        words = cast("dict[str, Any]", said)
    for word in words:
        if word not in _WORDS:
            unknown(f"{lever} has an unknown key", word, list(_WORDS))
    return Flip(
        lever,
        checked_value(lever, words.get("state")),
        by=validation.text("by", words.get("by", "the file")),
        reason=validation.text("reason", words.get("reason", "")),
        until=_moment(lever, words.get("until")),
    )


def _moment(lever: str, until: object) -> float | None:
    if until is None:
        return None
    from datetime import datetime

    allowed = "a date and time with its offset, such as 2027-03-01T14:30:00Z"
    try:
        moment = datetime.fromisoformat(until) if type(until) is str else until
    except ValueError:
        moment = None
    if not isinstance(moment, datetime) or moment.tzinfo is None:
        validation.refuse(f"{lever}: until", until, allowed)
    return moment.timestamp()


def _table(name: str, value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        validation.refuse_type(name, value, "a table")
    return cast("dict[str, Any]", value)


def _number(digits: str) -> float:
    return int(digits) if len(digits) < _DIGITS else nan  # no lever can have this version


def _without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands there twice")
    return found
