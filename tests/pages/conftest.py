"""A host of its own for each test."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.pages.kit import Host


@pytest.fixture
def host() -> Generator[Host]:
    """A directory of pages, and processes that share it."""
    with _host() as made:
        yield made


@pytest.fixture(scope="module")
def shared() -> Generator[Host]:
    """A host for all tests of a module."""
    with _host() as made:
        yield made


@contextmanager
def _host() -> Generator[Host]:
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
