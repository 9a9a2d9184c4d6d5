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
html_theme_options = {"source_repository": PROJECT["urls"]["Source"], "source_branch": "main",
                      "source_directory": "docs/"}  # fmt: skip
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


def _first_sentence(source: str) -> str:
    """Return the first sentence of a page's text, without marks of Markdown."""
    for part in source.split("\n\n")[1:]:
        if part[:1].isalnum() or part[:1] in "*`[":
            plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", " ".join(part.split())).replace(
                "**", ""
            )
            return re.split(r"(?<=[.:]) ", plain, maxsplit=1)[0]
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
    app.connect("build-finished", write_llms)
