"""``make coverage``: the branches that tests take, by package; fails where they are too few."""

from __future__ import annotations

import json
import sys
import tempfile
import tomllib
from collections.abc import Iterator
from pathlib import Path, PurePath
from typing import Any, Final

import coverage

FLOORS: Final = Path(__file__).with_suffix(".toml")
SHOWN: Final = 5  # files of a package, those with the most branches that no test takes


def measured() -> dict[str, Any]:
    """Return the summary of each file, by its path, from the data of the last run."""
    data = coverage.Coverage()
    data.load()
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        data.json_report(outfile=str(report))
        files: dict[str, Any] = json.loads(report.read_text())["files"]
    return {path: each["summary"] for path, each in files.items()}


def within(package: str, files: dict[str, Any]) -> Iterator[tuple[str, int, int]]:
    """Yield the files of a package, each with its branches and how many of them are taken."""
    for path, summary in files.items():
        parts = PurePath(path).parts
        if package in parts[:-1] and parts[parts.index(package) - 1] == "resilient":
            yield path, summary["num_branches"], summary["covered_branches"]


def main() -> None:
    """Print the share of each package that has a floor, and what it misses most."""
    files = measured()
    low: list[str] = []
    for package, floor in tomllib.loads(FLOORS.read_text()).items():
        found = list(within(package, files))
        branches, taken = sum(n for _, n, _ in found), sum(n for _, _, n in found)
        share = 100 * taken / branches if branches else 0.0
        print(f"{package:<8}{share:7.2f} % of {branches} branches, {branches - taken} not taken; "
              f"floor {floor} %")  # fmt: skip
        for path, all_of_it, some in sorted(found, key=lambda each: each[2] - each[1])[:SHOWN]:
            if some < all_of_it:
                print(f"    {all_of_it - some:>3} of {all_of_it} in {path}")
        if share < floor:
            low.append(package)
    if low:
        sys.exit(f"fewer branches are taken than {FLOORS.name} says: {', '.join(low)}")


if __name__ == "__main__":
    main()
