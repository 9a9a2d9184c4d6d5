"""Flags as metrics."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from resilient import Policy, bulkhead, flag, flags, kill_switch
from resilient.admin import options as updating
from resilient.flags.runtime import here

Scrapes = Callable[[], Any]


def test_a_flag_shows_itself(scrape: Scrapes) -> None:
    """State, changes, off calls and end are there, and follow what happens."""
    shop = flag("metrics-shop")
    found = scrape()
    assert found("flag_enabled", flag="metrics-shop") == 1
    assert found("flag_changes_total", flag="metrics-shop") == 0
    assert found("flag_off_calls_total", flag="metrics-shop") == 0
    assert found("flag_expires_timestamp_seconds", flag="metrics-shop") is None
    flags.off(shop, reason="a try", by="an operator", duration=600)
    guarded = kill_switch(shop, answer=lambda: "closed")(lambda: "open")
    assert guarded() == "closed"
    assert not shop
    found = scrape()
    assert found("flag_enabled", flag="metrics-shop") == 0
    assert found("flag_changes_total", flag="metrics-shop") == 1
    assert found("flag_off_calls_total", flag="metrics-shop") == 2
    flip = here.state.flips["flag/metrics-shop"]
    assert found("flag_expires_timestamp_seconds", flag="metrics-shop") == flip.until
    assert not any("operator" in value or "a try" in value for _, labels in found.values
                   for _, value in labels)  # fmt: skip
    flags.on(shop, reason="enough")
    found = scrape()
    assert found("flag_enabled", flag="metrics-shop") == 1
    assert found("flag_expires_timestamp_seconds", flag="metrics-shop") is None
    here.stop()


def test_without_a_store_there_is_no_age(scrape: Scrapes) -> None:
    """A process that follows nothing has no age to be alerted by."""
    assert scrape()("flag_sync_age_seconds") is None


def test_too_many_flags_are_counted_and_not_shown(
    scrape: Scrapes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The number of series is bounded; the number of flags is told."""
    monkeypatch.setattr("resilient.telemetry.flag_samples.MAX_FLAGS", 1)
    first = here.flags.all()[:1] or [flag("metrics-first")]
    flag("metrics-second")
    found = scrape()
    assert found("flag_enabled", flag=first[0].name) is not None
    assert found("flag_enabled", flag="metrics-second") is None
    assert found("flags") == len(here.flags.all())


def test_options_of_an_operator_are_an_override(scrape: Scrapes) -> None:
    """From the first order on, the override shows, and shows that it has ended."""
    policy = Policy("metrics-ordered", bulkhead(5))
    assert scrape()("override_active", "metrics-ordered", kind="options") is None
    core, guards = policy._core, policy._guards
    updating.update(core, guards, "operator", {"bulkhead": {"max_concurrent": 2}}, "a try")
    assert scrape()("override_active", "metrics-ordered", kind="options") == 1
    change = updating.OptionChange(core)
    change.add(guards[0], "operator", {})
    assert updating.apply([change], "enough")
    assert scrape()("override_active", "metrics-ordered", kind="options") == 0
