"""The how-to page on testing is a test file, and passes as one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

pytest_plugins = ["pytester"]

PAGE = Path(__file__).parents[2] / "docs" / "howto" / "test-your-service.md"


def test_the_page_passes_as_a_test_file(pytester: pytest.Pytester) -> None:
    """Every test on the page runs and passes, with the fixtures that it speaks of."""
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    source = "\n".join(blocks)
    pytester.makepyfile(source)
    pytester.runpytest_subprocess().assert_outcomes(passed=source.count("\ndef test_"))
