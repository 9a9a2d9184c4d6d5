"""Processes that follow a store."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from tests.kit.waiting import until
from tests.kit.workers import Worker

WORKER = Path(__file__).with_name("worker.py")


class Following(Worker):
    """One process that runs worker.py."""

    def __init__(self, store: str, directory: Path, **environ: str) -> None:
        kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
        given = {"RESILIENT_STORE": store, "RESILIENT_STATE_DIR": str(directory)}
        super().__init__(WORKER, {**kept, **given, **environ}, directory)

    def about(self) -> dict[str, Any]:
        """Return what its follower is at."""
        return json.loads(self.ask("about")) or {}

    def says(self, what: bool) -> None:
        """Wait until its flag says something."""
        until(lambda: self.ask("read") == str(what))


def looked(path: Path, *, whole: bool = True) -> list[str]:
    """Return what a child saw at first, and then, once it has."""
    wanted = 3 if whole else 1
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= wanted)
    return path.read_text().splitlines()
