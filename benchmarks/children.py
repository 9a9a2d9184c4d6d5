"""Measurements that need a process of their own, because policies stay and modules stay loaded.

``python -m benchmarks.children NAME [NUMBER...]`` runs one and prints what it found as JSON.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from .model import WrongSetupError

ROOT: Final = Path(__file__).resolve().parent.parent
SECONDS: Final = 120


def environment(*paths: str) -> dict[str, str]:
    """Return this environment without what would change how Python or the library runs."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "RESILIENT_PURE" or not name.startswith(("PYTHON", "RESILIENT_"))
    }
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def child(name: str, *numbers: int) -> dict[str, Any]:
    """Run one of the measurements below in a new process."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.children", name, *map(str, numbers)],
        cwd=ROOT,
        env=environment(str(ROOT / "src"), str(ROOT)) | {"PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["it said nothing"]
        raise WrongSetupError(f"{name}: {lines[-1]}")
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def quiet() -> None:
    """Keep the library's log lines of opened circuits out of the tables."""
    log = logging.getLogger("resilient")
    log.addHandler(logging.NullHandler())
    log.propagate = False


def main() -> int:
    from . import growing_policies, memory, reading, scraping

    known: dict[str, Callable[..., dict[str, Any]]] = {
        "at rest": memory.at_rest,
        "steady": memory.steady,
        "scrape": scraping.scrape,
        "reading": reading.run,
        "policies": growing_policies.run,
    }
    quiet()
    print(json.dumps(known[sys.argv[1]](*map(int, sys.argv[2:]))))
    return 0


if __name__ == "__main__":
    sys.exit(main())
