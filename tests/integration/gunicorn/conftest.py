"""The command, and stores for it."""

from __future__ import annotations

from tests.kit.cli_fixtures import cli, database, fleet

__all__ = ["cli", "database", "fleet"]
