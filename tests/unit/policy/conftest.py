"""Fixtures of the tests of policies."""

from __future__ import annotations

from tests.kit.fixtures import clock

__all__ = ["clock"]
