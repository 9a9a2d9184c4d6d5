"""The page on how to add a guard: whoever copies its files has a guard that works, and its tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import resilient
from tests.kit.waiting import WAIT

PAGE = Path(__file__).parents[3] / "docs" / "howto" / "add-a-guard.md"


def files() -> dict[str, str]:
    """Return the files of the page: blocks that begin with the name of one, joined."""
    found: dict[str, str] = {}
    for block in re.findall(
        r"^```(?:py|python)\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL
    ):
        first, _, rest = block.partition("\n")
        if re.fullmatch(r"# \w+/\w+\.py", first):
            found[first[2:]] = found.get(first[2:], "") + rest
    return found


def test_its_files_are_a_package_with_tests_that_pass(tmp_path: Path) -> None:
    """In a process of its own, with nothing but the page's two files."""
    made = files()
    assert set(made) == {"acme_guards/rate_limit.py", "tests/test_rate_limit.py"}
    for name, text in made.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    paths = [str(tmp_path), str(Path(resilient.__file__).parents[1])]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests"],
        cwd=tmp_path, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=WAIT, check=False,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout
    assert "10 passed" in ran.stdout
