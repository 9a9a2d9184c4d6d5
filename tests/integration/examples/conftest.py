"""The command, with a store in which there is nothing yet."""

from __future__ import annotations

from tests.kit.cli_fixtures import cli, database

__all__ = ["cli", "database"]
