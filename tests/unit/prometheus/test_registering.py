"""Where the metrics are registered, how often, and how not."""

from __future__ import annotations

import pytest
from prometheus_client import REGISTRY, CollectorRegistry, Gauge, generate_latest

from resilient import Policy, metrics


@pytest.fixture
def default():
    """Put the default registry back to what it was."""
    metrics.register()
    yield REGISTRY
    metrics.register()


def test_unregister_takes_them_off_the_default_registry(default) -> None:
    assert b"resilient_policies " in generate_latest(default)
    metrics.unregister()
    assert b"resilient_" not in generate_latest(default)
    metrics.unregister()
    metrics.register()
    assert b"resilient_policies " in generate_latest(default)


def test_another_registry_has_them_beside_the_default_one(default) -> None:
    Policy("both")
    target = CollectorRegistry()
    undo = metrics.register(registry=target)
    assert b'policy="both"' in generate_latest(target)
    assert b'policy="both"' in generate_latest(default)
    undo()
    undo()
    assert generate_latest(target) == b""
    assert b'policy="both"' in generate_latest(default)


def test_registering_again_replaces_and_never_doubles(scrape_of) -> None:
    target = CollectorRegistry()
    first = metrics.register(target)
    second = metrics.register(target, max_policies=1)
    Policy("a"), Policy("b")
    assert (
        scrape_of(target)("policies_in_other") == 1
    )  # Scrape refuses a series that is there twice
    first()
    assert scrape_of(target)("policies") == 2
    second()
    assert generate_latest(target) == b""


def test_a_registry_emptied_by_others_can_be_used_again(scrape_of) -> None:
    target = CollectorRegistry()
    undo = metrics.register(target)
    for collector in list(target._collector_to_names):
        target.unregister(collector)
    undo()
    metrics.register(target)
    assert scrape_of(target)("policies") == 0


def test_a_name_that_is_taken_is_an_error() -> None:
    target = CollectorRegistry()
    Gauge("resilient_limit", "someone else's", registry=target)
    with pytest.raises(ValueError, match="resilient_limit"):
        metrics.register(target)
    assert generate_latest(target).count(b"resilient_") == 3
    with pytest.raises(ValueError, match="resilient_policies"):
        taken = CollectorRegistry()
        metrics.register(taken)
        Gauge("resilient_policies", "too late", registry=taken)


def test_registering_reads_no_policy(monkeypatch) -> None:
    Policy("unread")
    monkeypatch.setattr("resilient.pages.sharing.row_of", None)
    metrics.register(CollectorRegistry(auto_describe=True))()


def test_some_names_can_be_asked_for(mine) -> None:
    Policy("some")
    text = generate_latest(mine.restricted_registry(["resilient_in_flight", "resilient_policies"]))
    lines = [line for line in text.decode().splitlines() if not line.startswith("#")]
    assert lines == ['resilient_in_flight{policy="some"} 0.0', "resilient_policies 1.0"]
    assert mine.get_sample_value("resilient_in_flight", {"policy": "some"}) == 0


def test_a_family_is_a_sequence_of_samples(mine) -> None:
    Policy("some")
    for family in mine.collect():
        assert len(family.samples) == len(list(family.samples)) > 0
        assert family.samples[-1] == list(family.samples)[-1]
        assert not family.samples[0].labels.get("policy", "some") != "some"


@pytest.mark.parametrize("wrong", [0, -1, 1.5, True, "1000", None])
def test_max_policies_is_checked(wrong) -> None:
    with pytest.raises((ValueError, TypeError), match="max_policies must be an int from 1"):
        metrics.register(CollectorRegistry(), max_policies=wrong)


def test_the_registry_is_checked() -> None:
    with pytest.raises(TypeError, match="registry must be a CollectorRegistry"):
        metrics.register("default")
