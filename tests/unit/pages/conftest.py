"""A host of its own for each test, and one for all tests of a module."""

from __future__ import annotations

from tests.kit.hosts import host, shared

__all__ = ["host", "shared"]
