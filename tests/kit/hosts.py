"""Processes that share a directory of pages, and what they say of it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from resilient.engine.counters import ENDED, QUICK
from resilient.pages.directory import Directory, living
from resilient.pages.merge import summed
from tests.kit.waiting import WAIT, until

HERE = Path(__file__).parent
Seen = dict[str, float]


def key(metric: str, **labels: str) -> str:
    """Return the name of a sample."""
    return metric + "{" + ",".join(sorted(f'{k}="{v}"' for k, v in labels.items())) + "}"


def calls(seen: Seen, policy: str, outcome: str = "success") -> float | None:
    """Return how many calls of a policy ended so."""
    return seen.get(key("calls_total", policy=policy, outcome=outcome))


def good(row: list[float]) -> float:
    """Return how many calls in a row of a page were a success."""
    return row[QUICK] + row[ENDED]


def counters(seen: Seen) -> Seen:
    """Return the samples that never fall."""
    ends = ("_total", "_count", "_sum", "_bucket")
    return {name: n for name, n in seen.items() if name.partition("{")[0].endswith(ends)}


def fallen(before: Seen, after: Seen) -> dict[str, tuple[float, float | None]]:
    """Return the counters that fell, or are gone though they were more than zero."""
    pairs = {name: (n, after.get(name)) for name, n in counters(before).items()}
    return {name: pair for name, pair in pairs.items() if (pair[1] or 0.0) < pair[0]}


class Process:
    """A process that does what it is told."""

    def __init__(self, host: Host, pid: int, line: Any) -> None:
        self.host = host
        self.pid = pid
        self._line = line
        self.alive = True

    def tell(self, code: str) -> None:
        """Have it do something, without waiting for the end."""
        self._line.write(json.dumps(code) + "\n")
        self._line.flush()

    def hear(self) -> Any:
        """Return what it answers."""
        text = self._line.readline()
        assert text, f"process {self.pid} is gone: {self.host.errors()}"
        answer = json.loads(text)
        assert "error" not in answer, answer["error"]
        return answer.get("value")

    def do(self, code: str) -> Any:
        """Have it do something; return the value of its last line."""
        self.tell(code)
        return self.hear()

    def scrape(self) -> Seen:
        """Return what its /metrics says."""
        seen: Seen = self.do("scrape()")
        return seen

    def fork(self) -> Process:
        """Have it fork, and return the child."""
        self.do("fork()")
        return self.host.accept()

    def end(self, code: str) -> None:
        """Have it do something that it does not outlive."""
        self.tell(code)
        self.gone()

    def kill(self, number: int = signal.SIGKILL) -> None:
        """End it by a signal."""
        os.kill(self.pid, number)
        self.gone()

    def gone(self) -> None:
        """Wait until it is no more."""
        until(lambda: state(self.pid) in "ZX" and self._threads() < 2)
        self.alive = False

    def _threads(self) -> int:
        """Return how many of its threads the kernel has not done away with."""
        with contextlib.suppress(OSError):
            return len(os.listdir(f"/proc/{self.pid}/task"))
        return 0

    def hang_up(self) -> None:
        """Say no more to it."""
        with contextlib.suppress(OSError):
            self._line.close()

    def stopped(self) -> None:
        """Stop it as by SIGSTOP, and wait until it has."""
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: state(self.pid) in "Tt")


def state(pid: int) -> str:
    """Return the state of a process as a letter: Z or X where it is no more."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


class Host:
    """The processes of one host, and their directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.pages = home / "pages"
        self.log = home / "stderr"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(home / "socket"))
        self._socket.listen()
        self._socket.settimeout(WAIT)
        self._started: list[subprocess.Popen[bytes]] = []
        self._workers: list[Process] = []

    def start(self, code: str = "", **environ: str) -> Process:
        """Start a process, and have it do something."""
        kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
        with self.log.open("ab") as errors:
            self._started.append(
                subprocess.Popen(
                    [sys.executable, str(HERE / "host_worker.py"), str(self.home / "socket")],
                    env={**kept, "RESILIENT_RUNTIME_DIR": str(self.pages), **environ},
                    stdin=subprocess.DEVNULL,
                    stdout=errors,
                    stderr=errors,
                )
            )
        worker = self.accept()
        if code:
            worker.do(code)
        return worker

    def accept(self) -> Process:
        """Return the process that comes next."""
        sock, _ = self._socket.accept()
        sock.settimeout(WAIT)
        line = sock.makefile("rw")
        sock.close()  # the line keeps it open
        worker = Process(self, int(line.readline()), line)
        self._workers.append(worker)
        return worker

    def names(self) -> set[str]:
        """Return what is in the directory."""
        return {path.name for path in self.pages.iterdir()}

    def errors(self) -> str:
        """Return what the processes wrote to their stderr."""
        return self.log.read_text()[-4000:]

    def warnings(self) -> int:
        """Return how often a process said that it does not share its counts."""
        return self.log.read_text().count("are not shared")

    def page_of(self, worker: Process) -> Path:
        """Return the file that a process writes."""
        (path,) = self.pages.glob(f"{worker.pid}-*.page")
        return path

    def seen_from_outside(self) -> dict[tuple[str, str], list[float]]:
        """Return all rows that lie in the directory, as one that only reads would add them up."""
        pages, entries = Directory(self.pages).read()
        entries += [entry for page in pages for entry in living(page)]
        return {(entry.kind, entry.name): entry.row for entry in summed(entries)}

    def close(self) -> None:
        """End everything."""
        for worker in self._workers:
            if worker.alive and state(worker.pid) not in "ZX":
                os.kill(worker.pid, signal.SIGKILL)
            worker.hang_up()
        for process in self._started:
            process.kill()
            process.wait()
        self._socket.close()


@contextmanager
def made_host() -> Generator[Host]:
    """Give a host with a directory of its own, and end its processes."""
    with tempfile.TemporaryDirectory(prefix="host-") as home:  # a socket's path is short
        made = Host(Path(home))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def host() -> Generator[Host]:
    """Give a directory of pages, and processes that share it."""
    with made_host() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Generator[Host]:
    """Give a host for all tests of a module."""
    with made_host() as made:
        yield made
