"""Runs the examples: Python blocks of README and docs, and the doctests of the docstrings."""

from __future__ import annotations

from typing import Any

from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from resilient import registry
from resilient.flags.here import here


def _setup(namespace: dict[str, Any]) -> None:
    namespace["_names_before"] = set(registry.names())
    namespace["_flags_before"] = here.flags.names()


def _teardown(namespace: dict[str, Any]) -> None:
    # Two pages may each make a policy of one name.
    for name in set(registry.names()) - namespace["_names_before"]:
        registry.remove(name)
    for name in set(here.flags.names()) - set(namespace["_flags_before"]):
        here.flags.forget(here.flags.get(name))


_pages = Sybil(
    setup=_setup,
    teardown=_teardown,
    parsers=[PythonCodeBlockParser()],
    patterns=["README.md", "docs/*.md", "docs/**/*.md"],
)
_docstrings = Sybil(
    setup=_setup,
    teardown=_teardown,
    parsers=[DocTestParser()],
    patterns=["src/**/*.py"],
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (_pages + _docstrings).pytest()
