"""A gunicorn with --preload under load, watched from outside."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
END = 10.0


class Service:
    """One gunicorn, of so many workers."""

    def __init__(
        self, port: int, workers: int, environ: dict[str, str], log: Path, *, threads: int = 1
    ) -> None:
        self.port = port
        self.workers = workers
        self.log = log
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                [
                    sys.executable, "-m", "gunicorn", "--preload", "-b", f"127.0.0.1:{port}",
                    "-w", str(workers), "--worker-class", "gthread", "--threads", str(threads),
                    "--keep-alive", "1", "--no-control-socket", "--graceful-timeout", "2",
                    "--chdir", str(HERE), "app:application",
                ],
                env=environ, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors,
                start_new_session=True,
            )  # fmt: skip

    def ask(self, path: str = "/", seconds: float = 3.0) -> dict[str, Any]:
        """Ask once, over a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=seconds)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            return dict(json.loads(connection.getresponse().read()))
        finally:
            connection.close()

    def answers(self, seconds: float = END) -> dict[int, str]:
        """Ask until every worker has answered; return the last answer of each, by pid."""
        found: dict[int, str] = {}
        end = time.monotonic() + seconds
        while len(found) < self.workers:
            assert time.monotonic() < end, f"{found}: {self.log.read_text()[-2000:]}"
            with contextlib.suppress(OSError, http.client.HTTPException, ValueError):
                said = self.ask()
                found[said["pid"]] = said["answer"]
        return found

    def kill(self) -> None:
        """End all of it at once, without a goodbye."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END)

    def stop(self) -> None:
        """End it as an operator does."""
        self.process.terminate()
        self.process.wait(END)


class Load:
    """Threads that ask without a pause."""

    def __init__(self, service: Service, number: int = 2, pause: float = 0.0) -> None:
        self._service = service
        self._pause = pause
        self._over = threading.Event()
        self.asked = 0
        self.failed = 0
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(number)]

    def __enter__(self) -> Load:
        for each in self._threads:
            each.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for each in self._threads:
            each.join(END)

    def _run(self) -> None:
        while not self._over.is_set():
            connection = http.client.HTTPConnection("127.0.0.1", self._service.port, timeout=3)
            try:
                for _ in range(50):  # and then let another worker have a turn
                    if self._over.is_set():
                        break
                    connection.request("GET", "/")
                    connection.getresponse().read()
                    self.asked += 1
                    time.sleep(self._pause)
            except (OSError, http.client.HTTPException):
                self.failed += 1
                time.sleep(0.01)
            finally:
                connection.close()
