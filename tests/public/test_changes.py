"""The fragments of the changelog, each of which becomes one entry; `make lint` builds a draft."""

from __future__ import annotations

from pathlib import Path

import pytest

CHANGES = Path(__file__).parents[2] / "changes"
OTHERS = {"README.md", "template.md"}
FRAGMENTS = sorted(path for path in CHANGES.iterdir() if path.name not in OTHERS)


@pytest.mark.parametrize("path", FRAGMENTS, ids=lambda path: path.name)
def test_a_fragment_is_one_entry(path: Path) -> None:
    """It has sentences, and brings neither a bullet nor a heading: these are added to it."""
    text = path.read_text()
    assert text.strip()
    assert not text.startswith(("-", "*", "#", " "))
    assert "\n\n" not in text.strip()
