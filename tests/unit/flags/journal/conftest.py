"""Fixtures of the tests of the journal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.command import Command
from tests.kit.hosts import host
from tests.unit.flags.journal.kit import Kind

__all__ = ["host"]

pytest.importorskip("click")
pytest.importorskip("rich")


@pytest.fixture(params=["memory", "sqlite", "redis"])
def kind(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Kind]:
    """Every store that keeps a journal."""
    server = request.getfixturevalue("redis_server") if request.param == "redis" else None
    made = Kind(request.param, tmp_path, server)
    yield made
    made.close()


@pytest.fixture
def sqlite(tmp_path: Path) -> Iterator[Kind]:
    """A store of SQLite, in which there is nothing yet."""
    made = Kind("sqlite", tmp_path, None)
    made.open().restore([])  # the file is there, and is a store
    yield made
    made.close()


@pytest.fixture
def command(sqlite: Kind, tmp_path: Path) -> Command:
    """The command line, for that store."""
    return Command(sqlite.setting, tmp_path)
