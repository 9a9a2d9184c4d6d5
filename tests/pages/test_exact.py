"""After each call, and in the middle of it, the page says what the policy says."""

from __future__ import annotations

import pytest

from .deeds import GUARDS
from .kit import Host


@pytest.mark.parametrize("kind", GUARDS)
def test_every_shape_of_a_call(host: Host, root: str, kind: str) -> None:
    """Sync and async, quick and slow, of every end: each count is in the page at once."""
    worker = host.start("from tests.pages.deeds import all_of", PYTHONPATH=root)
    assert worker.do(f"all_of({kind!r})") == []


def test_bodies_that_are_given_up(host: Host, root: str) -> None:
    """What is abandoned is counted when it is, and again when it ends."""
    worker = host.start("from tests.pages.deeds import abandoned", PYTHONPATH=root)
    assert worker.do("abandoned()") == []
