"""Fixtures of the tests of alerts and dashboard."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.integration.prometheus.story import Run
from tests.kit.servers.prometheus import Prometheus


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    """A service that was healthy, then not, and then again, all of it seen by Prometheus."""
    pytest.importorskip("gunicorn")
    prometheus = Prometheus()
    try:
        made = Run(tmp_path_factory.mktemp("run"), prometheus)
        try:
            made.play()
            yield made
        finally:
            made.close()
    finally:
        prometheus.close()
