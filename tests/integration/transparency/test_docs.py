"""The page that lists in what a wrapped client differs, held against what the tests let pass."""

from __future__ import annotations

from tests.integration.transparency.differences import DIFFERENCES, OPEN
from tests.kit.paths import ROOT

PAGE = ROOT / "docs" / "reference" / "integrations.md"


def test_every_difference_is_in_the_docs() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for each in DIFFERENCES:
        assert each.reason in page or each.reason == "the same", each


def test_nothing_is_known_and_not_mended() -> None:
    assert OPEN == ()
