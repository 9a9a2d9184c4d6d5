"""Fixtures of the tests of properties."""

from __future__ import annotations

from tests.kit.fixtures import clock

__all__ = ["clock"]
