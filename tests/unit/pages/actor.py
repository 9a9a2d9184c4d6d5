"""What a busy process does: calls, and policies that come, change and go. Run by host_worker.py."""

from __future__ import annotations

import gc
import mmap
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from typing import Any

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout
from resilient.admin.registry import registry


def fail() -> None:
    raise ConnectionError("down")


class Actor:
    """One thread's worth of activity; begun and ended calls of `shop` are marked in a file."""

    def __init__(self, marks: str, seed: int) -> None:
        self.chance = random.Random(seed)
        with open(marks, "r+b") as file:
            self._marks = mmap.mmap(file.fileno(), 16)
        self.begun = self.ended = 0
        self.policies: dict[str, Policy] = {}
        self.views: list[Policy] = []
        self.acts: list[Callable[[], Any]] = [
            self.shop, self.shop, self.shop, self.call, self.call, self.slow, self.failing,
            self.remake, self.short, self.options, self.line, self.view, self.force,
        ]  # fmt: skip

    def act(self) -> None:
        """Do anything."""
        self.chance.choice(self.acts)()

    def shop(self) -> None:
        """Make a call that is sure to be a success, and marked."""
        policy = self.known("shop")
        self.begun += 1
        struct.pack_into("q", self._marks, 0, self.begun)
        policy.call(int)
        self.ended += 1
        struct.pack_into("q", self._marks, 8, self.ended)

    def known(self, name: str) -> Policy:
        """Return a policy of a name, made now if need be."""
        if name not in self.policies:
            guards: list[Any] = []
            if name != "shop":
                guards = [fallback(value=0), circuit_breaker(minimum_calls=3), bulkhead(2),
                          timeout(5, sync="thread")]  # fmt: skip
                guards = [guard for guard in guards if self.chance.random() < 0.7]
            self.policies[name] = Policy(name, *guards)
        return self.policies[name]

    def other(self) -> Policy:
        """Return any policy but the shop."""
        return self.known(f"p{self.chance.randrange(5)}")

    def call(self) -> None:
        """Make some calls."""
        policy = self.other()
        for _ in range(self.chance.randrange(4)):
            policy.try_call(int)

    def slow(self) -> None:
        """Make a call that takes its time."""
        self.other().try_call(time.sleep, self.chance.random() * 0.02)

    def failing(self) -> None:
        """Make a call that fails."""
        self.other().try_call(fail)

    def remake(self) -> None:
        """Drop a policy, and make another one of its name: others guards, other layout."""
        name = f"p{self.chance.randrange(5)}"
        if self.policies.pop(name, None) is not None:
            registry.remove(name)
            gc.collect()
        self.known(name).try_call(int)

    def short(self) -> None:
        """Make a policy for one call."""

        @bulkhead(3)
        def short() -> None: ...

        short()

    def options(self) -> None:
        """Change the options of a guard."""
        policy = self.other()
        for guard in policy.snapshot()["guards"]:
            if guard["guard"] == "circuit_breaker":
                policy.update(circuit_breaker={"minimum_calls": self.chance.randrange(1, 9)})

    def line(self) -> None:
        """Give a bulkhead a line, or take it away."""
        policy = self.other()
        for guard in policy.snapshot()["guards"]:
            if guard["guard"] == "bulkhead":
                wait = self.chance.choice([None, 0.01])
                policy.update(bulkhead={"max_waiting": 0 if wait is None else 3, "max_wait": wait})

    def view(self) -> None:
        """Make a view that adds guards, call it, and keep it for a while."""
        view = self.other().with_(bulkhead(1, max_waiting=1, max_wait=0.001), fallback(value=1))
        view.try_call(view.try_call, int)
        self.views.append(view)
        if len(self.views) > 3:
            self.views.clear()

    def force(self) -> None:
        """Force a policy open, and release it."""
        policy = self.other()
        policy.force_open("a test")
        policy.try_call(int)
        policy.release()

    def run(self, seconds: float) -> None:
        """Act for a time."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.act()
            if self.chance.random() < 0.002:
                self.fork()

    def fork(self) -> None:
        """Fork a child that calls, unmarked, and is gone."""
        if os.fork() == 0:
            try:
                for _ in range(20):
                    self.call()
            finally:
                os._exit(0)
        threading.Thread(target=os.wait, daemon=True).start()


def watch(scrape: Callable[[], dict[str, float]], seconds: float) -> list[Any]:
    """Scrape again and again; return each scrape, with its beginning and its end."""
    found: list[Any] = []
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        began = time.monotonic()
        seen = scrape()
        found.append([began, time.monotonic(), seen])
        time.sleep(0.03)
    return found
