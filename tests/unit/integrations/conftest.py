"""Fixtures of the tests of what integrates logs and OpenTelemetry: workers that end soon."""

from __future__ import annotations

from tests.kit.fixtures import idle_workers_end_soon

__all__ = ["idle_workers_end_soon"]
