"""A process of an application, in a Python of its own, that a test tells what to do."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.kit.paths import ROOT
from tests.kit.waiting import WAIT


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def python_path() -> str:
    """Return a PYTHONPATH with which a process finds `tests`."""
    before = os.environ.get("PYTHONPATH")
    return str(ROOT) if before is None else f"{ROOT}{os.pathsep}{before}"


class Worker:
    """A process that says "ready", and then answers each line of its input with one line."""

    def __init__(self, script: Path, environ: Mapping[str, str], home: Path) -> None:
        self.errors = home / f"stderr-{time.monotonic_ns()}"
        with self.errors.open("wb") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, str(script)],
                env=environ,
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

    def ask(self, *words: object) -> Any:
        """Have it do something; return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        return self._line()

    def kill(self) -> None:
        """End it without a goodbye."""
        self.process.kill()
        self.process.wait(WAIT)

    def stop(self) -> None:
        """Freeze it."""
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
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
                self.cont()
            self.kill()
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError, AttributeError):
                stream.close()  # type: ignore[union-attr]
