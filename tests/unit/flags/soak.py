"""Forks and flips together, on one SQLite store: `make soak`, or `python -m tests.unit.flags.soak 300`.

Several processes flip in one thread and fork in another; each child reads, flips and forks once
more. The store has to be whole at the end, and no child may hang.
"""

from __future__ import annotations

import json
import logging
import os
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

PROCESSES = 2
HANGS = 20  # seconds after which a child is said to hang
FREE = ("meanwhile", "locked", "did not answer")  # words of a flip that another was quicker than


def child(deep: bool) -> None:
    """Do in a child what any child does, within a bounded time."""
    from resilient import flags

    signal.alarm(HANGS)
    try:
        bool(flags.get("soaked"))
        if deep:
            pid = os.fork()
            if pid == 0:
                child(deep=False)
            os.waitpid(pid, 0)
        time.sleep(0.03)
        flags.on("soaked", reason="a child", by="child")
    except Exception as error:
        os._exit(0 if any(word in str(error) for word in FREE) else 1)
    os._exit(0)


def forker(seconds: float) -> dict[str, Any]:
    """Flip in a thread and fork in another; return what came of it."""
    from resilient import flag, flags
    from resilient.flags.fork_exclusion import undisturbed

    soaked, until = flag("soaked"), time.monotonic() + seconds
    seen: dict[str, Any] = {"forks": 0, "flips": 0, "hung": 0, "failed": 0, "unwaited": 0,
                            "longest": 0.0, "errors": []}  # fmt: skip
    bool(soaked)

    def flip() -> None:
        while time.monotonic() < until and len(seen["errors"]) < 3:
            try:
                (flags.off if seen["flips"] % 2 else flags.on)("soaked", reason="r", by="soak")
            except Exception as error:
                if not any(word in str(error) for word in FREE):
                    seen["errors"].append(str(error))
            seen["flips"] += 1

    thread = threading.Thread(target=flip)
    thread.start()
    while time.monotonic() < until and not seen["errors"]:
        began = time.monotonic()
        pid = os.fork()
        if pid == 0:
            child(deep=seen["forks"] % 4 == 0)
        seen["longest"] = max(seen["longest"], time.monotonic() - began)
        seen["unwaited"] += not undisturbed._waited
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        seen["hung"] += status == -signal.SIGALRM
        seen["failed"] += status not in (0, -signal.SIGALRM)
        seen["forks"] += 1
    thread.join()
    return seen


def soak(seconds: float, directory: str) -> dict[str, Any]:
    """Let processes do so at once; return their sums, and whether the store is whole."""
    file = str(Path(directory) / "flags.db")
    environ = {**os.environ, "RESILIENT_STORE": f"sqlite:///{file}"}
    command = [sys.executable, __file__, "--one", str(seconds)]
    every = [
        subprocess.Popen(command, env=environ, stdout=subprocess.PIPE, text=True)
        for _ in range(PROCESSES)
    ]
    told = [json.loads(each.communicate(timeout=seconds + 10 * HANGS)[0]) for each in every]
    sums = {
        key: max(one[key] for one in told) if key == "longest" else sum((one[key] for one in told),
        [] if key == "errors" else 0)
        for key in told[0]
    }  # fmt: skip
    with sqlite3.connect(file) as db:
        sums["integrity"] = db.execute("PRAGMA integrity_check").fetchone()[0]
    db.close()
    return sums


def main() -> int:
    """Soak for the seconds that are given; print the figures."""
    if "--one" in sys.argv:
        warnings.simplefilter("ignore")
        logging.disable(logging.CRITICAL)
        print(json.dumps(forker(float(sys.argv[-1]))))
        return 0
    with tempfile.TemporaryDirectory() as directory:
        seen = soak(float(sys.argv[1]) if len(sys.argv) > 1 else 300, directory)
    print(json.dumps(seen, indent=2))
    whole = seen["integrity"] == "ok" and not (seen["hung"] or seen["failed"] or seen["errors"])
    return 0 if whole else 1


if __name__ == "__main__":
    sys.exit(main())
