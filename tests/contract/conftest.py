"""Fixtures of the contract tests: the colours, a manual clock, and the events of one test."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import pytest

import resilient
from resilient.testing import ManualClock
from tests.contract.contract_kit import COLOURS, TIMED_COLOURS, Colour

_numbers = itertools.count(1)


@pytest.fixture(params=COLOURS, ids=lambda colour: colour.name)
def colour(request: pytest.FixtureRequest) -> Colour:
    """Every way to run a call; sync timeouts are cooperative."""
    found: Colour = request.param
    return found


@pytest.fixture(params=TIMED_COLOURS, ids=lambda colour: colour.name)
def timed(request: pytest.FixtureRequest) -> Colour:
    """Every way to run a call under a timeout, worker threads too."""
    found: Colour = request.param
    return found


@pytest.fixture
def clock() -> ManualClock:
    """A clock that only the test moves."""
    return ManualClock()


@pytest.fixture
def name() -> Iterator[str]:
    """A policy name of this test's own, which is free again afterwards."""
    own = f"contract-{next(_numbers)}"
    yield own
    for taken in resilient.registry.names():
        if taken == own or taken.startswith(own + "-"):
            resilient.registry.remove(taken)


@pytest.fixture
def events() -> Iterator[list[resilient.Event]]:
    """The events that happen during the test."""
    seen: list[resilient.Event] = []
    unsubscribe = resilient.registry.subscribe(seen.append)
    yield seen
    unsubscribe()
