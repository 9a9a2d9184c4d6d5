"""The load: so many connections in one process, each asked again and again at a given pace.

A script: ``load.py <port> <connections> <requests/s> <policies>``. On its input it takes "pause",
which it confirms once nothing is on its way, "go" and "stop"; then it prints what it was answered.
"""

from __future__ import annotations

import json
import os
import random
import selectors
import socket
import sys
import time
from typing import Any

HOT = 20  # dependencies that get half of the requests
LIFE = 40  # requests on a connection; then another worker has a turn
PATIENCE = 10.0  # seconds that an answer may take


class Connection:
    """One connection: idle until it is due, or waiting for an answer."""

    def __init__(self, due: float) -> None:
        self.due = due
        self.sock: socket.socket | None = None
        self.asked: tuple[int, int, float] | None = None  # request, policy, when
        self.got = b""
        self.left = 0


class Load:
    """All connections, and what came of them."""

    def __init__(self, port: int, connections: int, rate: float, policies: int) -> None:
        self.port, self.policies = port, policies
        self.every = connections / rate
        self.selector = selectors.DefaultSelector()
        self.began = began = time.monotonic()
        self.all = [Connection(began + n / rate) for n in range(connections)]
        self.sent = self.closed = 0
        self.answered: dict[int, dict[str, int]] = {}
        self.cut: list[tuple[int, int, float]] = []  # request, policy, for how long at the most
        self.faults: list[str] = []
        self.times: list[float] = []
        self.sending, self.said, self.over = True, False, False
        self.random = random.Random(1)
        os.set_blocking(0, False)
        self.selector.register(0, selectors.EVENT_READ)

    # -- one connection ---------------------------------------------

    def ask(self, each: Connection, now: float) -> None:
        """Send the next request."""
        if each.sock is None:
            each.sock = socket.create_connection(("127.0.0.1", self.port), PATIENCE)
            each.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            each.sock.setblocking(False)
            each.left = LIFE
            self.selector.register(each.sock, selectors.EVENT_READ, each)
        request, hot = self.sent, self.random.random() < 0.5
        policy = self.random.randrange(min(HOT, self.policies) if hot else self.policies)
        self.sent += 1
        each.asked, each.got = (request, policy, now), b""
        each.left -= 1
        try:
            each.sock.send(f"GET /ask/{policy}/{request} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        except OSError:
            self.lose(each)

    def lose(self, each: Connection) -> None:
        """Let a connection go, and what it was asked."""
        if each.asked is not None:
            request, policy, when = each.asked
            self.cut.append((request, policy, time.monotonic() - when))
            self.rest(each)
        elif each.sock is not None:
            self.closed += 1
        self.close(each)

    def close(self, each: Connection) -> None:
        sock, each.sock = each.sock, None
        if sock is not None:
            self.selector.unregister(sock)
            sock.close()

    def rest(self, each: Connection) -> None:
        """Let a connection wait for its next turn."""
        each.asked = None
        each.due = max(each.due + self.every * self.random.uniform(0.5, 1.5), time.monotonic())

    def hear(self, each: Connection) -> None:
        """Take in what has come."""
        assert each.sock is not None
        try:
            data = each.sock.recv(65536)
        except OSError:
            data = b""
        if not data or each.asked is None:
            self.lose(each)
            return
        each.got += data
        head, found, body = each.got.partition(b"\r\n\r\n")
        lines = head.lower().split(b"\r\n")
        sizes = [int(line[15:]) for line in lines if line.startswith(b"content-length:")]
        if not found or not sizes or len(body) < sizes[0]:
            return
        self.book(each, lines[0].split()[1], body.decode())
        if b"connection: close" in lines or each.left <= 0:
            self.close(each)

    def book(self, each: Connection, status: bytes, body: str) -> None:
        """Count an answer."""
        assert each.asked is not None
        _, policy, when = each.asked
        if status != b"200":
            self.faults.append(f"{status.decode()}: {body[:200]}")
        how = self.answered.setdefault(policy, {})
        said = body.split(maxsplit=1)[0]
        how[said] = how.get(said, 0) + 1
        self.times.append(time.monotonic() - when)
        self.rest(each)

    # -- all of them ---------------------------------------------

    def run(self) -> dict[str, Any]:
        """Ask until told to stop; return what came of it."""
        while not self.over or any(each.asked for each in self.all):
            now = time.monotonic()
            if self.sending:
                for each in self.all:
                    if each.asked is None and each.due <= now:
                        self.ask(each, now)
            else:
                self.late(now)
            due = min((each.due for each in self.all if each.asked is None), default=now + 0.1)
            wait = max(0.0, min(due - now, 0.1)) if self.sending else 0.01
            for key, _ in self.selector.select(wait):
                if key.data is None:
                    self.obey()
                elif key.data.sock is not None:
                    self.hear(key.data)
        for each in self.all:
            self.close(each)
        self.times.sort()
        return {
            "answered": self.answered, "cut": self.cut, "sent": self.sent, "faults": self.faults,
            "closed": self.closed, "rate": self.sent / (time.monotonic() - self.began),
            "times": [self.times[min(len(self.times) - 1, int(len(self.times) * part))]
                      for part in (0.5, 0.99, 1.0)],
        }  # fmt: skip

    def late(self, now: float) -> None:
        """Give up on what does not come, and say so once nothing is on its way."""
        for each in self.all:
            if each.asked is not None and now - each.asked[2] > PATIENCE:
                self.faults.append(f"request {each.asked[0]}: no answer")
                self.lose(each)
        if not self.over and not self.said and not any(each.asked for each in self.all):
            self.said = True
            print("paused", flush=True)

    def obey(self) -> None:
        """Take an order."""
        for word in os.read(0, 4096).decode().split() or ["stop"]:
            self.sending, self.said = word == "go", False
            if word == "stop":
                self.over = True
                self.selector.unregister(0)
                return
            for each in self.all:
                each.due = max(each.due, time.monotonic())


if __name__ == "__main__":
    port, connections, rate, policies = sys.argv[1:]
    load = Load(int(port), int(connections), float(rate), int(policies))
    print(json.dumps(load.run()), flush=True)
