"""What an import costs a fresh interpreter, over one that imports nothing.

All run the interpreter under the virtual environment's, with the same flags and the same path, so
that neither an editable install's nor another package's start-up file is in any figure. Bytecode
is compiled, in a directory of its own, by one run of each before the first that is timed. The time
is the processor's; by the wall clock it is shown for our import.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from typing import Final

from .children import ROOT, environment
from .model import Row, Spread, WrongSetupError
from .timing import SEED

LIMIT: Final = 25.0  # ms
OTHERS: Final = 4  # what has no goal runs in one round of so many
OURS: Final = "import resilient"

_DECORATED: Final = "from resilient import *\n@fallback(value=0)\n@circuit_breaker\n@bulkhead\n"
BARE: Final = "pass"
SOURCES: Final = {
    OURS: "import resilient",
    f"{OURS}, first decorated function": (
        f"{_DECORATED}@timeout(1, sync='cooperative')\ndef f(): return 1\nassert f() == 1"
    ),
    f"{OURS}, first decorated async function": f"{_DECORATED}@timeout\nasync def f(): pass",
    "import asyncio": "import asyncio",
    "import circuitbreaker": "import circuitbreaker",
    "import pybreaker": "import pybreaker",
    "import purgatory": "import purgatory",
    "import hyx (its four parts)": (
        "import hyx.circuitbreaker, hyx.bulkhead, hyx.timeout, hyx.fallback"
    ),
    "import pyresilience": "import pyresilience",
}
_CHECK: Final = (
    "\nimport sys, resilient\n"
    "assert resilient.__file__.startswith(sys.argv[1]), resilient.__file__\n"
    "for m in list(sys.modules.values()):\n"
    "    n = getattr(m, '__cached__', None)\n"
    "    if n and m.__name__.startswith('resilient'):\n"
    "        assert __import__('os').path.exists(n), n\n"
)


class _Interpreter:
    def __init__(self, cache: str) -> None:
        packages = sysconfig.get_paths()["purelib"]
        self._env = environment(str(ROOT / "src"), packages) | {"PYTHONPYCACHEPREFIX": cache}
        self._program = getattr(sys, "_base_executable", sys.executable)

    def run(self, source: str) -> tuple[float, float]:
        """Return the seconds of a process, from its start to its end: of processor, by the wall."""
        began = time.perf_counter()
        child = subprocess.Popen(
            [self._program, "-c", source, str(ROOT / "src")],
            env=self._env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        with child:
            assert child.stderr is not None
            said = child.stderr.read().decode().strip()
            _, status, used = os.wait4(child.pid, 0)
            took = time.perf_counter() - began
            child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            raise WrongSetupError(said.splitlines()[-1] if said else "it said nothing")
        return used.ru_utime + used.ru_stime, took


def measure(chosen: list[str], rounds: int) -> list[Row]:
    """Measure the chosen imports, each round beside a bare interpreter."""
    rows = {name: Row(name, "ms") for name in chosen}
    if OURS in rows:
        rows[OURS].goal = LIMIT
    with tempfile.TemporaryDirectory() as cache:
        python = _Interpreter(cache)
        working = []
        for name in chosen:
            try:
                python.run(SOURCES[name])
                if "resilient" in SOURCES[name]:
                    python.run(SOURCES[name] + (_CHECK if "pyres" not in name else ""))
                working.append(name)
            except WrongSetupError as error:
                rows[name].wrong = str(error)
        python.run(BARE)
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ["", *working]}
        drawn = random.Random(SEED)
        for turn in range(rounds):
            names = [name for name in found if turn % OTHERS == 0 or name in ("", OURS)]
            for name in drawn.sample(names, len(names)):
                found[name].append(python.run(SOURCES.get(name, BARE)))
    for name in working:
        rows[name].spread = _over(found, name, 0)
        rows[name].ours = rows[name].found
    if OURS in working:
        wall = _over(found, OURS, 1)
        rows["wall"] = Row(f"{OURS}, by the wall clock", "ms", wall.median, spread=wall)
    for name, row in rows.items():
        row.rounds = len(found.get(name, found[""]))
    return list(rows.values())


def _over(found: dict[str, list[tuple[float, float]]], name: str, clock: int) -> Spread:
    """Return the milliseconds over the bare interpreter of the same round."""
    beside = found[""] if name == OURS else found[""][::OTHERS]
    both = zip(found[name], beside, strict=True)
    return Spread.of([(full[clock] - bare[clock]) * 1e3 for full, bare in both])
