"""Followers that a test drives turn by turn."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from resilient.flags.declarations import Flags
from resilient.flags.flip import Flip
from resilient.flags.follower import Follower
from resilient.flags.local_copy import LocalCopy
from resilient.flags.policy_overrides import Orders
from resilient.flags.presence import Presence
from resilient.flags.state import State
from tests.kit.waiting import within

TURN = 30.0  # seconds: a turn of a follower takes about one at most; what never ends takes longer


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


Make = Callable[..., Hand]  # what the fixture `hand` gives
