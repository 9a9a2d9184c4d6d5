"""Which flags some passing test has read off: collected over workers, reported at the end."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ..flag_handle import Flag


class OffReport:
    """For every declared flag, the tests that read it off, and how many of them passed."""

    def __init__(self) -> None:
        self._declared: dict[str, dict[str, str]] = {}
        self._off: dict[str, set[str]] = {}
        self._passed: dict[str, set[str]] = {}

    def declare(self, flag: Flag) -> None:
        """Add a flag."""
        about = {"owner": flag.owner, "place": str(flag.place)}
        self._declared[flag.name] = about

    def ended(self, test: str, off: set[str], *, passed: bool) -> None:
        """Add a test that has ended, and the flags that it read off."""
        for name in off:
            self._off.setdefault(name, set()).add(test)
            if passed:
                self._passed.setdefault(name, set()).add(test)

    def as_data(self) -> dict[str, Any]:
        """Return the report as plain data, by flag."""
        return {
            name: {
                **about,
                "read_off": sorted(self._off.get(name, ())),
                "passed": sorted(self._passed.get(name, ())),
            }
            for name, about in sorted(self._declared.items())
        }

    def merge(self, data: dict[str, Any]) -> None:
        """Merge the report of another worker."""
        for name, row in data.items():
            self._declared[name] = {"owner": row["owner"], "place": row["place"]}
            self._off.setdefault(name, set()).update(row["read_off"])
            self._passed.setdefault(name, set()).update(row["passed"])

    @property
    def unproved(self) -> list[str]:
        """The flags that no passing test has read off."""
        return sorted(name for name in self._declared if not self._passed.get(name))

    def lines(self) -> list[str]:
        """Return the lines of the console's table, none if no flag is declared."""
        rows = [("flag", "owner", "read off by", "passed", "declared at")]
        for name, row in self.as_data().items():
            read, passed = len(row["read_off"]), len(row["passed"])
            mark = "" if passed else "  <- never proved off"
            rows.append((name, row["owner"], str(read), str(passed), row["place"] + mark))
        if len(rows) == 1:
            return []
        widths = [max(len(row[column]) for row in rows) for column in range(4)]
        return [
            "  ".join(cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True))
            for row in rows
        ]

    def write(self, path: Path) -> None:
        """Write the report to a file, as JSON."""
        path.write_text(json.dumps(self.as_data(), indent=1) + "\n", encoding="utf-8")
