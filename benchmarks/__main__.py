"""``python -m benchmarks``: measure, print the tables, and say which goals are missed.

The exit status is 0 where every goal holds, 1 where one is missed or a case is set up wrongly, 2
for bad usage.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import sys
import time
from pathlib import Path
from typing import Any, TextIO

from . import report as tables
from . import suite
from .about import about
from .children import quiet
from .model import Report

_BEGAN = time.perf_counter()


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for."""
    parser = _parser()
    given = parser.parse_args(arguments)
    try:
        chosen = suite.chosen_by(given.only)
    except re.error as error:
        parser.error(f"--only: {given.only!r} is no regular expression: {error}")
    names = suite.names(chosen)
    if not names:
        parser.error(f"--only: nothing matches {given.only!r}; --list shows what there is")
    if given.list:
        print("\n".join(names))
        return 0
    try:
        file: TextIO | None = given.json and given.json.open("w", encoding="utf-8")
    except OSError as error:
        parser.error(f"--json: {error}")
    quiet()
    effort = suite.QUICK if given.quick else suite.FULL
    report = suite.run(chosen, effort, _tell)
    took = time.perf_counter() - _BEGAN
    print(f"\n{_where()}; {took:.0f} s{', quick: figures are rough' if given.quick else ''}\n")
    print("\n".join(tables.lines(report)))
    if file is not None:
        with file:
            json.dump(_data(report, effort, took), file, indent=1)
            file.write("\n")
    return 1 if report.missed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description="What a guarded call costs beside its peers."
    )
    parser.add_argument("--quick", action="store_true", help="rough figures in under 40 s")
    parser.add_argument(
        "--only",
        metavar="PATTERN",
        default="",
        help="a regular expression: cases whose name it is in",
    )
    parser.add_argument("--list", action="store_true", help="print the names of the cases, and end")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write everything to a file too")
    return parser


def _tell(title: str) -> None:
    print(f"{time.perf_counter() - _BEGAN:4.0f} s: {title}", file=sys.stderr, flush=True)


def _where() -> str:
    return (
        f"{platform.python_implementation()} {platform.python_version()}, "
        f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f}"
    )


def _data(report: Report, effort: suite.Effort, took: float) -> dict[str, Any]:
    return {
        "where": _where(),
        "seconds": took,
        "effort": vars(effort),
        "sides": [vars(each) for each in about()],
        "rows": [row.as_data() for row in report.rows],
        "growth": [curve.as_data() for curve in report.curves],
        "missed": report.missed,
    }


if __name__ == "__main__":
    sys.exit(main())
