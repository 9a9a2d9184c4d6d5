"""A service of gunicorn on Redis, PostgreSQL and an HTTP API, each of them frozen in turn.

``make freeze`` runs it: about 3 min. It fails where a request takes longer than it may, where the
two dependencies that are well are slower than before, or where one that thaws does not come back.
"""

from __future__ import annotations

import http.client
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.kit.servers.http_server import HttpServer
from tests.kit.servers.postgres_server import PostgresServer
from tests.kit.servers.redis_server import RedisServer

HERE = Path(__file__).resolve()
FROZEN = float(os.environ.get("FREEZE_SECONDS", "20"))
WELL = 5.0
LIMIT = 0.3 + 0.25  # of the policies, and the slack of a busy machine
BACK = 20.0  # the pause of the circuit has doubled to 8 s, or 16
SERVERS: dict[str, type[Any]] = {
    "redis": RedisServer,
    "postgres": PostgresServer,
    "http": HttpServer,
}
RATE = 20  # requests a second for each dependency; the service has 24 threads


class Load:
    """Requests for one dependency, so many a second, however long they take."""

    def __init__(self, port: int, path: str) -> None:
        self.seen: list[tuple[float, float, str]] = []  # (when, seconds, answer)
        self._port, self._path = port, path
        self._over = threading.Event()
        self._pool = ThreadPoolExecutor(150)
        self._ticker = threading.Thread(target=self._tick)
        self._ticker.start()

    def _tick(self) -> None:
        due = time.monotonic()
        while not self._over.wait(max(0.0, due - time.monotonic())):
            self._pool.submit(self._ask, due)
            due += 1 / RATE

    def _ask(self, due: float) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=5)
        try:
            connection.request("GET", self._path)
            answer = connection.getresponse().read().decode()
        except OSError as error:
            answer = f"error {error!r}"
        finally:
            connection.close()
        self.seen.append((due, time.monotonic() - due, answer))

    def stop(self) -> None:
        self._over.set()
        self._ticker.join()
        self._pool.shutdown(cancel_futures=True)

    def answers_fully(self, since: float) -> float:
        """Wait for the first full answer since then; return after how long it came."""
        while time.monotonic() < since + BACK:
            if any(answer.startswith("full") for _, answer in self.between(since, float("inf"))):
                break
            time.sleep(0.05)
        return time.monotonic() - since

    def between(self, first: float, last: float) -> list[tuple[float, str]]:
        return [(took, answer) for when, took, answer in list(self.seen) if first <= when < last]


@contextmanager
def service(servers: dict[str, Any], *, bare: bool) -> Iterator[int]:
    """Run the service, and give its port."""
    import socket

    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    environ = {
        **os.environ, "SHOP_REDIS": servers["redis"].url, "SHOP_SQL": servers["postgres"].sqlalchemy_url,
        "SHOP_API": servers["http"].url, "SHOP_BARE": "1" if bare else "",
    }  # fmt: skip
    command = [sys.executable, "-m", "gunicorn", "-k", "gthread", "--threads", "24", "-b",
               f"127.0.0.1:{port}", "--log-level", "error", "--chdir", str(HERE.parent), "shop:app"]  # fmt: skip
    process = subprocess.Popen(command, env=environ)
    try:
        end = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                assert time.monotonic() < end, "the service does not start"
                time.sleep(0.05)
        yield port
    finally:
        process.terminate()
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def quantile(times: list[float], share: float) -> float:
    return sorted(times)[min(len(times) - 1, int(share * len(times)))] if times else float("inf")


def row(what: str, loads: dict[str, Load], first: float, last: float) -> dict[str, Any]:
    """Print one line of the table; return p50, p99 and the worst of each dependency."""
    found: dict[str, Any] = {}
    cells = []
    for name, load in loads.items():
        seen = load.between(first, last)
        times = [took for took, _ in seen]
        full = sum(answer.startswith("full") for _, answer in seen)
        found[name] = {"p50": quantile(times, 0.5), "p99": quantile(times, 0.99), "worst": max(times, default=99.0),
                       "full": full, "of": len(seen)}  # fmt: skip
        cells.append(
            f"{found[name]['p50'] * 1e3:.1f} / {found[name]['p99'] * 1e3:.0f} ms, {full} of {len(seen)}"
        )
    print(f"| {what} | " + " | ".join(cells) + " |", flush=True)
    return found


def story(servers: dict[str, Any], *, bare: bool, frozen: float) -> list[str]:
    """Freeze each server in turn; return what did not hold."""
    faults: list[str] = []
    with service(servers, bare=bare) as port:
        loads = {name: Load(port, f"/{name}") for name in servers}
        try:
            time.sleep(3.0)  # the first requests import, connect and build
            began = time.monotonic()
            time.sleep(WELL)
            usual = row("all are well", loads, began, time.monotonic())
            for name, server in servers.items():
                began = time.monotonic()
                server.stop()
                time.sleep(frozen)
                server.cont()
                thawing = time.monotonic()
                back = loads[name].answers_fully(thawing)
                thawed = time.monotonic()
                time.sleep(WELL)
                seen = row(f"{name} frozen for {frozen:g} s", loads, began, thawing)
                after = row(f"{name} is back, after {back:.1f} s", loads, thawed, time.monotonic())
                faults += wrong(name, usual, seen, after)
        finally:
            for server in servers.values():
                server.cont()
            for load in loads.values():
                load.stop()
    return faults


def wrong(name: str, usual: Any, seen: Any, after: Any) -> list[str]:
    """Return what did not hold while a server was frozen, and after."""
    found = []
    if seen[name]["worst"] > LIMIT:
        found.append(f"{name} frozen: a request took {seen[name]['worst']:.2f} s")
    if after[name]["full"] < 0.95 * after[name]["of"]:
        found.append(f"{name} did not come back")
    for other in usual:
        if other == name:
            continue
        if seen[other]["full"] < seen[other]["of"]:
            found.append(f"{name} frozen: {other} was degraded")
        if seen[other]["p99"] > 2 * usual[other]["p99"] + 0.01:
            found.append(
                f"{name} frozen: {other} has p99 {seen[other]['p99']:.3f} s, usual {usual[other]['p99']:.3f}"
            )
    return found


def main() -> None:
    servers = {name: kind() for name, kind in SERVERS.items()}
    try:
        for server in servers.values():
            server.start()
        print(
            "p50 / p99 of a request, full answers of all\n\n| | "
            + " | ".join(servers)
            + " |\n|---|---|---|---|"
        )
        faults = story(servers, bare=False, frozen=FROZEN)
        print("\nwithout the three lines:\n")
        story(servers, bare=True, frozen=min(FROZEN, 5.0))
    finally:
        for server in servers.values():
            server.close()
    print("\n".join(["", *faults]) if faults else "\nall held")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
