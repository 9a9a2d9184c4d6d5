"""The store of one host: a SQLite file that all its processes share."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ...validation import clean
from ..filesystems import network_file_system
from ..flip import HIGHEST, Flip, flip_of, next_version
from ..fork_exclusion import undisturbed
from .base import ConflictError, Process, Reading
from .records import entry_of, flips_in, process_of, read_json
from .sqlite_file import SQLiteFile

_LOOK: Final = 0.05  # seconds between two checks for changes
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS about (incarnation TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS levers (
  lever TEXT PRIMARY KEY, version INTEGER NOT NULL, request TEXT NOT NULL, flip TEXT NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS levers_version ON levers (version);
CREATE TABLE IF NOT EXISTS log (
  number INTEGER PRIMARY KEY AUTOINCREMENT, lever TEXT NOT NULL, flip TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS log_lever ON log (lever);
CREATE TRIGGER IF NOT EXISTS log_is_kept BEFORE DELETE ON log
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TRIGGER IF NOT EXISTS log_is_unchanged BEFORE UPDATE ON log
  BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END;
CREATE TABLE IF NOT EXISTS processes (
  id TEXT PRIMARY KEY, seen REAL NOT NULL, applied INTEGER NOT NULL, who TEXT NOT NULL,
  about TEXT NOT NULL
) WITHOUT ROWID;
INSERT INTO about SELECT lower(hex(randomblob(16))) WHERE NOT EXISTS (SELECT 1 FROM about);
PRAGMA user_version = 1;
"""
_SCHEMA_VERSION: Final = 1
# Created on first use, so that processes of older versions can share the file.
_JOURNAL: Final = """
CREATE TABLE IF NOT EXISTS journal (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, entry TEXT NOT NULL
)
"""
_PROCESSES: Final = "SELECT id, seen, applied, who, about FROM processes"
_NEWEST: Final = """
SELECT max(version) FROM levers WHERE typeof(version) = 'integer' AND version BETWEEN 0 AND ? - 1
"""
_HAS_JOURNAL: Final = "SELECT 1 FROM sqlite_master WHERE name = 'journal'"


class SQLiteStore:
    """Keeps flips in a file; a flip and its log entry are one transaction."""

    writable = True

    def __init__(self, path: str) -> None:
        self._path = path
        refuse_network(path)
        self._file = SQLiteFile(path, _set_up)
        self._file.belongs_to(self)
        self._seen: int = -1  # data_version at the last check
        self._known: tuple[str, int] = "", -1  # incarnation and version at the last reading

    @property
    def _db(self) -> sqlite3.Connection | None:
        return self._file.db

    # -- the levers ---------------------------------------------

    def read(self, incarnation: str, version: int) -> Reading:
        with self._open(write=False) as db:
            if db is None:
                return Reading(incarnation="", version=0, now=time.time(), flips=[])
            self._seen = _data_version(db)
            db.execute("BEGIN")
            try:
                there, newest = self._known = _newest(db)
                flips, unread = None, dict[str, str]()
                if (incarnation, version) != (there, newest):
                    flips, unread = flips_in(db.execute("SELECT lever, flip FROM levers"), flip_of)
            finally:
                db.execute("COMMIT")
        return Reading(
            incarnation=there, version=newest, now=time.time(), flips=flips, unread=unread
        )

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        return self.flip_all([flip], lasts, [expected])[0]

    def flip_all(
        self, flips: list[Flip], lasts: float | None, expected: Sequence[int | None]
    ) -> list[Flip]:
        with self._writing() as db:
            there = [_flip_at(db, flip.lever) for flip in flips]
            first = there[0]
            if first is not None and flips[0].request and first.request == flips[0].request:
                return [flip for flip in there if flip is not None]
            for flip, known, at in zip(flips, there, expected, strict=True):
                if at is not None and at != (known.version if known is not None else 0):
                    raise ConflictError(known or Flip(flip.lever, "released"))
            return [_made(db, flip, lasts) for flip in flips]

    def restore(self, flips: list[Flip]) -> None:
        with self._writing() as db:
            for flip in flips:
                there = _flip_at(db, flip.lever)
                if there is None or there.version < flip.version:
                    _put(db, flip)

    def log(self, lever: str | None, most: int) -> list[Flip]:
        where = "" if lever is None else "WHERE lever = ?"
        with self._open(write=False) as db:
            if db is None:
                return []
            rows = db.execute(
                f"SELECT lever, flip FROM log {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
                (*([] if lever is None else [lever]), most),
            )
            return flips_in(rows, flip_of)[0]

    # -- the journal ---------------------------------------------

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        with self._writing(durable=False) as db:
            db.execute(_JOURNAL)
            rows = [(entry["at"], json.dumps(entry)) for entry in entries]
            db.executemany("INSERT INTO journal (at, entry) VALUES (?, ?)", rows)
            newest = db.execute("SELECT max(number) FROM journal").fetchone()[0]
            db.execute("DELETE FROM journal WHERE number <= ?", ((newest or 0) - most,))

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        with self._open(write=False) as db:
            if db is None or not db.execute(_HAS_JOURNAL).fetchone():
                return []
            rows = db.execute(
                "SELECT entry FROM journal WHERE at >= ? ORDER BY at DESC, number DESC LIMIT ?",
                (since, most),
            ).fetchall()
        found = [entry_of(text) for (text,) in reversed(rows)]
        return [entry for entry in found if entry is not None]

    # -- the processes ---------------------------------------------

    def beat(self, process: Process, *, about: bool) -> None:
        who = json.dumps(process.who())
        with self._writing(durable=False) as db:  # the next heartbeat repeats it soon
            told = [time.time(), process.applied]
            done = db.execute(
                "UPDATE processes SET seen = ?, applied = ? WHERE id = ?", (*told, process.id)
            )
            if about or not done.rowcount:
                db.execute(
                    "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)",
                    (process.id, *told, who, json.dumps(process.about)),
                )

    def processes(self) -> tuple[list[Process], float]:
        return self._processes()[0], time.time()

    def unreadable(self) -> list[str]:
        """Describe in words what can't be read, or can't be written from here."""
        found = self.read("", -1).faults()
        why = self._file.why_read_only()
        return [*found, *self._processes()[1], *([why] if why else [])]

    def _processes(self) -> tuple[list[Process], list[str]]:
        with self._open(write=False) as db:
            rows = [] if db is None else db.execute(_PROCESSES).fetchall()
        found, bad = list[Process](), list[str]()
        for name, seen, applied, who, about in rows:
            process = None
            with contextlib.suppress(ValueError, TypeError, OverflowError):
                told = read_json(who), read_json(about)
                process = process_of(name, *told, applied=int(applied), seen=float(seen))
            if process is None:
                bad.append(f"process {clean(name)[:50]} can't be read")
            else:
                found.append(process)
        return found, bad

    def leave(self, id: str) -> bool:
        with self._writing() as db:
            return db.execute("DELETE FROM processes WHERE id = ?", (id,)).rowcount > 0

    # -- the file ---------------------------------------------

    def hint(self, seconds: float) -> bool:
        until = time.monotonic() + seconds
        while True:
            if self._moved():
                return True
            left = until - time.monotonic()
            if left <= 0:
                return False
            time.sleep(min(left, _LOOK))

    def _moved(self) -> bool:
        """Return whether a lever has changed; other processes' heartbeats do not count."""
        with contextlib.suppress(sqlite3.Error, TimeoutError), undisturbed:
            if self._db is None or _data_version(self._db) == self._seen:
                return False
            self._seen = _data_version(self._db)
            return _newest(self._db) != self._known
        return False

    def close(self) -> None:
        with contextlib.suppress(TimeoutError), undisturbed:
            self._file.close()

    @contextmanager
    def _writing(self, *, durable: bool = True) -> Generator[sqlite3.Connection]:
        with self._open(write=True) as db:
            assert db is not None
            db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                if db.in_transaction:
                    db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    @contextmanager
    def _open(self, *, write: bool) -> Generator[sqlite3.Connection | None]:
        """Yield a connection to the current file, None if there is none to read."""
        with self._file.opened(write=write) as db:
            if db is not None and self._file.fresh:
                self._seen, self._file.fresh = -1, False
            yield db


