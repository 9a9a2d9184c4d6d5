"""Random changes in random layers, against a naive merge of dicts and a twin declared so."""

from __future__ import annotations

import contextvars
import itertools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import resilient
from resilient import CircuitOpenError, Policy, bulkhead, calls, circuit_breaker, timeout
from resilient.testing import ManualClock
from tests.kit.policies import fails
from tests.unit.admin.kit import breaker_state, operator, updated

LAYERS = ("declared", "settings", "update", "operator")
KINDS = ("circuit_breaker", "bulkhead", "timeout")
GOOD: dict[str, dict[str, list[Any]]] = {
    "circuit_breaker": {
        "failure_rate": [None, 0.1, 0.5, 1],
        "failure_threshold": [None, 1, 3],
        "window": [1.0, 10, calls(3), calls(6)],
        "minimum_calls": [1, 3, 5],
        "slow_call_duration": [None, 1, 4.0],
        "slow_call_rate": [0.5, 1],
        "recovery_timeout": [1, 5.0],
        "recovery_backoff": [1, 3.0],
        "max_recovery_timeout": [None, 2, 9.0],
        "half_open_max_calls": [1, 2],
        "success_threshold": [1, 2],
        "probe_lease": [None, 2],
    },
    "bulkhead": {"max_concurrent": [1, 2, 4], "order": ["fifo", "lifo"]},
    "timeout": {"seconds": [3, 9.0]},
}
BAD: list[Any] = [0, -1, True, "5", [], float("nan"), 10**400, calls, {"a": 1}]
DECLARED: dict[str, dict[str, Any]] = {
    "circuit_breaker": {"minimum_calls": 3, "failure_threshold": 2, "slow_call_duration": 2},
    "bulkhead": {"max_concurrent": 2},
    "timeout": {"seconds": 5},
}

_numbers = itertools.count(1)

good = st.one_of(
    *(
        st.fixed_dictionaries(
            {}, optional={name: st.sampled_from(values) for name, values in GOOD[kind].items()}
        ).map(lambda some, kind=kind: {kind: some})  # type: ignore[misc]
        for kind in KINDS
    )
)
changes = st.lists(good, min_size=1, max_size=2).map(
    lambda some: {kind: value for each in some for kind, value in each.items()}
)


def build(merged: Mapping[str, Mapping[str, Any]]) -> list[Any]:
    """Declare guards with some options, by the public decorators."""
    return [
        circuit_breaker(**merged["circuit_breaker"]),
        bulkhead(**merged["bulkhead"]),
        timeout(**merged["timeout"], sync="cooperative"),
    ]


def in_toml(value: Any) -> str:
    if value is None:
        return '"none"'
    return f'"{value}"' if isinstance(value, (str, calls)) else repr(value)


