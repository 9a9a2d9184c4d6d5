"""The how-to pages on testing are test files, and pass as such."""

from __future__ import annotations

import re

import pytest

from tests.kit.paths import ROOT

pytest_plugins = ["pytester"]

PAGES = ROOT / "docs" / "howto"


@pytest.mark.parametrize(("page", "cases"), [("test-your-service", 0), ("test-a-flag-off", 1)])
def test_the_page_passes_as_a_test_file(pytester: pytest.Pytester, page: str, cases: int) -> None:
    """Every test on the page runs and passes, with the fixtures that it speaks of."""
    blocks = re.findall(
        r"^```python\n(.*?)^```", (PAGES / f"{page}.md").read_text(), re.MULTILINE | re.DOTALL
    )
    source = "\n".join(blocks)
    pytester.makepyfile(source)
    pytester.runpytest_subprocess().assert_outcomes(passed=source.count("\ndef test_") + cases)
