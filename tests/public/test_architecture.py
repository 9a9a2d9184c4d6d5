"""The pages that say how it is built name the modules that there are: all of them, and no others."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.public.test_house import FLOORS, SOURCE

ROOT = Path(__file__).parents[2]
EXPLANATION = ROOT / "docs" / "explanation"
PAGES = [
    *EXPLANATION.glob("*.md"), *(ROOT / "docs" / "decisions").glob("*.md"),
    ROOT / "CONTRIBUTING.md", ROOT / "README.md", ROOT / "tests" / "README.md",
]  # fmt: skip


def words(text: str) -> list[str]:
    """Return what stands in backquotes, outside blocks of code."""
    plain = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"`([^`]+)`", plain)


def section(page: str, heading: str) -> str:
    """Return the text of a page under a heading, up to the next of its level."""
    text = (EXPLANATION / page).read_text()
    return re.split(r"^## ", text.partition(f"\n## {heading}\n")[2], flags=re.MULTILINE)[0]


def rows(text: str) -> Iterator[list[str]]:
    """Yield the cells of the rows of tables, without the heads."""
    for line in text.splitlines():
        if line.startswith("| ") and "`" in line:
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def named(table: str) -> dict[str, set[str]]:
    """Return the modules that a table names, by their folder within the package, "" its own."""
    found: dict[str, set[str]] = {"": set()}
    for first, second, *_ in rows(table):
        (folder, *others) = words(first)
        if folder.endswith("/"):
            found[folder] = set(words(second))
        else:
            found[""] |= {folder, *others}
    return found


def there(folder: Path) -> set[str]:
    """Return the modules of a folder."""
    return {path.stem for path in folder.glob("*.py")} - {"__init__"}


def tables() -> Iterator[tuple[str, str]]:
    """Yield each package whose modules a page names, with the text that does."""
    parts = re.split(
        r"^`(\w+)/`", section("architecture.md", "What is in a package"), flags=re.MULTILINE
    )
    yield from zip(parts[1::2], parts[2::2], strict=True)
    yield "flags", section("flags.md", "The modules")
    yield "pages", section("processes.md", "Pages")


@pytest.mark.parametrize(("package", "text"), list(tables()), ids=lambda value: value[:9].strip())
def test_each_module_is_told_once(package: str, text: str) -> None:
    """A package's table has all of its modules, and those of its folders."""
    found = named(text)
    if found == {"": set()}:  # a line in place of a table
        told = {word for word in words(text.strip().splitlines()[0]) if word.isidentifier()}
        assert told in (set(), there(SOURCE / package))  # or a link to the page that tells
        return
    for folder, modules in found.items():
        assert modules == there(SOURCE / package / folder), folder


def test_the_floors_are_those_of_the_code() -> None:
    """The table of floors is `FLOORS`, from the top."""
    told = [
        tuple(sorted({"" if word == "resilient" else word for word in words(first)}))
        for first, _ in rows(section("architecture.md", "Floors"))
    ]
    assert told == [tuple(sorted(floor)) for floor in reversed(FLOORS)]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_each_path_is_one(page: Path) -> None:
    """What looks like a file or folder of ours is there."""
    for word in words(page.read_text()):
        if re.fullmatch(r"(\w[\w.-]*/)+[\w.-]*(\.py|\.md|/)", word):
            if word.startswith("changes/"):  # a fragment that is yet to be written
                continue
            places = [ROOT / word, SOURCE / word, ROOT / "tests" / word, page.parent / word]
            assert any(place.exists() for place in places), word
