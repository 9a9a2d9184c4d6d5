"""Tests of the kit: processes that are told what to do."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from tests.kit.workers import Worker, free_port

ECHO = """
import sys
print("ready", flush=True)
for line in sys.stdin:
    if line == "die\\n":
        sys.exit("these were its last words")
    print(line.strip()[::-1], flush=True)
"""


@pytest.fixture
def worker(tmp_path: Path) -> Worker:
    """Give a process that answers with the same, from the end to the beginning."""
    script = tmp_path / "echo.py"
    script.write_text(ECHO)
    return Worker(script, dict(os.environ), tmp_path)


def test_it_answers_and_ends(worker: Worker) -> None:
    """One line for each line; it is frozen and goes on, and ends by itself."""
    assert worker.ask("abc", 12) == "21 cba"
    worker.stop()
    worker.cont()
    assert worker.ask("x") == "x"
    worker.quit()
    worker.close()
    worker.close()  # once more does no harm


def test_the_last_words_of_one_that_ended_are_said(worker: Worker) -> None:
    """A test that asks in vain fails with them."""
    with pytest.raises(AssertionError, match="its last words"):
        worker.ask("die")
    worker.close()


def test_one_that_is_frozen_is_ended(worker: Worker) -> None:
    """No process outlives its test."""
    worker.stop()
    worker.close()
    assert worker.process.returncode is not None


def test_a_port_that_is_free() -> None:
    """Somebody can listen at it."""
    with socket.create_server(("127.0.0.1", free_port())):
        pass
