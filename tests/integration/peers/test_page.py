"""The page that compares, and the checks that it names; `make claims` runs them."""

from __future__ import annotations

import ast
import re

from tests.kit.paths import ROOT

HERE = ROOT / "tests" / "integration" / "peers"
PAGE = ROOT / "docs" / "explanation" / "comparison.md"
PEERS = "circuitbreaker|pybreaker|hyx|pyresilience|interlock|grelmicro|baldur|tenacity|stamina|resilient"


def test_the_page_names_each_check_and_no_other() -> None:
    """Read, not imported: most of the libraries are installed for `make claims` alone."""
    named = set(re.findall(rf"`((?:{PEERS})_[a-z0-9_]+)`", PAGE.read_text()))
    there = {
        node.name
        for path in HERE.glob("claims_*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, ast.FunctionDef)
        and any("check" in ast.unparse(each) for each in node.decorator_list)
    }
    assert named == there
    assert len(there) > 100


def test_each_link_to_a_source_is_to_one_commit() -> None:
    links = re.findall(r"^\[[\w-]+\]: (\S+)$", PAGE.read_text(), re.MULTILINE)
    assert len(links) > 40
    for link in links:
        assert re.fullmatch(
            r"https://github\.com/[\w.-]+/[\w.-]+/(blob|tree)/[0-9a-f]{40}(/\S+)?", link
        ), link
