"""What somebody sees first: README, package metadata, the files beside them, and their links."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path
from unittest import mock

import pytest

from tests.kit.paths import ROOT

PAGES = [
    ROOT / name
    for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "CODE_OF_CONDUCT.md", "CHANGELOG.md",
                 "tests/README.md", "changes/README.md")
]  # fmt: skip
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)\s]+)\)")
pytestmark = pytest.mark.skipif(
    not (ROOT / ".ci").exists(), reason="a source distribution has not all of these files"
)
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as forges and MyST make them."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = (re.sub(r"[^\w\- ]", "", head.lower()).strip() for head in heads)
    return {head.replace(" ", "-") for head in plain}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_each_link_leads_somewhere(page: Path) -> None:
    """To a file of this repository, and to a heading in it; `make links` asks for the others."""
    for picture, said, link in LINK.findall(page.read_text()):
        assert said.strip(), f"{link} has no text"
        if re.match(r"https?:", link):
            continue
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        assert not picture or target.suffix == ".svg", link
        assert not anchor or anchor in anchors(target), link


def long_description() -> str:
    """Return what setup.py gives to package indexes."""
    tools = mock.MagicMock()  # no environment but a build's needs to have setuptools
    with mock.patch.dict(sys.modules, setuptools=tools):
        runpy.run_path(str(ROOT / "setup.py"))
    told: str = tools.setup.call_args.kwargs["long_description"]
    return told


def test_links_work_where_the_files_are_not_beside_it() -> None:
    readme, told = (
        LINK.findall(text) for text in ((ROOT / "README.md").read_text(), long_description())
    )
    source, tag = PROJECT["urls"]["Source"], f"v{PROJECT['version']}"
    assert len(readme) == len(told) > 30
    for (picture, said, before), (_, same, after) in zip(readme, told, strict=True):
        assert said == same
        kind = "raw" if picture else "blob"
        assert after == (before if "://" in before else f"{source}/{kind}/{tag}/{before}")


def test_no_link_of_any_form_is_left_that_needs_them() -> None:
    """Links in links, by reference, and in HTML too."""
    told = re.sub(r"```.*?```|`[^`\n]*`", "", long_description(), flags=re.DOTALL)
    found = re.findall(
        r"\]\(([^)]+)\)|^\[[^\]]+\]:\s*(\S+)|(?:src|href)=\"([^\"]+)", told, re.MULTILINE
    )
    targets = ["".join(each) for each in found]
    assert len(targets) > 30
    assert [each for each in targets if not each.startswith(("https://", "#"))] == []


def test_the_metadata_is_whole() -> None:
    tested = re.search(r"supported=\((.*)\)", (ROOT / ".ci" / "run").read_text())
    assert tested is not None
    versions = [c.rpartition(" ")[2] for c in PROJECT["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert versions == tested[1].split()
    assert PROJECT["authors"] == [{"name": "the resilient authors"}]
    assert {"Source", "Documentation", "Changelog", "Issues"} == {*PROJECT["urls"]}
    citation = (ROOT / "CITATION.cff").read_text()
    assert f"version: {PROJECT['version']}\n" in citation
    assert f'repository-code: "{PROJECT["urls"]["Source"]}"' in citation


def test_each_variable_stands_on_its_page() -> None:
    """The page of the environment names what the code reads, and nothing else."""
    page = (ROOT / "docs" / "reference" / "environment.md").read_text()
    named = set(re.findall(r"^`(RESILIENT_[A-Z_]+)", page, re.MULTILINE))
    read = {
        word
        for path in (ROOT / "src").rglob("*.py")
        for word in re.findall(r"[\"`](RESILIENT_[A-Z_]+)", path.read_text())
    }
    read |= set(re.findall(r"RESILIENT_PURE", (ROOT / "setup.py").read_text()))
    assert named == {word for word in read if not word.startswith("RESILIENT__")} | {"RESILIENT__"}


def test_the_docs_list_themselves_for_machines(tmp_path: Path) -> None:
    """llms.txt has a line for each page, with its title and a sentence."""
    code = """
        import types, sys
        sys.path.insert(0, "docs")
        import conf
        conf.write_llms(types.SimpleNamespace(builder=types.SimpleNamespace(name="html"), outdir=sys.argv[1]), None)
    """
    import textwrap

    subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(tmp_path)], cwd=ROOT, check=True
    )
    told = (tmp_path / "llms.txt").read_text()
    pages = {
        p.relative_to(ROOT / "docs").with_suffix(".html") for p in (ROOT / "docs").glob("*/*.md")
    }
    assert {Path(link) for _, _, link in LINK.findall(told)} == {
        p for p in pages if p.parts[0] != "_build"
    }
    assert re.search(r"^- \[Retry\]\(guards/retry\.html\): \w+", told, re.MULTILINE)


@pytest.mark.parametrize("name", ["ci", "release"])
def test_the_workflows_hold_no_secret_and_run_what_is_here(name: str) -> None:
    text = (ROOT / ".github" / "workflows" / f"{name}.yml").read_text()
    assert "secrets." not in text
    assert re.search(r"^permissions:\n  contents: read$", text, re.MULTILINE)
    targets = re.findall(r"make ([a-z-]+)", text)
    made = (ROOT / "Makefile").read_text()
    assert targets
    assert all(re.search(rf"^{target}:", made, re.MULTILINE) for target in targets)
    assert name != "ci" or "bash .ci/run" in text
