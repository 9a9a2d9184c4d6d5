"""Fixtures of the stream tests."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.begun import which_call
from tests.kit.streams import ASYNC_KINDS, KINDS, Kind, Unraised
from tests.unit.engine.streams.http_kit import Server

__all__ = ["which_call"]


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Every kind of stream: generators, and async generators on each loop."""
    found: Kind = request.param
    return found


@pytest.fixture(params=ASYNC_KINDS, ids=lambda kind: kind.name)
def akind(request: pytest.FixtureRequest) -> Kind:
    """Async generators on each loop."""
    found: Kind = request.param
    return found


@pytest.fixture
def unraised() -> Iterator[list[str]]:
    """What was raised where nobody could catch it; nothing may be, at the end of the test."""
    with Unraised() as seen:
        yield seen
    assert seen == [], f"raised where nobody could catch it: {seen}"


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """Give a server in a process of its own."""
    script = Path(__file__).with_name("drip_server.py")
    with subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        try:
            yield Server(int(process.stdout.readline()))
        finally:
            process.kill()
