"""A fleet of real processes that share one rate limit through a real Redis."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from types import TracebackType
from typing import Any, Self

CALLER = Path(__file__).with_name("caller.py")


class Fleet:
    """Processes that call as often as their limit lets them."""

    def __init__(self, processes: int, url: str, *, threads: int = 2, **limit: Any) -> None:
        environ = {**os.environ, "RESILIENT_STORE": url, "CALLER_LIMIT": json.dumps(limit)}
        self._made = [
            subprocess.Popen(
                [sys.executable, str(CALLER), str(threads)], env=environ, text=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            )
            for _ in range(processes)
        ]  # fmt: skip
        self.began: list[float] = []
        self.waits: list[float] = []

    def ready(self) -> None:
        """Wait until all have made a call."""
        for each in self._made:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"

    def begin(self, seconds: float) -> tuple[float, float]:
        """Have all begin; return from when until when they call."""
        until = time.monotonic() + seconds
        for each in self._made:
            assert each.stdin is not None
            each.stdin.write(f"{until}\n")
            each.stdin.flush()
        return time.monotonic(), until

    def end(self) -> None:
        """Wait for all, and take what they saw."""
        for each in self._made:
            told, _ = each.communicate(timeout=60)
            began, waits = json.loads(told)
            self.began += began
            self.waits += waits
        self.began.sort()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:  # fmt: skip
        for each in self._made:
            each.kill()
            each.wait()
            for pipe in (each.stdin, each.stdout):
                assert pipe is not None
                pipe.close()


def in_it(times: list[float], start: float, end: float) -> int:
    """Return how many lie between two times."""
    return sum(start <= each < end for each in times)


def excess(times: list[float], rate: float, burst: int) -> float:
    """Return by how many calls some interval has more than ``burst + rate * w``; 0 if none has."""
    least, most = float("inf"), 0.0
    for number, at in enumerate(times):
        least = min(least, number - rate * at)
        most = max(most, number + 1 - rate * at - least - burst)
    return most
