"""A host of its own for each test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from pathlib import Path

import pytest

from .kit import Host


@pytest.fixture
def host() -> Generator[Host]:
    """A directory of pages, and processes that share it."""
    with tempfile.TemporaryDirectory(prefix="pages-") as home:  # a socket's path is short
        made = Host(Path(home))
        try:
            yield made
        finally:
            made.close()


@pytest.fixture
def root() -> str:
    """A PYTHONPATH with which processes find `tests`."""
    before, here = os.environ.get("PYTHONPATH"), str(Path(__file__).parents[2])
    return here if before is None else f"{before}{os.pathsep}{here}"
