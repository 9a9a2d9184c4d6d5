"""Processes that follow the store of a command."""

from __future__ import annotations

from pathlib import Path

from tests.kit.command import Cli
from tests.kit.workers import Worker

WORKER = Path(__file__).with_name("cli_worker.py")


def worker_of(cli: Cli, **environ: str) -> Worker:
    """Start a process that runs cli_worker.py."""
    return Worker(WORKER, cli.env(**environ), cli.home)
