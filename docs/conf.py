"""Sphinx settings."""

project = "resilient"
author = "the resilient authors"
copyright = "2026, the resilient authors"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
html_theme = "furo"
exclude_patterns = ["_build"]
myst_heading_anchors = 3
myst_enable_extensions = ["colon_fence"]
default_role = "code"
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
nitpicky = False
