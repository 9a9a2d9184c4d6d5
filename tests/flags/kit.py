"""What the tests of flags share: a Redis of their own, followers driven by hand, and waiting."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from resilient.flags.declared import Flags
from resilient.flags.flips import Flip
from resilient.flags.follower import Follower
from resilient.flags.local_copy import LocalCopy
from resilient.flags.orders import Orders
from resilient.flags.presence import Presence
from resilient.flags.state import State

WAIT = 60.0  # no test waits longer for anything
TURN = 30.0  # seconds: a turn of a follower takes about one at most; what never ends takes longer


def until(condition: Callable[[], object], seconds: float = WAIT) -> None:
    """Wait until a condition holds that no event tells of."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "the condition never came to hold"
        time.sleep(0.005)


def free_port() -> int:
    """Return a port of the loopback that nobody listens at."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    """Fail where the body takes longer."""
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    assert took <= seconds, f"took {took:.2f} s, and may take {seconds} s"


def together(number: int, fn: Callable[[int], Any]) -> list[Any]:
    """Call fn(0), fn(1), ... in threads that start at once; return values or exceptions."""
    barrier = threading.Barrier(number)
    ends: list[Any] = [None] * number

    def body(place: int) -> None:
        try:
            barrier.wait(WAIT)
            ends[place] = fn(place)
        except Exception as error:
            ends[place] = error

    threads = [threading.Thread(target=body, args=(n,), daemon=True) for n in range(number)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(3 * WAIT)
        assert not thread.is_alive(), "a thread hangs"
    return ends


def open_files() -> int:
    """Return how many file descriptors this process has open."""
    return len(os.listdir("/proc/self/fd"))


def off(name: str, *, by: str = "ann", request: str = "", value: Any = "off") -> Flip:
    """Return an order for a flag, as nobody has recorded it yet."""
    return Flip(f"flag/{name}", value, by=by, reason="vendor down", request=request)


class Hand:
    """One follower that the test drives turn by turn, and all that belongs to it."""

    def __init__(
        self,
        opener: Callable[[], Any],
        directory: Path | None,
        *names: str,
        now: Callable[[], float] = time.monotonic,
        default: bool = True,
    ) -> None:
        self.flags = Flags(environ={})
        self.state = State(self.flags, now)
        self.flags.on_declared = self.state.declared
        self.copy = None if directory is None else LocalCopy(directory)
        self.presence = Presence(directory)
        self.orders = Orders(self.state)
        self.opened: list[Any] = []

        def opening() -> Any:
            self.opened.append(opener())
            return self.opened[-1]

        self.follower = Follower(self.state, self.orders, opening, self.copy, self.presence)
        self.made = {name: self.flags.declare(name, default=default) for name in names}
        self.state.read(fresh=False)

    def load(self) -> None:
        """Take in the local copy, as a process does that begins."""
        there = self.copy.load() if self.copy is not None else None
        if there is not None:
            self.state.adopt(there.flips, time.time())

    def turn(self, seconds: float = TURN) -> None:
        """Make one turn, which may last so long."""
        with within(seconds):
            self.follower.turn()

    def says(self, name: str) -> bool:
        """Return what a flag says."""
        return bool(self.made[name])

    def close(self) -> None:
        """Let go of the store and of the lock."""
        for store in self.opened:
            store.close()
        self.presence.leave()


class RedisServer:
    """A redis-server of the test's own, that keeps nothing."""

    def __init__(self, directory: Path, program: str) -> None:
        self._program = program
        self._directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it, and wait until it answers."""
        self.process = subprocess.Popen(
            [
                self._program, "--port", str(self.port), "--bind", "127.0.0.1", "--save", "",
                "--appendonly", "no", "--dir", str(self._directory), "--daemonize", "no",
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        until(self._answers)

    def _answers(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, "redis-server ended"
        try:
            with socket.create_connection(("127.0.0.1", self.port), 0.5) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(16).startswith(b"+PONG")
        except OSError:
            return False

    def command(self, *words: str | bytes) -> bytes:
        """Send it a command by itself, and return the beginning of the answer."""
        parts = [word.encode() if isinstance(word, str) else word for word in words]
        sent = b"*%d\r\n" % len(parts)
        sent += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
        with socket.create_connection(("127.0.0.1", self.port), 2) as sock:
            sock.sendall(sent)
            return sock.recv(65536)

    def flush(self) -> None:
        """Empty it."""
        assert self.command("FLUSHALL").startswith(b"+OK")

    def kill(self) -> None:
        """End it as a crash does."""
        process, self.process = self.process, None
        if process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
            process.kill()
            process.wait(WAIT)

    def restart(self) -> None:
        """Kill it, and start it again, empty, at the same port."""
        self.kill()
        self.start()

    def stop(self) -> None:
        """Freeze it: connections stay, and nothing is answered."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def cont(self) -> None:
        """Let it go on."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


def redis_program() -> str | None:
    """Return where redis-server is, None where there is none."""
    return shutil.which("redis-server")
