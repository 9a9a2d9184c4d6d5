"""Layers, views, and where an update is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import resilient
from resilient import Policy, bulkhead, calls, circuit_breaker, fallback, load_settings, timeout
from tests.kit.policies import fails, policy
from tests.unit.admin.kit import changed_by, loaded, operator, options, updated


def slots(of: Policy) -> int:
    number: int = options(of, "bulkhead")["max_concurrent"]
    return number


def settings(folder: Path, of: Policy, number: int | None) -> None:
    line = "" if number is None else f'[policies."{of.name}".bulkhead]\nmax_concurrent = {number}\n'
    loaded(folder, line)


# -- which one wins --------------------------------------------------------------------------------


def test_operator_over_update_over_settings_over_declared(tmp_path: Path) -> None:
    """Set from below upwards, each takes the place of the one before."""
    shop = policy(bulkhead(1))
    settings(tmp_path, shop, 2)
    assert (slots(shop), changed_by(shop, "bulkhead")) == (2, {"max_concurrent": "settings"})
    shop.update(bulkhead={"max_concurrent": 3})
    assert (slots(shop), changed_by(shop, "bulkhead")) == (3, {"max_concurrent": "update"})
    operator(shop, bulkhead={"max_concurrent": 4})
    assert (slots(shop), changed_by(shop, "bulkhead")) == (4, {"max_concurrent": "operator"})
    assert "set by operator" in str(shop)


def test_a_lower_layer_changes_nothing_in_force_and_tells_nothing(
    tmp_path: Path, events: list[resilient.Event]
) -> None:
    """Set from above downwards, the first one stays."""
    shop = policy(bulkhead(1))
    operator(shop, bulkhead={"max_concurrent": 4})
    shop.update(bulkhead={"max_concurrent": 3})
    settings(tmp_path, shop, 2)
    assert (slots(shop), changed_by(shop, "bulkhead")) == (4, {"max_concurrent": "operator"})
    assert len(updated(events, shop)) == 1


def test_each_layer_is_remembered(tmp_path: Path) -> None:
    """Layers of different options lie side by side."""
    shop = policy(circuit_breaker(), bulkhead(1))
    shop.update(bulkhead={"order": "lifo"}, circuit_breaker={"failure_rate": 0.1})
    settings(tmp_path, shop, 2)
    operator(shop, bulkhead={"max_waiting": 3, "max_wait": 1})
    assert options(shop, "bulkhead") == {
        "max_concurrent": 2, "max_waiting": 3, "max_wait": 1.0, "order": "lifo",
    }  # fmt: skip
    assert changed_by(shop, "bulkhead") == {
        "max_concurrent": "settings", "max_waiting": "operator", "max_wait": "operator",
        "order": "update",
    }  # fmt: skip
    assert changed_by(shop, "circuit_breaker") == {"failure_rate": "update"}
    settings(tmp_path, shop, None)
    assert slots(shop) == 1
    assert options(shop, "bulkhead")["order"] == "lifo"


def test_settings_that_are_replaced_go_back_to_declared(
    tmp_path: Path, events: list[resilient.Event]
) -> None:
    """What the new settings do not name is as declared again, in one event."""
    shop = policy(circuit_breaker(), bulkhead(1))
    where = f'[policies."{shop.name}".'
    loaded(tmp_path, f"{where}circuit_breaker]\nfailure_rate=0.1\nminimum_calls=3\n")
    loaded(tmp_path, f"{where}circuit_breaker]\nfailure_rate=0.2\n{where}bulkhead]\norder='lifo'")
    assert changed_by(shop, "circuit_breaker") == {"failure_rate": "settings"}
    assert options(shop, "circuit_breaker")["minimum_calls"] == 20
    assert len(updated(events, shop)) == 2


def test_the_combination_of_the_layers_is_checked(tmp_path: Path) -> None:
    """A lower layer may not make what a higher one says invalid, nor the other way round."""
    shop = policy(circuit_breaker())
    operator(shop, circuit_breaker={"window": calls(30)})
    with pytest.raises(ValueError, match="minimum_calls"):
        shop.update(circuit_breaker={"minimum_calls": 31})
    shop.update(circuit_breaker={"minimum_calls": 30})
    with pytest.raises(ValueError, match="minimum_calls"):
        operator(shop, circuit_breaker={"window": calls(29)})
    assert options(shop, "circuit_breaker")["minimum_calls"] == 30


def test_settings_whose_removal_would_be_invalid_stay(tmp_path: Path) -> None:
    """An update that stands on them can't be left in the air: a readable error, nothing changed."""
    shop = policy(bulkhead(1))
    loaded(tmp_path, f'[policies."{shop.name}".bulkhead]\nmax_waiting=3\nmax_wait=1')
    shop.update(bulkhead={"max_wait": 2})
    with pytest.raises(ValueError, match=rf"{shop.name}.bulkhead: .*max_wait"):
        load_settings(environ={})
    assert options(shop, "bulkhead")["max_waiting"] == 3


