"""Fixtures of the tests of what whoever is on call looks at."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import resilient
from resilient import registry
from resilient.testing import ManualClock
from tests.pages.kit import Host

pytest.importorskip("click")
pytest.importorskip("rich")


@contextmanager
def _host() -> Generator[Host]:
    with tempfile.TemporaryDirectory(prefix="top-") as home:  # a socket's path is short
        made = Host(Path(home))
        try:
            yield made
        finally:
            made.close()


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


@pytest.fixture
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a test see only the policies that it makes."""
    monkeypatch.setattr(registry, "_entries", {})
    monkeypatch.setattr(registry, "_numbers", {})
    monkeypatch.setattr(registry, "_freed", {})


@pytest.fixture
def events() -> Iterator[list[resilient.Event]]:
    """The events that happen during the test."""
    seen: list[resilient.Event] = []
    unsubscribe = resilient.registry.subscribe(seen.append)
    yield seen
    unsubscribe()


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


Make = Callable[..., Host]
