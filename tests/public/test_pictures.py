"""The diagrams of the guards are drawn from what guards do: this holds the files to that.

Renew them with ``python docs/pictures/guards.py``.
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PROGRAM = DOCS / "pictures" / "guards.py"
FOLDER = DOCS / "pictures" / "guards"
PAGES = sorted(page for page in (DOCS / "guards").glob("*.md") if page.stem != "index")
RENEW = "python docs/pictures/guards.py"


def test_the_files_are_what_is_drawn(tmp_path: Path) -> None:
    """Drawing gives the files that are there, byte for byte: what guards do is what is shown."""
    subprocess.run([sys.executable, str(PROGRAM), str(tmp_path)], check=True, timeout=60)
    drawn, there = _files(tmp_path), _files(FOLDER)
    assert sorted(there) == sorted(drawn), f"renew the pictures: {RENEW}"
    changed = [name for name, text in drawn.items() if there[name] != text]
    assert not changed, f"renew the pictures: {RENEW}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_shows_its_picture(page: Path) -> None:
    """Each page shows its own diagram, before its options, and says what it is in a sentence."""
    introduction = page.read_text(encoding="utf-8").partition("\n## Options")[0]
    shown = re.findall(r"^!\[(.+)\]\(\.\./pictures/guards/(.+)\.svg\)$", introduction, re.MULTILINE)
    assert [name for _, name in shown] == [page.stem]
    assert shown[0][0].endswith("."), "the alternative text is a sentence"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_picture_has_a_title(page: Path) -> None:
    """Each file is XML, has a title for those who do not see it, and no text below 13 px."""
    root = ET.parse(FOLDER / f"{page.stem}.svg").getroot()  # noqa: S314
    title = root.findtext("{http://www.w3.org/2000/svg}title")
    assert title
    sizes = [float(each.get("font-size", "0")) for each in root.iter() if each.tag.endswith("text")]
    assert min(sizes) >= 13


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}
