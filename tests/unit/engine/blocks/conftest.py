"""Fixtures of the block tests."""

from __future__ import annotations

import pytest

from tests.kit.begun import which_call
from tests.kit.blocks import ASYNC_WAYS, WAYS, Way

__all__ = ["which_call"]


@pytest.fixture(params=WAYS, ids=lambda way: way.name)
def way(request: pytest.FixtureRequest) -> Way:
    """Every way to enter a block: `with`, and `async with` on each loop."""
    found: Way = request.param
    return found


@pytest.fixture(params=ASYNC_WAYS, ids=lambda way: way.name)
def away(request: pytest.FixtureRequest) -> Way:
    """`async with` on each loop."""
    found: Way = request.param
    return found
