"""Runs the examples: Python blocks of README and docs, and the doctests of the docstrings.

Those of one file are run one after the other, by one worker where there are several.
"""

from __future__ import annotations

import doctest
import re
from typing import Any

import pytest
from sybil import Sybil
from sybil.document import PythonDocStringDocument
from sybil.parsers.markdown import PythonCodeBlockParser
from sybil.parsers.rest import DocTestParser

from resilient import registry
from resilient.flags.runtime import here


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
    parsers=[DocTestParser(optionflags=doctest.ELLIPSIS)],
    patterns=[f"src/{'*/' * depth}*.py" for depth in range(1, 7)],  # ** would be one folder
    document_types={".py": PythonDocStringDocument},
)
pytest_collect_file = (_pages + _docstrings).pytest()


# Tests that share what takes long to make: one worker runs all of a line.
TOGETHER = (
    "tests/integration/prometheus/test_(alerts_command|dashboard|stories).py",
    "tests/unit/monitoring/test_top_of_processes.py",
)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Deal out tests one by one, and examples by the file: each builds upon those before it."""
    if config.getvalue("dist") != "load":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ByFileOfExamples(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file, _, name = nodeid.partition("::")
            shared = (each for each in TOGETHER if re.fullmatch(each, file))
            return file if name.startswith("line:") else next(shared, nodeid)

    return ByFileOfExamples(config, log)
