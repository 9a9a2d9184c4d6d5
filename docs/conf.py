"""Sphinx settings."""

from __future__ import annotations

import os
import re
import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
PROJECT = tomllib.loads((HERE.parent / "pyproject.toml").read_text("utf-8"))["project"]

project = "resilient"
author = "the resilient authors"
copyright = "2026, the resilient authors"
version = release = PROJECT["version"]
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
html_theme = "furo"
html_title = f"resilient {release}"
html_static_path = ["_static"]
html_css_files = ["narrow.css"]
html_search_scorer = str(HERE / "_static" / "scorer.js")
templates_path = ["_templates"]
html_sidebars = {
    "**": [
        "sidebar/brand.html", "sidebar/search.html", "sidebar/scroll-start.html",
        "sidebar/navigation.html", "sidebar/versions.html", "sidebar/scroll-end.html",
    ]
}  # fmt: skip
# "0.1=https://.../0.1 0.2=https://.../0.2" shows a switch: for who publishes several builds.
html_context = {
    "docs_versions": [each.split("=", 1) for each in os.environ.get("DOCS_VERSIONS", "").split()]
}
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence", "deflist"]
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = False
copybutton_prompt_text = r"\$ |>>> |\.\.\. "
copybutton_prompt_is_regexp = True
linkcheck_ignore = [PROJECT["urls"]["Source"] + ".*"]


_TABLE = re.compile(r'<table class="docutils.*?</table>', re.DOTALL)
_HEAD = re.compile(r"<th\b[^>]*>(.*?)</th>", re.DOTALL)


def label_cells(app: Any, page: str, template: str, context: dict[str, Any], doctree: Any) -> None:
    """Give each cell the heading of its column, for narrow.css, and long names a place to break."""
    if "body" in context:
        context["body"] = _TABLE.sub(_labelled, context["body"])


def _labelled(table: re.Match[str]) -> str:
    heads = [re.sub(r"<[^>]+>", "", head).strip() for head in _HEAD.findall(table[0])]

    def row(found: re.Match[str]) -> str:
        names = iter(heads)

        def cell(_: re.Match[str]) -> str:
            head = next(names, "")
            return f'<td data-label="{head}"' if head else "<td"

        return re.sub(r"<td\b", cell, found[0])

    def breaks(found: re.Match[str]) -> str:
        return found[1] + re.sub(r"_(?=[^_<])", "_<wbr>", found[2])

    text = re.sub(r"<tr\b.*?</tr>", row, table[0], flags=re.DOTALL)
    return re.sub(r'(<span class="pre">)([^<]*)', breaks, text)


def _first_sentence(source: str) -> str:
    """Return the first sentence of a page's text, without marks of Markdown."""
    prose = re.sub(r"```.*?```|:::.*?:::", "", source, flags=re.DOTALL)
    for part in prose.split("\n\n")[1:]:
        text = " ".join(part.split()).removeprefix("Decided. ")
        if text == "Decided.":
            continue
        if text[:1].isalnum() or text[:1] in "*`[":
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text).replace("**", "")
            return re.split(r"(?<=[a-z0-9)`]\.) (?=[A-Z`])", plain, maxsplit=1)[0]
    return ""


def write_llms(app: Any, exception: Exception | None) -> None:
    """Write llms.txt, the list of all pages for those who read by machine: see llmstxt.org."""
    if exception is not None or app.builder.name != "html":
        return
    lines = ["# resilient", "", f"> {PROJECT['description']}", ""]
    for folder in ("tutorial", "howto", "guards", "reference", "explanation", "decisions"):
        lines += [f"## {folder}", ""]
        for path in sorted((HERE / folder).glob("*.md")):
            text = path.read_text("utf-8")
            title = text.partition("\n")[0].lstrip("# ")
            said = _first_sentence(text)
            lines.append(f"- [{title}]({folder}/{path.stem}.html)" + (f": {said}" if said else ""))
        lines.append("")
    Path(app.outdir, "llms.txt").write_text("\n".join(lines), "utf-8")


def setup(app: Any) -> None:
    """Register what is written beside the pages."""
    app.connect("html-page-context", label_cells)
    app.connect("build-finished", write_llms)
