"""Fixtures of the tests of regressions."""

from __future__ import annotations

from tests.kit.fixtures import clock

__all__ = ["clock"]
