"""Fixtures of the tests of live settings."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import resilient


@pytest.fixture
def events() -> Iterator[list[resilient.Event]]:
    """The events that happen during the test."""
    seen: list[resilient.Event] = []
    unsubscribe = resilient.registry.subscribe(seen.append)
    yield seen
    unsubscribe()
