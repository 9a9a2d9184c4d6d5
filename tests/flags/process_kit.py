"""Processes that follow a store, each in a Python of its own."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.flags.kit import WAIT, until

HERE = Path(__file__).parent


class Worker:
    """One process that runs worker.py."""

    def __init__(self, store: str, directory: Path, **environ: str) -> None:
        kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
        self.errors = directory / f"stderr-{time.monotonic_ns()}"
        self._stderr = open(self.errors, "wb")
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            env={
                **kept,
                "RESILIENT_STORE": store,
                "RESILIENT_STATE_DIR": str(directory),
                **environ,
            },
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._stderr,
            bufsize=0,
        )
        self._rest = b""
        assert self._line() == "ready"

    def _line(self) -> str:
        assert self.process.stdout is not None
        end = time.monotonic() + WAIT
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            ready, _, _ = select.select([self.process.stdout], [], [], left)
            assert ready, "the worker hangs"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, f"the worker ended: {self.errors.read_text()[-2000:]}"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return line.decode()

    def ask(self, *words: object) -> str:
        """Have it do something; return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        return self._line()

    def about(self) -> dict[str, Any]:
        """Return what its follower is at."""
        return json.loads(self.ask("about")) or {}

    def says(self, what: bool) -> None:
        """Wait until its flag says something."""
        until(lambda: self.ask("read") == str(what))

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def quit(self) -> None:
        """Have it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(WAIT)

    def close(self) -> None:
        """End it, whatever it is at."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait(WAIT)
        for stream in (self.process.stdin, self.process.stdout, self._stderr):
            with contextlib.suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]


def looked(path: Path, *, whole: bool = True) -> list[str]:
    """Return what a child saw at first, and then, once it has."""
    wanted = 3 if whole else 1
    until(lambda: path.exists() and len(path.read_text().splitlines()) >= wanted)
    return path.read_text().splitlines()
