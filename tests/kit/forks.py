"""Run a scene that forks, and bring what the child saw back to the parent."""

from __future__ import annotations

import json
import os
import select
import signal
import time
from collections.abc import Callable
from typing import Any

from tests.kit.waiting import WAIT


class Fork:
    """One fork, to be made anywhere in a scene."""

    def __init__(self) -> None:
        self._read, self._write = os.pipe()
        self.pid = -1

    @property
    def in_child(self) -> bool:
        """Tell which side this is."""
        return self.pid == 0

    def __call__(self) -> bool:
        """Fork; True in the child."""
        self.pid = os.fork()
        return self.pid == 0

    def report(self, what: dict[str, Any]) -> None:
        """Send what the child saw, and end the child."""
        os.write(self._write, json.dumps(what).encode())
        os._exit(0)

    def answer(self) -> Any:
        """Return what the child sent, or fail if it hangs or died."""
        os.close(self._write)
        text, end = b"", time.monotonic() + WAIT
        try:
            while True:
                ready, _, _ = select.select([self._read], [], [], max(0, end - time.monotonic()))
                if not ready:
                    os.kill(self.pid, signal.SIGKILL)
                    raise AssertionError("the child hangs")
                more = os.read(self._read, 65536)
                if not more:
                    break
                text += more
        finally:
            os.close(self._read)
            os.waitpid(self.pid, 0)
        assert text, "the child died"
        sent = json.loads(text)
        assert "error" not in sent, sent["error"]
        return sent["value"]


def in_both(scene: Callable[[Fork], Any]) -> tuple[Any, Any]:
    """Run a scene that forks once; return what it gave in the parent and in the child."""
    fork = Fork()
    try:
        value = scene(fork)
    except BaseException as error:
        if fork.in_child:
            fork.report({"error": repr(error)})
        raise
    if fork.in_child:
        fork.report({"value": value})
    return value, fork.answer()
