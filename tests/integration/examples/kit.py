"""An example as a process of its own, and what it depends on."""

from __future__ import annotations

import contextlib
import http.client
import http.server
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.paths import ROOT
from tests.kit.waiting import WAIT, until

EXAMPLES = ROOT / "examples"


class Answer:
    """What came back for one request."""

    def __init__(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.text = body.decode()

    @property
    def json(self) -> Any:
        """Its body, as data."""
        return json.loads(self.text)

    def __repr__(self) -> str:
        return f"<{self.status} {self.headers} {self.text[:500]!r}>"


def ask(port: int, path: str, **headers: str) -> Answer:
    """Ask once, over a connection of its own; a redirect is followed."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
    try:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("GET", path, headers={"Connection": "close", **sent})
        got = connection.getresponse()
        body = got.read()
    finally:
        connection.close()
    found = {name.lower(): value for name, value in got.getheaders()}
    if got.status in (307, 308):
        return ask(port, found["location"].partition(f":{port}")[2], **headers)
    return Answer(got.status, found, body)


def calls(port: int, policy: str) -> dict[str, float]:
    """Return how many calls of a policy ended how, by /metrics."""
    found = {}
    for line in ask(port, "/metrics").text.splitlines():
        name, _, value = line.rpartition(" ")
        if name.startswith("resilient_calls_total{") and f'policy="{policy}"' in name:
            found[name.partition('outcome="')[2].partition('"')[0]] = float(value)
    return {outcome: number for outcome, number in found.items() if number}


class Example:
    """A process that runs an example; it ends with the block."""

    def __init__(self, words: list[str], environ: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("ab") as out:
            self.process = subprocess.Popen(
                [sys.executable, *words],
                env=environ, cwd=EXAMPLES, stdin=subprocess.DEVNULL, stdout=out, stderr=out,
                start_new_session=True,
            )  # fmt: skip

    def said(self) -> str:
        """Return the end of what it wrote."""
        return self.log.read_text()[-3000:]

    def serves(self, condition: Callable[[], object]) -> None:
        """Wait until it is up: until a condition holds that raises as long as it is not."""

        def up() -> bool:
            assert self.process.poll() is None, self.said()
            with contextlib.suppress(OSError, http.client.HTTPException):
                return bool(condition())
            return False

        until(up, self.said)

    def kill(self) -> None:
        """End it, and all that it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(WAIT)


class Dependency:
    """What an example asks over HTTP: well, or answering with 503."""

    def __init__(self) -> None:
        self.well = True
        self.asked: list[str] = []
        told = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                told.asked.append(self.path)
                what, _, which = self.path[1:].partition("/")
                answer = {"picks": [f"picked for {which}"], "stock": 3, "send": None}[what]
                body = json.dumps(answer if told.well else "away").encode()
                self.send_response(200 if told.well else 503)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                self.do_GET()

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}"


@contextmanager
def dependency() -> Iterator[Dependency]:
    """Give a dependency that is well."""
    made = Dependency()
    thread = threading.Thread(target=made.server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.server.shutdown()
        made.server.server_close()
        thread.join(WAIT)
