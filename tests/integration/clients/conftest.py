"""Fixtures of the tests of the integrations: real servers, and workers that end soon."""

from __future__ import annotations

import pytest

from resilient.drive import workers


@pytest.fixture(autouse=True)
def idle_workers_end_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten seconds of idleness would be ten seconds of waiting in each test that counts threads."""
    monkeypatch.setattr(workers, "IDLE_SECONDS", 0.1)
