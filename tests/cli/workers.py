"""Processes that follow a store, each in a Python of its own."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from tests.cli.kit import WAIT, Cli

WORKER = Path(__file__).with_name("worker.py")


class Worker:
    """One process that runs worker.py."""

    def __init__(self, cli: Cli, **environ: str) -> None:
        self.errors = cli.home / f"stderr-{time.monotonic_ns()}"
        with open(self.errors, "wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(WORKER)],
                env=cli.env(**environ),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                bufsize=0,
            )
        self._rest = b""
        assert self._line() == "ready"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

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

    def ask(self, word: str) -> str:
        """Have it do something; return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(word.encode() + b"\n")
        return self._line()

    def kill(self) -> None:
        """End it without a goodbye."""
        self.process.kill()
        self.process.wait(WAIT)

    def stop(self) -> None:
        """Freeze it."""
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """Let it go on."""
        self.process.send_signal(signal.SIGCONT)

    def quit(self) -> None:
        """Have it end by itself."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(WAIT) == 0

    def close(self) -> None:
        """End it, whatever it is at."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                self.go_on()
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
