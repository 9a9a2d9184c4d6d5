"""Fixtures of the tests of the command line."""

from __future__ import annotations

from tests.kit.cli_fixtures import cli, database, fleet, make, worker

__all__ = ["cli", "database", "fleet", "make", "worker"]
