"""Children of a process that was at its store at the very moment of the fork."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kit.command import Cli

FORKER = Path(__file__).with_name("forker.py")


@pytest.mark.parametrize("store", ["cli", "fleet"])
def test_every_child_follows_whatever_its_parent_was_at(
    store: str, request: pytest.FixtureRequest
) -> None:
    """A child that was forked in the middle of its parent's transaction reads and beats."""
    of: Cli = request.getfixturevalue(store)
    done = subprocess.run(
        [sys.executable, str(FORKER)], env=of.env(), stdin=subprocess.DEVNULL,
        capture_output=True, timeout=40, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr.decode()
    faults = json.loads(done.stdout)
    assert faults == [""] * 30
