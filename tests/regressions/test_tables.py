"""The tables of faults in README.md name tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

from tests.kit.paths import ROOT

TABLES = Path(__file__).with_name("README.md").read_text()
ROWS = re.findall(r"^\| (\w+) \| (.+) \| (.+) \|$", TABLES, re.MULTILINE)
NAME = re.compile(r"`(test_\w+)(?:\[\w+\])?`")


def defined(folder: Path) -> set[str]:
    """Return the names of the tests below a folder."""
    texts = [path.read_text() for path in folder.rglob("test_*.py")]
    return {name for text in texts for name in re.findall(r"def (test_\w+)\(", text)}


def test_each_fault_names_tests_that_are_there() -> None:
    """A trap's are below `tests`, those of another directory in it."""
    tests = ROOT / "tests"
    known = {
        where: defined(tests / "properties" / where) for where in ("cancellation", "fork", "stress")
    }
    every = defined(tests)
    for where, fault, named in ROWS:
        if where in ("trap", "where"):
            continue
        names = set(NAME.findall(named))
        assert names, f"no test is named for: {fault}"
        assert not re.sub(NAME, "", named).replace(",", "").replace("(hangs)", "").strip(), named
        missing = names - (every if where.isdecimal() else known[where])
        assert not missing, f"{missing}, said to fail where {fault}"


def test_each_trap_that_is_tested_has_a_row() -> None:
    """A test that is named after a trap's number has that number in the table."""
    rows = {where for where, _, _ in ROWS}
    for name in defined(ROOT / "tests"):
        if found := re.match(r"test_trap_(\d\d)_", name):
            assert str(int(found[1])) in rows, name
