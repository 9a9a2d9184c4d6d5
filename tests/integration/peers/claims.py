"""What docs/explanation/comparison.md says of other Python libraries, seen.

``python -m tests.integration.peers.claims`` in an environment with requirements/peers.txt; some 12 s.
It runs each claim against the library that is installed, and the same scenes against ours.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import sys
import tempfile
import time
import warnings
from importlib import import_module

from tests.integration.peers.kit import Check, Seen, checks

MODULES = ("breakers", "policies", "interlock", "toolkits", "retries", "ours", "ours_more")


def main(arguments: list[str] | None = None) -> int:
    """Print a table; 1 if a claim does not hold, 2 if a library is missing."""
    parser = argparse.ArgumentParser(prog="python -m tests.integration.peers.claims")
    parser.add_argument("--only", metavar="NAME", help="run what has this in its name")
    only: str = parser.parse_args(arguments).only or ""
    for each in MODULES:
        import_module(f"tests.integration.peers.claims_{each}")
    asked = [each for name, each in checks.items() if only in name]
    if not asked:
        parser.error(f"no check has {only!r} in its name; there are: {', '.join(checks)}")
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):  # one keeps a log there
        ends = [shown(each) for each in asked]
    print(f"{len(ends)} checks in {time.monotonic() - began:.0f} s")
    return 1 if False in ends else 2 if None in ends else 0


def shown(check: Check) -> bool | None:
    """Run one and print its row; None if it is not installed."""
    if sys.version_info < check.python:
        print(f"{check.name:42} {'':8} {'-':6} needs Python {'.'.join(map(str, check.python))}")
        return True
    version = check.version
    if version is None:
        print(f"{check.name:42} {'':8} {'-':6} not installed")
        return None
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        seen = seen_of(check)
    verdict = "holds" if seen.holds else "NOT"
    print(f"{check.name:42} {version:8} {verdict:6} {seen.text}", flush=True)
    return seen.holds


def seen_of(check: Check) -> Seen:
    """Return what it saw; a check that breaks does not hold."""
    try:
        return check.run()
    except Exception as error:
        return Seen(f"{type(error).__name__}: {error}"[:100], False)


if __name__ == "__main__":
    sys.exit(main())