@pytest.mark.parametrize(
    "bad", ["many", 0, True, None, {"a": 1}, 10**400], ids=lambda bad: str(bad)[:9]
)
@pytest.mark.parametrize("above", ["operator", "update"])
def test_a_value_under_a_higher_layer_is_validated_all_the_same(
    above: str, bad: Any, tmp_path: Path
) -> None:
    """Not in force now, but remembered: exactly as at declaration."""
    shop = policy(bulkhead(1))
    if above == "operator":
        operator(shop, bulkhead={"max_concurrent": 5})
        with pytest.raises((ValueError, TypeError), match="max_concurrent"):
            shop.update(bulkhead={"max_concurrent": bad})
    else:
        shop.update(bulkhead={"max_concurrent": 5})
        written = {"many": '"many"', 0: "0", True: "true", None: '"none"'}
        text = "{a = 1}" if isinstance(bad, dict) else written.get(bad, str(bad))
        with pytest.raises((ValueError, TypeError), match="max_concurrent"):
            loaded(tmp_path, f'[policies."{shop.name}".bulkhead]\nmax_concurrent = {text}')


# -- views -----------------------------------------------------------------------------------------


def limited() -> Policy:
    return policy(fallback(value=0), circuit_breaker(), bulkhead(1), timeout(1, sync="cooperative"))


def test_a_change_through_a_view_is_everybodys(events: list[resilient.Event]) -> None:
    """The guards that it shares are the policy's."""
    shop = limited()
    view = shop.with_(timeout(5, sync="cooperative"))
    other = shop.with_(timeout(6, sync="cooperative"))
    view.update(bulkhead={"max_concurrent": 9}, circuit_breaker={"failure_threshold": 1})
    assert slots(shop) == slots(view) == slots(other) == 9
    (event,) = updated(events, shop)
    assert event.policy == shop.name
    other.try_call(fails)
    assert shop.state == view.state == "open"


def test_a_views_own_guard_is_its_own() -> None:
    """Its timeout changes for it alone, and the policy's for the rest."""
    shop = limited()
    view = shop.with_(timeout(5, sync="cooperative"))
    view.update(timeout={"seconds": 7})
    assert (options(shop, "timeout")["seconds"], options(view, "timeout")["seconds"]) == (1, 7)
    shop.update(timeout={"seconds": 2})
    assert (options(shop, "timeout")["seconds"], options(view, "timeout")["seconds"]) == (2, 7)
    assert changed_by(view, "timeout") == {"seconds": "update"}


def test_all_or_nothing_through_a_view() -> None:
    """Its own guard and the shared ones change together or not at all."""
    shop = limited()
    view = shop.with_(timeout(5, sync="cooperative"))
    with pytest.raises(ValueError):
        view.update(timeout={"seconds": 7}, bulkhead={"max_concurrent": 0})
    with pytest.raises(ValueError):
        view.update(bulkhead={"max_concurrent": 7}, timeout={"seconds": 0})
    assert (slots(shop), options(view, "timeout")["seconds"]) == (1, 5)


def test_a_guard_that_only_a_view_has_is_unknown_to_the_policy() -> None:
    """And the other way round nothing is lost."""
    shop = policy(circuit_breaker())
    view = shop.with_(bulkhead(3))
    with pytest.raises(ValueError, match=r"no guard .bulkhead"):
        shop.update(bulkhead={"max_concurrent": 4})
    view.update(bulkhead={"max_concurrent": 4})
    assert slots(view) == 4


def test_stacked_decorators_are_one_policy() -> None:
    """Every layer of the stack can be changed through the function's policy."""

    @circuit_breaker(failure_threshold=3)
    @bulkhead(1)
    def fetch(inner: Any = None) -> str:
        return "fetched" if inner is None else inner()

    grown: Policy = fetch.__resilient__.policy  # type: ignore[attr-defined]
    grown.update(bulkhead={"max_concurrent": 2}, circuit_breaker={"failure_threshold": 1})
    assert fetch(fetch) == "fetched"
    with pytest.raises(OSError):
        fetch(fails)
    assert grown.state == "open"