class Machine(RuleBasedStateMachine):
    """One policy that is changed and changed again, and a twin that was declared as it is now."""

    folder: Path

    @initialize(declared=st.sampled_from([{}, {"window": calls(6)}, {"slow_call_duration": None}]))
    def begin(self, declared: dict[str, Any]) -> None:
        self.clock = ManualClock()
        self.layers: dict[str, dict[str, dict[str, Any]]] = {
            layer: {kind: {} for kind in KINDS} for layer in LAYERS
        }
        for kind in KINDS:
            self.layers["declared"][kind] = dict(DECLARED[kind])
        self.layers["declared"]["circuit_breaker"].update(declared)
        self.names: list[str] = []
        self.live = self.made()
        self.twin = self.made()
        self.held: list[list[Any]] = []
        self.events: list[resilient.Event] = []
        self.unsubscribe = resilient.registry.subscribe(self.events.append)

    def teardown(self) -> None:
        if not hasattr(self, "unsubscribe"):
            return
        self.unsubscribe()
        while self.held:
            self.a_call_ends(0, False)
        resilient.load_settings(environ={})
        for name in self.names:
            resilient.registry.remove(name)

    # -- the model

    def merged(
        self, layers: dict[str, dict[str, dict[str, Any]]] | None = None, height: int = len(LAYERS)
    ) -> dict[str, Any]:
        found = self.layers if layers is None else layers
        return {
            kind: {
                name: value
                for layer in LAYERS[:height]
                for name, value in found[layer][kind].items()
            }
            for kind in KINDS
        }

    def made(self) -> Policy:
        name = f"live-model-{next(_numbers)}"
        self.names.append(name)
        return Policy(name, *build(self.merged()), clock=self.clock)

    def change(self, layer: str, given: dict[str, dict[str, Any]]) -> None:
        if layer == "settings":
            path = self.folder / "settings.toml"
            lines = [
                f"[policies.{self.live.name}.{kind}]\n"
                + "".join(f"{name} = {in_toml(value)}\n" for name, value in some.items())
                for kind, some in given.items()
            ]
            path.write_text("".join(lines))
            resilient.load_settings(path, environ={})
        elif layer == "operator":
            operator(self.live, **given)
        else:
            self.live.update(**given)

    def after(self, layer: str, given: dict[str, dict[str, Any]]) -> dict[str, Any]:
        layers = {each: dict(self.layers[each]) for each in LAYERS}
        if layer == "settings":
            layers[layer] = {kind: dict(given.get(kind, {})) for kind in KINDS}
        else:
            for kind, some in given.items():
                layers[layer][kind] = {**layers[layer][kind], **some}
        return layers

    # -- changes

    @rule(layer=st.sampled_from(LAYERS[1:]), given=changes)
    def options_change(self, layer: str, given: dict[str, dict[str, Any]]) -> None:
        layers = self.after(layer, given)
        before, kept = self.in_force(), breaker_state(self.live)
        own = self.own_state()
        told = len(updated(self.events, self.live))
        try:
            # Also what is left when the layers above are taken away must be valid.
            for height in range(LAYERS.index(layer) + 1, len(LAYERS) + 1):
                wanted = [guard.options() for guard in build(self.merged(layers, height))]
        except (ValueError, TypeError) as error:
            with pytest.raises(type(error)):
                self.change(layer, given)
            assert self.in_force() == before
            assert breaker_state(self.live) == kept
            assert len(updated(self.events, self.live)) == told
            return
        self.change(layer, given)
        self.layers = layers
        assert self.in_force() == wanted
        assert len(updated(self.events, self.live)) - told == (wanted != before)
        if wanted[0]["window"] != before[0]["window"]:
            kept["window"] = {"calls": 0, "failures": 0, "slow": 0}
            assert "afresh" in updated(self.events, self.live)[-1].after
        assert breaker_state(self.live) == kept
        assert self.own_state() == own
        if self.held:
            self.twin.update(
                **{
                    guard.kind: {name: guard.options()[name] for name in guard.changeable}
                    for guard in self.live.guards
                }
            )
        else:
            self.twin = self.made()
            self.twin.guards[0].restore(self.live.guards[0].save())

    @rule(
        layer=st.sampled_from(LAYERS[2:]),
        kind=st.sampled_from(KINDS),
        data=st.data(),
        bad=st.sampled_from(BAD),
        beside=good,
    )
    def an_invalid_change_changes_nothing(
        self, layer: str, kind: str, data: st.DataObject, bad: Any, beside: dict[str, Any]
    ) -> None:
        name = data.draw(st.sampled_from(sorted(GOOD[kind])))
        given = {**beside, kind: {**beside.get(kind, {}), name: bad}}
        before, kept = self.in_force(), breaker_state(self.live)
        told, own = len(updated(self.events, self.live)), self.own_state()
        with pytest.raises((ValueError, TypeError)) as caught:
            self.change(layer, given)
        assert self.live.name in str(caught.value)
        assert self.in_force() == before
        assert breaker_state(self.live) == kept
        assert self.own_state() == own
        assert len(updated(self.events, self.live)) == told

    # -- calls, of both

    def both(self) -> tuple[Policy, Policy]:
        return self.live, self.twin

    @rule(step=st.sampled_from([0.1, 0.5, 1.0, 2.0, 5.0, 11.0]))
    def time_passes(self, step: float) -> None:
        self.clock.advance(step)

    @rule(fail=st.booleans(), number=st.integers(1, 4))
    def calls_are_made(self, fail: bool, number: int) -> None:
        for _ in range(number):
            ends = [each.try_call(fails if fail else int) for each in self.both()]
            kinds = [type(end.error) for end in ends]
            assert kinds[0] is kinds[1]
            if kinds[0] is CircuitOpenError:
                assert ends[0].error.retry_after == ends[1].error.retry_after  # type: ignore[union-attr]

    @rule()
    def a_call_begins(self) -> None:
        pair: list[Any] = []
        for each in self.both():
            context, block = contextvars.copy_context(), each.block()
            try:
                context.run(block.__enter__)
            except resilient.RefusedError as error:
                pair.append(type(error))
            else:
                pair.append((context, block))
        if isinstance(pair[0], tuple) and isinstance(pair[1], tuple):
            self.held.append(pair)
        else:
            assert pair[0] is pair[1]

    @rule(place=st.integers(0, 9), fail=st.booleans())
    def a_call_ends(self, place: int, fail: bool) -> None:
        error = OSError("down") if fail else None
        for context, block in self.held.pop(place % len(self.held)) if self.held else ():
            context.run(block.__exit__, error and OSError, error, None)

    # -- what holds always

    def in_force(self) -> list[dict[str, Any]]:
        return [guard.options() for guard in self.live.guards]

    def own_state(self) -> tuple[Any, ...]:
        saved = self.live.guards[0].save()
        health = saved.pop("health")
        used = [self.live.guards[1].snapshot(0)[key] for key in ("running", "used", "waiting")]
        return saved, health[1], health[2], used, self.live.snapshot()["calls"]

    @invariant()
    def the_options_are_those_of_the_model(self) -> None:
        built = build(self.merged())
        assert self.in_force() == [guard.options() for guard in built]
        declared = build(self.layers["declared"])
        for mine, now, then in zip(self.live.snapshot()["guards"], built, declared, strict=True):
            differs = {
                name for name, value in now.options().items() if value != then.options()[name]
            }
            assert set(mine["changed"]) == differs
            for name, how in mine["changed"].items():
                highest = [x for x in LAYERS if name in self.layers[x][mine["guard"]]][-1]
                assert how["by"] == highest

    @invariant()
    def the_twin_is_in_the_same_state(self) -> None:
        assert breaker_state(self.live) == breaker_state(self.twin)
        for mine, its in zip(*(x.snapshot()["guards"] for x in self.both()), strict=True):
            assert mine["options"] == its["options"]
            assert mine.get("used") == its.get("used")


@pytest.mark.timeout(120)
def test_changes_and_calls_in_any_order(tmp_path: Path) -> None:
    """The machine above."""
    from hypothesis.stateful import run_state_machine_as_test

    Machine.folder = tmp_path
    run_state_machine_as_test(
        Machine,
        settings=settings(
            max_examples=60,
            stateful_step_count=40,
            deadline=None,
            phases=(Phase.generate,),  # to shrink takes longer than a test may
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
