"""The store of one host: a SQLite file that all its processes share."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from ...errors import StoreError
from ..flips import HIGHEST, Flip, flip_of, next_version
from ..forks import undisturbed
from ..mounts import network_file_system
from .base import ConflictError, Process, Reading, entry_of, process_of

BUSY: Final = 0.5  # seconds that one statement waits for another process's transaction
_LOOK: Final = 0.05  # seconds between two looks for a sign
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
# Made when it is first needed, so that processes of older versions can share the file.
_JOURNAL: Final = """
CREATE TABLE IF NOT EXISTS journal (
  number INTEGER PRIMARY KEY AUTOINCREMENT, at REAL NOT NULL, entry TEXT NOT NULL
)
"""
_HAS_JOURNAL: Final = "SELECT 1 FROM sqlite_master WHERE name = 'journal'"


class SQLiteStore:
    """Keeps flips in a file; a flip and its entry in the log are one transaction."""

    writable = True

    def __init__(self, path: str) -> None:
        self._path = path
        refuse_network(path)
        self._db: sqlite3.Connection | None = None
        self._file: tuple[int, int] | None = None  # the device and inode that is open
        self._seen: int = -1  # data_version at the last look
        self._known: tuple[str, int] = "", -1  # incarnation and version at the last reading
        undisturbed.close_before_fork(self)

    # -- the levers ---------------------------------------------

    def read(self, incarnation: str, version: int) -> Reading:
        with self._open(write=False) as db:
            if db is None:
                return Reading(incarnation="", version=0, now=time.time(), flips=[])
            self._seen = _data_version(db)
            db.execute("BEGIN")
            try:
                there, newest = self._known = _newest(db)
                flips = None
                if (incarnation, version) != (there, newest):
                    flips = _readable(db.execute("SELECT flip FROM levers"))
            finally:
                db.execute("COMMIT")
        return Reading(incarnation=there, version=newest, now=time.time(), flips=flips)

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
                f"SELECT flip FROM log {where} ORDER BY number DESC LIMIT ?",  # noqa: S608
                (*([] if lever is None else [lever]), most),
            )
            return _readable(rows)

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
        who = json.dumps({"host": process.host, "pid": process.pid, "program": process.program})
        with self._writing(durable=False) as db:  # a sign of life is soon given again
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
        with self._open(write=False) as db:
            rows = [] if db is None else db.execute("SELECT * FROM processes").fetchall()
        found: list[Process] = []
        for name, seen, applied, who, about in rows:
            try:
                told = json.loads(who), json.loads(about)
                process = process_of(name, *told, applied=int(applied), seen=float(seen))
            except (ValueError, TypeError, RecursionError):
                continue
            if process is not None:
                found.append(process)
        return found, time.time()

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
        """Tell whether a lever has changed: other processes' signs of life are no news."""
        with undisturbed:
            try:
                if self._db is None or _data_version(self._db) == self._seen:
                    return False
                self._seen = _data_version(self._db)
                return _newest(self._db) != self._known
            except sqlite3.Error:
                return False

    def close(self) -> None:
        db, self._db = self._db, None
        if db is not None:
            db.close()

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
        """Give a connection to the file that is there now, None where there is none to read."""
        with undisturbed:
            try:
                yield self._connected(write=write)
            except sqlite3.Error as error:
                self.close()
                raise StoreError(f"{self._path}: {error}") from error
            except (OSError, ValueError, TypeError) as error:
                raise StoreError(f"{self._path}: {error}") from error

    def _connected(self, *, write: bool) -> sqlite3.Connection | None:
        try:
            about = os.stat(self._path)
        except FileNotFoundError:
            self.close()
            if not write:
                return None
            about = None
        if about is not None and (about.st_dev, about.st_ino) != self._file:
            self.close()  # another file has taken the place of the one that was open
        if self._db is None:
            db = sqlite3.connect(
                self._path, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(db)
            except BaseException:
                db.close()
                raise
            about = os.stat(self._path)
            self._db, self._file, self._seen = db, (about.st_dev, about.st_ino), -1
        return self._db

    def _prepare(self, db: sqlite3.Connection) -> None:
        until = time.monotonic() + BUSY
        while True:
            try:
                self._set_up(db)
            except sqlite3.OperationalError:
                # Turning to WAL does not wait for another process that does so at this moment.
                if time.monotonic() >= until:
                    raise
                time.sleep(0.02)
            else:
                return

    def _set_up(self, db: sqlite3.Connection) -> None:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version > _SCHEMA_VERSION:
            raise ValueError(f"made by a newer version of resilient (schema {version})")
        if version == 0:
            db.execute("PRAGMA journal_mode = WAL")
            db.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} COMMIT;")


def _data_version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA data_version").fetchone()[0])


def _newest(db: sqlite3.Connection) -> tuple[str, int]:
    row = db.execute("SELECT incarnation FROM about").fetchone()
    newest = db.execute("SELECT max(version) FROM levers WHERE version < ?", (HIGHEST,)).fetchone()[
        0
    ]
    return "" if row is None else str(row[0]), newest or 0


def _flip_at(db: sqlite3.Connection, lever: str) -> Flip | None:
    row = db.execute("SELECT flip FROM levers WHERE lever = ?", (lever,)).fetchone()
    try:
        return None if row is None else flip_of(row[0])
    except ValueError:  # it is put right by the next flip
        return None


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


def _readable(rows: Any) -> list[Flip]:
    """Return the flips in some rows, without those that are none: they hold nobody else up."""
    found: list[Flip] = []
    for (text,) in rows:
        try:
            found.append(flip_of(text))
        except ValueError:
            continue
    return found


def refuse_network(path: str) -> None:
    """Raise a ValueError where a file would lie on a network file system, if that can be told."""
    kind = network_file_system(Path(path).parent)
    if kind:
        raise ValueError(
            f"store: {path} is on a network file system ({kind}), where SQLite's locks can't be "
            "trusted; use a path on a local disk, or redis:// for several hosts"
        )
