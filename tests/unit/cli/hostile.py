"""A store that somebody has tampered with: rows that no command would write."""

from __future__ import annotations

import json
import sqlite3
import time
from pathlib import Path
from typing import Any

EVIL = "\x1b[2J\x1b]0;owned\x07red\r\u202egnp.\u2066\x9b31m\x00\x7f\u2028\ud800 end"
FORGED = "x\napplied by 8 of 8 processes in 0.1 s"


def put(path: Path, key: str, **more: Any) -> None:
    """Write a flip, and its entry in the log, by raw SQL."""
    flip = {
        "lever": key, "value": "off", "by": "ana", "reason": "because", "at": time.time(),
        "until": None, "version": int(time.time() * 1000), "request": "", "boot": "", "due": None,
        **more,
    }  # fmt: skip
    text = json.dumps(flip)
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT OR REPLACE INTO levers VALUES (?, ?, ?, ?)", (key, flip["version"], "", text)
        )
        db.execute("INSERT INTO log (lever, flip) VALUES (?, ?)", (key, text))
    db.close()


def join(path: Path, id: str, **more: Any) -> None:
    """Write a process by raw SQL."""
    row = {
        "seen": time.time(), "applied": 0, "who": ["host", 1, "program"], "about": {}, **more
    }  # fmt: skip
    if isinstance(row["who"], list) and len(row["who"]) == 3:
        row["who"] = dict(zip(("host", "pid", "program"), row["who"], strict=True))
    who, about = (v if isinstance(v, str) else json.dumps(v) for v in (row["who"], row["about"]))
    with sqlite3.connect(path) as db:
        db.execute(
            "INSERT OR REPLACE INTO processes VALUES (?, ?, ?, ?, ?)",
            (id, row["seen"], row["applied"], who, about),
        )
    db.close()


def about(words: str) -> dict[str, Any]:
    """Return what a process may say of itself, with these words in every place."""
    flag = {"on": True, "source": words, "default": True, "owner": words, "impact": words,
            "review": words}  # fmt: skip
    policy = {"state": words, "forced": None, "owner": words, "tier": 1, "impact": words}
    return {
        "flags": {"recs": flag}, "policies": {"shop": policy}, "faults": {"flag/recs": words},
        "unmatched": [words], "copy_error": words,
    }  # fmt: skip
