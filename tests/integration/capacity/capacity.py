"""A real service that loses workers and gets them back, called through guards side by side."""

from __future__ import annotations

import json
import socket
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from typing import Any

from tests.kit.paths import ROOT
from tests.kit.trials import share
from tests.kit.waiting import WAIT

LOAD = 2.0  # times what the service can do with the workers that it begins with
SLOTS = {20: 25, 5: 7}  # of the bulkhead that is right for so many workers: with less, some idle
LATE = 0.25  # of an idle call: a client that waits longer for a processor measures itself


@dataclass
class Phase:
    """What was seen while the number of workers stayed the same, from some time after its change.

    Attributes:
        servers: workers of the service.
        busy: the share of their time in which they worked, as the service says.
        line: calls in the service's own line, as the service says; the mean over time.
        wait: median of the times in that line, as the service says, in mean durations of idle calls.
        p50: median of the durations of calls, in the same unit.
        p99: 99 % of calls are shorter, in the same unit.
        limit: calls that the guards let run at once, medians added up; 0 for a bulkhead.
        late: how late the clients' loops were, in mean durations of idle calls.
    """

    servers: int
    since: float
    until: float = 0.0
    busy: float = 0.0
    line: float = 0.0
    wait: float = 0.0
    p50: float = 0.0
    p99: float = 0.0
    limit: float = 0.0
    late: float = 0.0

    def add(self, told: list[dict[str, Any]], idle: float) -> None:
        """Add what the clients have seen of it."""

        self.wait /= idle
        took = [took for each in told for at, took in each["calls"] if self.holds(at)]
        self.p50, self.p99 = (share(took, part) / idle for part in (0.5, 0.99))
        looks = [[look for look in each["looks"] if self.holds(look[0])] for each in told]
        self.limit = sum(statistics.median(limit for _, limit, _ in each) for each in looks)
        self.late = statistics.mean(late for each in looks for _, _, late in each) / idle

    def holds(self, at: float) -> bool:
        """Return whether a time is in it."""
        return self.since <= at < self.until


@dataclass
class Side:
    """One guard, with a service and clients of its own.

    Attributes:
        guard: ``limit``, or ``aimd0.16`` with its slow calls, or the slots of a bulkhead.
        mean: seconds that a worker takes for a call.
        servers: workers that the service begins with.
        processes: clients that share the load, each with a guard of its own.
        idle: mean duration of calls that nobody else's disturb.
    """

    guard: str
    mean: float
    servers: int = 20
    processes: int = 1
    phases: list[Phase] = field(default_factory=list)
    idle: float = 0.0

    def begin(self) -> None:
        """Start all processes."""
        self.started = [start("service", str(self.servers), str(self.mean))]
        port = hear(self.started[0])
        rate = LOAD * self.servers / self.mean / self.processes
        self.started += [
            start("client", self.guard, port, str(rate), str(seed))
            for seed in range(self.processes)
        ]
        self.control = socket.create_connection(("127.0.0.1", int(port)), timeout=WAIT)
        self.answers = self.control.makefile("r")

    def ready(self) -> None:
        """Wait until the clients know how long an idle call takes."""
        for client in self.started[1:]:
            assert hear(client) == "ready"

    def call_until(self, end: float) -> None:
        """Have the clients call."""
        for client in self.started[1:]:
            assert client.stdin is not None
            client.stdin.write(f"{end}\n")
            client.stdin.flush()

    def ask(self, line: str) -> str:
        """Return the service's answer to a request that is no call."""
        self.control.sendall(f"{line}\n".encode())
        return self.answers.readline()

    def change(self, servers: int) -> None:
        """Change the number of workers."""
        self.servers = servers
        assert self.ask(f"servers {servers}") == "ok\n"

    def look(self) -> None:
        """Begin to measure."""
        self.ask("look")
        self.phases.append(Phase(self.servers, time.monotonic()))

    def looked(self) -> None:
        """Note what the service has seen since then."""
        phase, told = self.phases[-1], json.loads(self.ask("look"))
        phase.until = time.monotonic()
        phase.busy, phase.line, phase.wait = told["busy"], told["line"], told["wait"]

    def end(self) -> None:
        """Wait for the clients, and add what they have seen of each phase."""
        told = [json.loads(each.communicate(timeout=2 * WAIT)[0]) for each in self.started[1:]]
        self.idle = statistics.mean(took for each in told for took in each["idle"])
        for phase in self.phases:
            phase.add(told, self.idle)

    def close(self) -> None:
        """End what still runs."""
        if hasattr(self, "control"):
            self.answers.close()
            self.control.close()
        for process in getattr(self, "started", []):
            process.kill()
            process.communicate()


def start(module: str, *words: str) -> subprocess.Popen[str]:
    """Start one of the programs."""
    return subprocess.Popen(
        [sys.executable, "-m", f"tests.integration.capacity.{module}", *words],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip


def hear(process: subprocess.Popen[str]) -> str:
    """Return the next line that a program says."""
    assert process.stdout is not None
    return process.stdout.readline().strip()


def run(sides: list[Side], phases: list[int], settles: float, looked_at: float) -> None:
    """Run all at the same time, so that a loaded machine is one for all of them.

    Args:
        sides: the guards.
        phases: how many workers there are, one number after the other.
        settles: seconds of each phase before it is measured.
        looked_at: seconds for which it is measured.
    """
    try:
        for side in sides:
            side.begin()
        for side in sides:
            side.ready()
        for side in sides:
            side.call_until(time.monotonic() + len(phases) * (settles + looked_at))
        for servers in phases:
            for side in sides:
                side.change(servers)
            time.sleep(settles)
            for side in sides:
                side.look()
            time.sleep(looked_at)
            for side in sides:
                side.looked()
        for side in sides:
            side.end()
    finally:
        for side in sides:
            side.close()
