"""``python -m benchmarks.instructions``: how many instructions of the processor a call takes.

They depend neither on the machine's load nor on its speed. Valgrind counts them; it makes a process
fifty times slower, so this runs on request only, for a minute or two. A figure is the difference of
two runs, so that nothing but calls, and the loop around them, is in it.
"""

from __future__ import annotations

import asyncio
import gc
import os
import re
import shutil
import subprocess
import sys
from typing import Any, Final, cast

from .children import ROOT, environment, quiet
from .comparisons import SIDES
from .model import Side, require
from .timing import asyncio_batch, sync_batch, trio_batch

CASES: Final = (
    "bare", "closure", "breaker", "cooperative", "answered", "block", "stream", "retry",
    "circuitbreaker", "pybreaker", "async breaker", "async whole", "async block", "async stream",
    "asyncio.timeout", "trio whole", "trio.fail_after",
)  # fmt: skip
_FEW: Final = 500
_SECONDS: Final = 300


def run(name: str, number: int) -> None:
    """Make so many calls of a side, in this process."""
    colour, maker = SIDES[name]
    if colour == "sync":
        side: Any = maker()
        side.begin()
        sync_batch(side.call, number)
    elif colour == "asyncio":
        with asyncio.Runner() as runner:
            side = cast("Side", runner.run(maker()))
            side.begin()
            runner.run(asyncio_batch(side.call, number, _no_time))
    else:
        import trio

        side = trio.run(maker)
        side.begin()
        trio.run(trio_batch, side.call, number, _no_time)


def _no_time() -> float:
    return 0.0


def count() -> None:
    """Make the calls of each case in forked children, which Valgrind counts one by one.

    The first child of a case compiles what is imported there for the first time: it is not used.
    """
    for name in CASES:
        for number in (1, _FEW, 3 * _FEW):
            child = os.fork()
            if not child:
                run(name, number)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            require(status == 0, f"{name} ended with {status}")
            print(child, name, number, sep="\t", flush=True)


def column(*, pure: bool) -> dict[str, float]:
    """Return the instructions of one call of each case."""
    environ = environment(str(ROOT / "src"), str(ROOT)) | {"PYTHONHASHSEED": "0"}
    environ["RESILIENT_PURE"] = "1" if pure else ""
    done = subprocess.run(
        [
            "valgrind", "--tool=cachegrind", "--cache-sim=no", "--cachegrind-out-file=/dev/null",
            sys.executable, "-m", "benchmarks.instructions", "count",
        ],
        cwd=ROOT, env=environ, capture_output=True, text=True, timeout=_SECONDS, check=False,
    )  # fmt: skip
    require(done.returncode == 0, done.stderr[-500:])
    counts = dict(re.findall(r"==(\d+)== I\s+refs:\s+([\d,]+)", done.stderr))
    whole: dict[str, list[int]] = {}
    for line in done.stdout.splitlines():
        child, name, _ = line.split("\t")
        whole.setdefault(name, []).append(int(counts[child].replace(",", "")))
    return {name: (many - few) / (2 * _FEW) for name, (_, few, many) in whole.items()}


def main() -> int:
    """Print the table."""
    quiet()
    if sys.argv[1:] == ["count"]:
        gc.disable()
        count()
        return 0
    if shutil.which("valgrind") is None:
        print("valgrind is needed; on Debian: apt-get install valgrind", file=sys.stderr)
        return 2
    compiled, pure = column(pure=False), column(pure=True)
    print(f"{'instructions a call':<24}{'compiled':>12}{'pure':>12}")
    for name in CASES:
        print(f"{name:<24}{compiled[name]:>12,.0f}{pure[name]:>12,.0f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
