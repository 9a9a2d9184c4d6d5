"""A process that writes to its store without a pause, and forks: do its children follow too?"""

from __future__ import annotations

import json
import os
import time

from resilient import flag
from resilient.flags import follower, heartbeat
from resilient.flags.runtime import here

RECS = flag("recs")
CHILDREN = 30


def in_the_middle() -> None:
    """Wait until the follower is in a transaction, where that can be told, and not for long."""
    end = time.monotonic() + 0.5
    while time.monotonic() < end:
        store = None if here.follower is None else here.follower._store
        if getattr(getattr(store, "_db", None), "in_transaction", False):
            return


def child(end: int) -> None:
    """Follow for two seconds; tell what went wrong."""
    bool(RECS)
    time.sleep(2.0)
    mine = here.follower
    said = "no follower" if mine is None else mine.error or mine.beat_error
    os.write(end, json.dumps(said).encode() + b"\n")


def main() -> None:
    """Fork again and again in the middle of the follower's work."""
    follower.POLL = heartbeat.BEAT = 0.001  # type: ignore[misc]
    bool(RECS)
    source, end = os.pipe()
    for number in range(CHILDREN):
        time.sleep(0.05 + number * 0.0013)
        in_the_middle()
        if os.fork() == 0:
            follower.POLL = heartbeat.BEAT = 1.0  # type: ignore[misc]
            try:
                child(end)
            finally:
                os._exit(0)
    os.close(end)
    for _ in range(CHILDREN):
        os.wait()
    with open(source, encoding="utf-8") as file:
        print(json.dumps([json.loads(line) for line in file]))


if __name__ == "__main__":
    main()
