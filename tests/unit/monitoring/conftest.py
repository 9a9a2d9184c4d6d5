"""Fixtures of the tests of what whoever is on call looks at."""

from __future__ import annotations

import pytest

from tests.kit.fixtures import clock
from tests.kit.hosts import host, shared

__all__ = ["clock", "host", "shared"]

pytest.importorskip("click")
pytest.importorskip("rich")