def _set_up(db: sqlite3.Connection, *, write: bool) -> bool:
    """Create missing tables if allowed; return whether the tables exist."""
    version = db.execute("PRAGMA user_version").fetchone()[0]
    if version > _SCHEMA_VERSION:
        raise ValueError(f"made by a newer version of resilient (schema {version})")
    if version == 0 and write:
        db.execute("PRAGMA journal_mode = WAL")
        db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")
    return version != 0 or write


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _newest(db: sqlite3.Connection) -> tuple[str, int]:
    row = db.execute("SELECT incarnation FROM about").fetchone()
    newest = db.execute(_NEWEST, (HIGHEST,)).fetchone()[0]
    return "" if row is None else str(row[0]), newest or 0


def _flip_at(db: sqlite3.Connection, lever: str) -> Flip | None:
    row = db.execute("SELECT flip FROM levers WHERE lever = ?", (lever,)).fetchone()
    try:
        there = None if row is None else flip_of(row[0])
    except ValueError:  # the next flip repairs it
        return None
    return there if there is not None and there.lever == lever else None


def _made(db: sqlite3.Connection, flip: Flip, lasts: float | None) -> Flip:
    now = time.time()
    made = flip_of(flip.as_data())
    made.version, made.at = next_version(_newest(db)[1], now), now
    made.until = None if lasts is None else now + lasts
    _put(db, made)
    return made


def _put(db: sqlite3.Connection, flip: Flip) -> None:
    text = flip.as_json()
    db.execute(
        "INSERT OR REPLACE INTO levers VALUES (?, ?, ?, ?)",
        (flip.lever, flip.version, flip.request, text),
    )
    db.execute("INSERT INTO log (lever, flip) VALUES (?, ?)", (flip.lever, text))


def refuse_network(path: str) -> None:
    """Raise a ValueError if a file would be on a network file system, as far as can be known."""
    kind = network_file_system(Path(path).parent)
    if kind:
        raise ValueError(
            f"store: {path} is on a network file system ({kind}), where SQLite's locks can't be "
            "trusted; use a path on a local disk, or redis:// for several hosts"
        )
