"""The service in a gunicorn, with a load that reaches each of its workers alike."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.kit.waiting import WAIT, until
from tests.kit.workers import free_port

HERE = Path(__file__).parent


class Service:
    """One gunicorn of two workers: their counts meet in a directory, their levers in SQLite."""

    def __init__(self, home: Path, workers: int = 2) -> None:
        self.port, self.workers = free_port(), workers
        self.home, self.log = home, home / "log"
        self.pages, self.faults, self.store = home / "pages", home / "faults", home / "flags.db"
        self.faults.mkdir()
        self.store.touch()
        self.environ = {
            **{name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ},
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": str(home),
            "RESILIENT_RUNTIME_DIR": str(self.pages), "RESILIENT_STORE": f"sqlite:///{self.store}",
            "RESILIENT_BY": "ana", "APP_FAULTS": str(self.faults),
        }  # fmt: skip
        with self.log.open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "-b", f"127.0.0.1:{self.port}",
                    "-w", str(workers), "--worker-class", "gthread", "--threads", "8",
                    "--keep-alive", "60", "--graceful-timeout", "1", "--no-control-socket",
                    "--log-level", "warning", "--chdir", str(HERE), "service:application",
                ],
                env=self.environ, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip
        self._connections: dict[int, http.client.HTTPConnection] = {}

    @property
    def address(self) -> str:
        """Where it is scraped."""
        return f"127.0.0.1:{self.port}"

    def connect(self) -> dict[int, http.client.HTTPConnection]:
        """Return a connection to each of the workers, by its process id."""
        found: dict[int, http.client.HTTPConnection] = {}

        def one_more() -> bool:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=WAIT)
            with contextlib.suppress(OSError, http.client.HTTPException):
                pid = int(asked(connection, "/who")["pid"])
                if pid not in found:
                    found[pid] = connection
            if connection not in found.values():
                connection.close()
            return len(found) == self.workers

        until(one_more)
        return found

    def suffers(self, name: str, what: str = "") -> None:
        """Have a dependency suffer from something, or from nothing."""
        path = self.faults / name
        if what:
            aside = self.faults / f".{name}"
            aside.write_text(what)
            aside.replace(path)
        else:
            path.unlink(missing_ok=True)

    def pulls(self, lever: str) -> Pulled:
        """Begin to do in a shell what an alert says."""
        return Pulled(lever, self.environ, self.home)

    def stop(self) -> None:
        """End all of it."""
        self.process.terminate()
        try:
            self.process.wait(WAIT)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


class Pulled:
    """A command that runs in a shell of its own, and what it prints."""

    def __init__(self, command: str, environ: dict[str, str], home: Path) -> None:
        self._out = tempfile.TemporaryFile("w+", dir=home)  # noqa: SIM115 - it is closed in kill
        self._process = subprocess.Popen(
            ["sh", "-c", command], env=environ, cwd=home, stdin=subprocess.DEVNULL,
            stdout=self._out, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip

    def over(self) -> bool:
        """Tell whether it has ended."""
        return self._process.poll() is not None

    def end(self) -> tuple[int, str]:
        """Wait for it; return its exit code, and what it printed."""
        try:
            code = self._process.wait(WAIT)
            self._out.seek(0)
            return code, self._out.read()
        finally:
            self.kill()

    def kill(self) -> None:
        """End it, if it still runs."""
        if not self.over():
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
        self._out.close()


def asked(connection: http.client.HTTPConnection, path: str = "/") -> dict[str, Any]:
    """Ask once."""
    connection.request("GET", path)
    answer: dict[str, Any] = json.loads(connection.getresponse().read())
    return answer


class Load:
    """One thread for each worker, which asks it so many times a second."""

    def __init__(self, service: Service, rate: float) -> None:
        self._connections = service.connect()
        self._pause = 1 / rate
        self._over = threading.Event()
        self._order: dict[int, str] = {}
        self.pids = sorted(self._connections)
        self.asked = dict.fromkeys(self.pids, 0)
        self.last: dict[int, dict[str, Any]] = {}
        self.faults: list[str] = []
        self._threads = [threading.Thread(target=self._run, args=(pid,)) for pid in self.pids]

    def __enter__(self) -> Self:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(WAIT)
        for connection in self._connections.values():
            connection.close()

    def order(self, pid: int, path: str) -> None:
        """Have one worker asked for something else, once."""
        self._order[pid] = path

    def _run(self, pid: int) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            due = max(due + self._pause, time.monotonic() - 1)
            try:
                said = asked(self._connections[pid], self._order.pop(pid, "/"))
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.faults.append(repr(error))
                return
            if said["pid"] != pid:
                self.faults.append(f"{said['pid']} answered for {pid}")
            self.asked[pid] += 1
            self.last[pid] = said
