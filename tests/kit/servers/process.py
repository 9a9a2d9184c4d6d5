"""A real server on the loopback that a test freezes, kills and brings back on the same port."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any, Self

import pytest

from tests.kit.servers import tree
from tests.kit.waiting import until

HOST = "127.0.0.1"
READY = 60.0  # seconds in which a server must answer
PORTS = 3  # ports that are tried before a server is given up
_TAIL = 4000  # characters of the log that an error holds


class ServerError(RuntimeError):
    """A server did not start."""


def reserve() -> socket.socket:
    """Bind a port that nobody has, and let only those bind it who set SO_REUSEADDR, as servers do.

    While this socket is open no connection gets the port as its own end, so that neither another
    program nor a client that connects to itself is there when the server is not.
    """
    held = socket.socket()
    held.bind((HOST, 0))
    held.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    return held


def needed(found: str | None, what: str, variable: str) -> str:
    """Return the program that was found, or skip, or fail where the variable asks for it."""
    if found is None:
        if os.environ.get(variable) == "1":
            pytest.fail(f"{what}, and {variable}=1 asks for one")
        pytest.skip(what)
    return found


class ServerProcess:
    """Start a server, and end it and all its processes with the test process at the latest."""

    name = "server"

    def __init__(self) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix=f"resilient-{self.name}-"))
        self.log = self.directory / "log.txt"
        self.process: subprocess.Popen[bytes] | None = None
        self.frozen = False
        self._held: socket.socket | None = None
        self._watcher: subprocess.Popen[bytes] | None = None
        self._port = 0

    # What a kind of server says of itself.

    def command(self) -> list[str]:
        """Return the command that starts the server."""
        raise NotImplementedError

    def options(self) -> dict[str, Any]:
        """Return more arguments of Popen."""
        return {}

    def prepare(self) -> None:
        """Do what has to be done once, before the first start."""

    def answers(self) -> bool:
        """Say whether the server answers; raises OSError or returns False where it does not."""
        with socket.create_connection((HOST, self.port), 1):
            return True

    def clear(self) -> None:
        """Take away what tests before have left in the server."""

    # What a test does.

    @property
    def port(self) -> int:
        """The port, the same for the server's whole life."""
        assert self._port, "the server was never started"
        return self._port

    @property
    def address(self) -> str:
        """Host and port."""
        return f"{HOST}:{self.port}"

    @property
    def running(self) -> bool:
        """Whether there is a process, frozen or not."""
        return self.process is not None and self._ended() is None

    def start(self) -> Self:
        """Start the server, and wait until it answers."""
        assert self.process is None, f"{self.name} runs already"
        first = self._watcher is None
        if first:
            self._begin()
        for left in reversed(range(PORTS)):
            try:
                self._launch()
            except ServerError as error:
                if not left or "in use" not in str(error):
                    raise
                if first:  # nobody knows the port yet
                    self._choose()
            else:
                return self
        raise AssertionError("not reached")

    def stop(self) -> None:
        """Freeze every process: connections are taken by the kernel, and nothing is answered."""
        assert self.process is not None, f"{self.name} does not run"
        self.frozen = True
        tree.freeze(self.process.pid)

    def cont(self) -> None:
        """Let it go on."""
        if self.process is not None:
            tree.thaw(self.process.pid)
        self.frozen = False

    def kill(self) -> None:
        """End every process at once, as a crash does: from then on the port refuses."""
        process, self.process = self.process, None
        self.frozen = False
        if process is None:
            return
        pids = tree.kill(process.pid)  # its own id is kept until it is waited for
        self._tell("")
        process.wait(READY)
        until(lambda: not tree.alive(pids), f"{self.name}: processes {pids} did not end")

    def restart(self) -> None:
        """Kill it if it runs, and start it on the same port."""
        self.kill()
        self.start()

    def revive(self) -> None:
        """Make it answer, whatever was done to it."""
        if not self.running:
            self.restart()
        elif self.frozen:
            self.cont()
            until(self._answered, f"{self.name} does not answer any more")

    def close(self) -> None:
        """End it, and remove its files; it can not be started again."""
        try:
            self.kill()
        finally:
            self._remove()

    def __enter__(self) -> Self:
        try:
            return self.start()
        except BaseException:
            self.close()
            raise

    def __exit__(self, *_: object) -> None:
        self.close()

    # How it is done.

    def _begin(self) -> None:
        """Get the port, the process that watches over this one, and what the server needs."""
        self._choose()
        self._watcher = subprocess.Popen(
            [sys.executable, "-I", "-S", tree.__file__, str(self.directory)],
            stdin=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.prepare()

    def _choose(self) -> None:
        """Take a port that is free."""
        if self._held is not None:
            self._held.close()
        self._held = reserve()
        self._port = int(self._held.getsockname()[1])

    def _launch(self) -> None:
        """Start the process, and wait until it answers."""
        self.log.write_bytes(b"")
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self.command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **self.options(),
            )
        self._tell(str(self.process.pid))
        try:
            until(self._answered, f"it did not answer in {READY:g} s", seconds=READY)
        except BaseException as error:
            said = self.log.read_text(errors="replace")[-_TAIL:]
            self.kill()
            if not isinstance(error, (OSError, ServerError, AssertionError)):
                raise
            raise ServerError(f"{self.name} did not start: {error}\n{said}") from error

    def _answered(self) -> bool:
        assert self.process is not None
        ended = self._ended()
        if ended is not None:
            raise ServerError(f"it ended with {ended}")
        try:
            return self.answers()
        except OSError:
            return False

    def _ended(self) -> int | None:
        """Return how the process has ended, if it has; its id stays taken until it is killed."""
        assert self.process is not None
        flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
        seen = os.waitid(os.P_PID, self.process.pid, flags)
        return None if seen is None else seen.si_status

    def _tell(self, pid: str) -> None:
        """Tell the watcher which process to kill when this one ends."""
        if self._watcher is not None and self._watcher.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                self._watcher.stdin.write(f"{pid}\n".encode())

    def _remove(self) -> None:
        """Let go of the watcher, the port and the files."""
        watcher, self._watcher = self._watcher, None
        if watcher is not None and watcher.stdin is not None:
            watcher.stdin.close()
            watcher.wait(READY)
        if self._held is not None:
            self._held.close()
            self._held = None
        tree.free_memory(str(self.directory))
        shutil.rmtree(self.directory, ignore_errors=True)
