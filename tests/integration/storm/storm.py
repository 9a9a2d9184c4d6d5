"""A stall of a real service, with real clients: what is left of their goodput after it."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import Any

from tests.kit.paths import ROOT
from tests.kit.waiting import WAIT

CLIENTS = 2
RATE = 25.0  # calls a second of each: together 80 % of what the service can do


@dataclass
class Storm:
    """One service and its clients, from the first call to the last.

    Attributes:
        kind: ``naive`` or ``ours``.
        warm: seconds before the stall.
        stall: how long nothing is finished.
        after: seconds from its end to the end of the run.
        looked_at: the last seconds of the run, in which goodput is measured.
    """

    kind: str
    warm: float
    stall: float
    after: float
    looked_at: float
    before: float = 0.0
    back: float = 0.0
    attempts: float = 0.0

    def begin(self) -> None:
        """Start the processes."""
        self.service = start("service")
        assert self.service.stdout is not None
        self.port = int(self.service.stdout.readline())
        seconds = self.warm + self.stall + self.after
        self.clients = [
            start("client", self.kind, str(self.port), str(RATE), str(seconds), str(seed))
            for seed in range(CLIENTS)
        ]

    def strike(self) -> None:
        """Have the service stall."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=WAIT) as connection:
            connection.sendall(f"stall {self.stall}\n".encode())
            connection.recv(10)
        self.struck = time.monotonic()

    def end(self) -> None:
        """Wait for the clients; add up what they got."""
        found: list[dict[str, Any]] = [
            json.loads(client.communicate(timeout=2 * WAIT)[0]) for client in self.clients
        ]
        calls = sorted(tuple(call) for each in found for call in each["calls"])
        last = calls[-1][0]
        patience = 1.5
        self.before = share([good for at, good in calls if at < self.struck - patience])
        self.back = share([good for at, good in calls if at > last - self.looked_at])
        self.attempts = sum(each["attempts"] for each in found) / len(calls)

    def close(self) -> None:
        """End what still runs."""
        for process in (*getattr(self, "clients", []), self.service):
            process.kill()
            process.communicate()


def start(module: str, *words: str) -> subprocess.Popen[bytes]:
    """Start one of the programs."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.storm.{module}", *words],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def share(good: list[bool]) -> float:
    """Return the share of calls that got a good answer in time."""
    return sum(good) / len(good) if good else 0.0


def run(*storms: Storm) -> None:
    """Run storms at the same time, so that a loaded machine is one for all of them."""
    try:
        for storm in storms:
            storm.begin()
        time.sleep(storms[0].warm)
        for storm in storms:
            storm.strike()
        for storm in storms:
            storm.end()
    finally:
        for storm in storms:
            if hasattr(storm, "service"):
                storm.close()
