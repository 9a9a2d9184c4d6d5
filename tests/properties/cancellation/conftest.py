"""Fixtures of the cancellation tests."""

from __future__ import annotations

import pytest

from tests.kit.cancellation import LOOPS, NO_EAGER


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    """Name a loop; eager tasks are there from Python 3.12 on."""
    if request.param == "eager" and NO_EAGER:
        pytest.skip("eager tasks need Python 3.12")
    return str(request.param)
