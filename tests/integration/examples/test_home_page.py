"""The worked example runs, and tells the story that the docs tell."""

from __future__ import annotations

import re
import subprocess
import sys

from tests.kit.paths import ROOT

EXAMPLE = ROOT / "examples" / "home_page.py"
TOP_100 = "['Heat', 'Alien', 'Ran']"


def test_the_home_page_lives_on_without_recommendations() -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [re.fullmatch(r"(.*): (\[.*\]) after ([\d.]+) s; the circuit is (\w+)", line).groups()
             for line in done.stdout.splitlines()]  # fmt: skip
    assert [line[0] for line in lines] == [
        "well",
        "a user without a profile",
        *["frozen"] * 4,
        "well again",
    ]
    assert [line[1] for line in lines] == [
        "['a pick for 1']",
        "['welcome']",
        *[TOP_100] * 4,
        "['a pick for 6']",
    ]
    assert [line[3] for line in lines] == ["closed"] * 4 + ["open"] * 2 + ["closed"]
    assert max(float(line[2]) for line in lines) < 0.3 + 0.5
    assert float(lines[5][2]) < 0.3, "an open circuit does not wait"
