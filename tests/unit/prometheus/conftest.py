"""Fixtures of the metrics tests: an empty policy registry, and scrapes as plain dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.openmetrics.exposition import generate_latest as generate_openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse

from resilient import metrics
from tests.kit.fixtures import clock

__all__ = ["clock"]

Series = tuple[str, frozenset[tuple[str, str]]]


class Scrape:
    """What one scrape showed."""

    def __init__(self, target: CollectorRegistry) -> None:
        text = generate_latest(target).decode()
        self.families = {family.name: family for family in parse(text)}
        self.values: dict[Series, float] = {}
        for family in self.families.values():
            for line in family.samples:
                key = (line.name, frozenset(line.labels.items()))
                assert key not in self.values, f"{key} is there twice"
                self.values[key] = line.value

    def __call__(self, name: str, policy: str | None = None, **labels: str) -> float | None:
        """Return one value, None where there is no such series."""
        if policy is not None:
            labels["policy"] = policy
        return self.values.get(("resilient_" + name, frozenset(labels.items())))

    def of(self, policy: str) -> dict[Series, float]:
        """Return all the series of a policy."""
        return {key: n for key, n in self.values.items() if ("policy", policy) in key[1]}


@pytest.fixture(autouse=True)
def _alone(alone: None) -> None:
    """Let each test see only the policies that it makes."""


@pytest.fixture
def mine() -> Iterator[CollectorRegistry]:
    """Give a registry of the test's own, with the metrics on it."""
    target = CollectorRegistry()
    unregister = metrics.register(target)
    yield target
    unregister()


@pytest.fixture
def scrape(mine: CollectorRegistry) -> Callable[[], Scrape]:
    """Give a function that scrapes; OpenMetrics, which is stricter, must be able to read it too."""

    def now() -> Scrape:
        families = parse_openmetrics(generate_openmetrics(mine).decode())
        assert {family.name for family in families}
        return Scrape(mine)

    return now


@pytest.fixture
def scrape_of() -> Callable[[CollectorRegistry], Scrape]:
    """Give a function that scrapes any registry."""
    return Scrape
