"""Stores that processes tell what happened, spoilt and taken away, and entries for them."""

from __future__ import annotations

import sqlite3
import time
from pathlib import Path
from typing import Any

from resilient.flags.stores.memory import MemoryStore
from resilient.flags.stores.redis import RedisStore
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.servers.redis_server import RedisServer

STREAM = "{resilient}:journal"


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
