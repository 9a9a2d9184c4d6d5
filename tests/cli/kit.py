"""What the tests of the command line share: the command itself, a Redis, and waiting."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

WAIT = 60.0  # no test waits longer for anything
CODES = range(8)


def until(condition: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait until a condition holds that no event tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.02)


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def unclean(text: str) -> list[str]:
    """Return what a terminal could take for more than text: all but printable and line ends."""
    return [c for c in text if not c.isprintable() and c != "\n"]


class Outcome:
    """What came of one run of the command."""

    def __init__(self, code: int, out: bytes, err: bytes, took: float) -> None:
        self.code = code
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")
        self.took = took

    @property
    def json(self) -> Any:
        """Return what it printed, as JSON and nothing else."""
        return json.loads(self.out, parse_constant=_no_constant)

    def said(self, code: int, *words: str, where: str = "") -> Outcome:
        """Check the exit code, and that the words were printed."""
        text = where or self.out + self.err
        assert self.code == code, self
        for word in words:
            assert word in text, (word, self)
        return self

    def __repr__(self) -> str:
        return f"<exit {self.code} in {self.took:.2f} s\n{self.out}\n{self.err}>"


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


class Cli:
    """The command, run as over ssh: no console, no input, next to no environment."""

    def __init__(self, store: str, home: Path) -> None:
        self.store = store
        self.home = home
        self.environ: dict[str, str] = {}

    def env(self, **more: str | None) -> dict[str, str]:
        """Return the environment of a run; None takes a variable out."""
        kept = {n: os.environ[n] for n in ("PATH", "PYTHONPATH") if n in os.environ}
        given: dict[str, str | None] = {
            **kept, "HOME": str(self.home), "USER": "ana", "RESILIENT_STORE": self.store,
            **self.environ, **more,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def start(self, *words: str | bytes, **more: str | None) -> subprocess.Popen[bytes]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "resilient.cli", *words],
            env=self.env(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __call__(self, *words: str | bytes, **more: str | None) -> Outcome:
        """Run the command to its end; it never breaks down, and prints nothing but text."""
        began = time.monotonic()
        return self.end(self.start(*words, **more), began)

    def end(self, process: subprocess.Popen[bytes], began: float | None = None) -> Outcome:
        """Wait for a command to end, and look at what it printed."""
        try:
            out, err = process.communicate(timeout=2 * WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        took = time.monotonic() - (began if began is not None else time.monotonic())
        outcome = Outcome(process.returncode, out, err, took)
        assert outcome.code in CODES, outcome
        assert "Traceback" not in outcome.err, outcome
        assert not unclean(outcome.out + outcome.err), ascii(outcome.out + outcome.err)
        return outcome

    def flip(self, *words: str, reason: str = "because", **more: str | None) -> Outcome:
        """Run a command that flips, with a reason; it waits for as long as a test does."""
        said = any(word.startswith("--wait") for word in words)
        wait = () if said else ("--wait", f"{WAIT:g}s")
        return self(*words, *wait, "--reason", reason, **more)

    def flag(self, name: str) -> dict[str, Any]:
        """Return what the list says of a flag."""
        rows: list[dict[str, Any]] = self("flags", "--json").said(0).json
        (row,) = [each for each in rows if each["flag"] == name]
        return row

    def applied_by(self, number: int, name: str = "recs") -> None:
        """Wait until so many processes follow, and have applied all there is."""
        until(lambda: self("flags", "--json").out.strip() != "[]")
        until(lambda: self.flag(name)["applied"] == self.flag(name)["processes"] == number)


class RedisServer:
    """A redis-server of the test's own, that keeps nothing."""

    def __init__(self, directory: Path, program: str, *more: str) -> None:
        self._command = [program, *more, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
                         "--dir", str(directory), "--daemonize", "no"]  # fmt: skip
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        self.process = subprocess.Popen([*self._command, "--port", str(self.port)], **quiet)  # type: ignore[call-overload]
        until(lambda: self.command("PING")[:1] in (b"+", b"-"))

    def command(self, *words: str) -> bytes:
        """Send it a command by itself, and return the beginning of the answer."""
        sent = f"*{len(words)}\r\n" + "".join(f"${len(w.encode())}\r\n{w}\r\n" for w in words)
        try:
            with socket.create_connection(("127.0.0.1", self.port), 2) as sock:
                sock.sendall(sent.encode())
                return sock.recv(65536)
        except OSError:
            return b""

    def signal(self, number: int) -> None:
        """Freeze it, or let it go on."""
        if self.process is not None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it as a crash does."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(WAIT)


def redis_program() -> str | None:
    """Return where redis-server is, None where there is none."""
    return shutil.which("redis-server")
