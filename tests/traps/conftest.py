"""Fixtures of the trap tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from resilient.testing import ManualClock
from tests.traps.helpers import BACKENDS, COLOURS, World, world_of


@pytest.fixture
def clock() -> ManualClock:
    """Give a clock that only the test moves."""
    return ManualClock()


@pytest.fixture(params=COLOURS)
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    """Give calls in threads, in tasks of asyncio and in tasks of trio."""
    with world_of(request.param) as made:
        yield made


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Name an event loop."""
    return str(request.param)
