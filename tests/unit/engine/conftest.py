"""Fixtures of the tests of the engine."""

from __future__ import annotations

from tests.kit.fixtures import clock

__all__ = ["clock"]
