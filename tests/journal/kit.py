"""Stores that processes tell what happened, spoilt and taken away, and entries for them."""

from __future__ import annotations

import json
import os
import sqlite3
import time
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.servers.redis_server import RedisServer

WAIT = 60.0  # no test waits longer for anything
STREAM = "{resilient}:journal"


def until(condition: Any, seconds: float = WAIT) -> None:
    """Wait until a condition holds that no event tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.02)


def entry(number: int = 1, *, at: float | None = None, **more: Any) -> dict[str, Any]:
    """Return an entry as a process makes it."""
    made = {
        "process": "aa", "host": "web1", "pid": 7, "program": "gunicorn", "number": number,
        "at": time.time() if at is None else at, "times": 1, "kind": "opened", "policy": "shop",
        "flag": "", "guard": "circuit_breaker", "cause": "auto", "reason": "5 of 5 calls failed",
        "before": "closed", "after": "open", "evidence": {},
    }  # fmt: skip
    return made | more


class Kind:
    """One kind of store: opened again and again, and spoilt."""

    def __init__(self, name: str, path: Path, redis: RedisServer | None) -> None:
        self.name = name
        self.path = path / "flags.db"
        self.redis = redis
        self._memory = MemoryStore()
        self._made: list[Any] = []

    @property
    def setting(self) -> str:
        """What names it."""
        return f"sqlite:///{self.path}" if self.redis is None else self.redis.url

    def open(self) -> Any:
        """Return another handle on the same store."""
        if self.name == "memory":
            return self._memory
        made = SQLiteStore(str(self.path)) if self.redis is None else RedisStore(self.redis.url)
        self._made.append(made)
        return made

    def spoil(self, text: str | bytes) -> None:
        """Put something into the journal by other means."""
        if self.redis is not None:
            self.redis.send("XADD", STREAM, "*", "entry", text)
            self.redis.send("XADD", STREAM, "*", "something", "else")
            return
        with sqlite3.connect(self.path) as db:
            db.execute("INSERT INTO journal (at, entry) VALUES (?, ?)", (time.time(), text))
        db.close()

    def length(self) -> int:
        """Return how many entries it really holds."""
        if self.redis is not None:
            return int(self.redis.send("XLEN", STREAM)[1:].split(b"\r\n")[0])
        if self.name == "memory":
            return len(self._memory._journal)
        with sqlite3.connect(self.path) as db:
            (number,) = db.execute("SELECT count(*) FROM journal").fetchone()
        db.close()
        return int(number)

    def close(self) -> None:
        """Close every handle."""
        for made in self._made:
            made.close()


class Command:
    """The command line, run in this process."""

    def __init__(self, setting: str, home: Path) -> None:
        self.setting = setting
        self.environ = {"RESILIENT_STORE": setting, "RESILIENT_STATE_DIR": str(home / "state"),
                        "RESILIENT_RUNTIME_DIR": "off", "RESILIENT_BY": "ana"}  # fmt: skip

    def __call__(self, *words: str, code: int = 0) -> str:
        """Run it; return what it printed: text, and nothing that a terminal would obey."""
        from resilient.cli.commands import cli

        done = CliRunner(env=self.environ).invoke(cli, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        assert done.exit_code == code, (done.exit_code, done.output)
        odd = [c for c in done.output if not c.isprintable() and c != "\n"]
        assert not odd, ascii(done.output)
        return done.output

    def json(self, *words: str) -> Any:
        """Run it with --json; return the data."""
        return json.loads(self(*words, "--json"), parse_constant=_no_constant)


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


def root() -> str:
    """Return a PYTHONPATH with which processes find `tests`."""
    before, here = os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])
    return here if before is None else f"{before}{os.pathsep}{here}"
