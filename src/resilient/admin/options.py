"""Options that change at run time, in layers over the declared ones; the state is kept.

A change is prepared outside the lock, by building a guard with the new options: its constructor
checks them as it checked the declared ones. Under the lock the living guard takes them over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Final, NoReturn, cast

from .. import validation
from ..engine.policy_state import PolicyState
from ..engine.section import BUSY
from ..events import Event
from ..guards.base import Guard
from ..guards.facets import Changeable, Peered
from ..guards.sorting import changeable_options

# Later ones win: an operator's order, then policy.update(), then a settings file, then the code.
DECLARED: Final = "declared"
SETTINGS: Final = "settings"
UPDATE: Final = "update"
OPERATOR: Final = "operator"
LAYERS: Final = (DECLARED, SETTINGS, UPDATE, OPERATOR)

Layers = dict[str, dict[str, Any]]
Options = Mapping[str, Mapping[str, Any]]


class OptionChange:
    """A change of one policy's options that is being prepared."""

    def __init__(self, core: PolicyState) -> None:
        self.core: PolicyState = core
        self._steps: list[tuple[Guard, Layers | None, Layers, Guard]] = []

    def add(
        self, guard: Guard, layer: str, options: Mapping[str, Any], *, over: bool = False
    ) -> None:
        """Set a layer of a guard's options, as a whole or over its present ones."""
        seen = guard._layers
        layers: Layers = dict(seen or {DECLARED: _changeable(guard)})
        layers[layer] = {**layers.get(layer, {}), **options} if over else dict(options)
        if not (changeable_options(guard) and (options or layer in (seen or {}))):
            return
        # Also build each layer without those above it: when they are removed, the rest must be
        # valid.
        heights = range(LAYERS.index(layer) + 1, len(LAYERS) + 1)
        fresh = [renewed(guard, {k: layers.get(k, {}) for k in LAYERS[:top]}) for top in heights]
        self._steps.append((guard, seen, layers, fresh[-1]))

    def ready(self) -> bool:
        """Return True if no concurrent change was made. The caller holds the lock."""
        return all(guard._layers is seen for guard, seen, _, _ in self._steps)

    def swap(self, now: float, reason: str) -> None:
        """Make the change. The caller holds the lock."""
        core = self.core
        before: list[str] = []
        after: list[str] = []
        for guard, _, layers, fresh in self._steps:
            known = len(after)
            _note(guard, fresh, before, after)
            guard._revision += len(after) > known
            if isinstance(guard, Changeable):
                guard.take_over(fresh, now)
            guard._layers = layers
        for guard in core.all_guards():
            if isinstance(guard, Peered):
                guard.peers_changed()
        if after:
            event = Event(
                "updated",
                guard="policy",
                at=now,
                reason=reason,
                before=", ".join(before),
                after=", ".join(after),
                cause="operator",
            )
            core.outbox.emit(event)


def apply(changes: list[OptionChange], reason: str) -> bool:
    """Make all changes, or none; return False if there was a concurrent change."""
    # Every thread takes the locks in this order.
    changes = sorted(changes, key=lambda change: id(change.core))
    moments = [change.core.now() for change in changes]
    for change in changes:
        change.core.must_be_free()
    with ExitStack() as locked:  # events wait until all locks are free
        for change in changes:
            locked.enter_context(change.core.lock)
        if not all(change.ready() for change in changes):
            return False
        try:
            for change in changes:
                change.core.gate |= BUSY
            for change, now in zip(changes, moments, strict=True):
                change.swap(now, reason)
        finally:
            for change in changes:
                change.core.gate = change.core.idle_gate
    for change in changes:
        if change.core.keys is not None:
            change.core.keys.follow()
        change.core.flush()
    return True


def update(
    core: PolicyState, guards: tuple[Guard, ...], layer: str, options: Options, reason: str
) -> None:
    """Set some options of some guards in a layer, over the present ones of that layer."""
    while True:
        change = OptionChange(core)
        for kind, given in options.items():
            guard = guard_named(core.name, guards, kind)
            try:
                change.add(guard, layer, checked(core.name, guard, given), over=True)
            except (ValueError, TypeError) as error:
                error.args = (f"{core.name}.{kind}: {error}",)
                raise
        if apply([change], reason):
            return


def renewed(guard: Guard, layers: Layers | None) -> Guard:
    """Return a new guard of the same kind, with the options of some layers."""
    options = guard.options()
    for layer in LAYERS:
        options.update((layers or {}).get(layer, {}))
    make = cast("Callable[..., Guard]", type(guard))
    return make(**options)


def guard_named(policy: str, guards: tuple[Guard, ...], kind: str) -> Guard:
    """Return the one guard of a kind, or raise a ValueError that names those that exist."""
    found = [guard for guard in guards if guard.kind == kind]
    if len(found) == 1:
        return found[0]
    if found:
        raise ValueError(
            f"{policy} has {len(found)} guards of kind {kind}: which one is meant can't be known"
        )
    return unknown(
        f"{policy} has no guard", kind, [g.kind for g in guards if changeable_options(g)]
    )


def checked(policy: str, guard: Guard, given: object) -> Mapping[str, Any]:
    """Return the options, if all names are known and may change at run time."""
    if not isinstance(given, Mapping):
        validation.refuse_type(
            f"{policy}.{guard.kind}", given, "a mapping of option names to values"
        )
    options = cast("Mapping[str, Any]", given)
    changeable = changeable_options(guard)
    for name in options:
        if name not in changeable:
            if name in guard.options():
                raise ValueError(
                    f"{name} can't change at run time; these can: {', '.join(changeable) or 'none'}"
                )
            unknown("there is no option", name, changeable)
    return options


def unknown(what: str, name: object, there: list[str] | tuple[str, ...]) -> NoReturn:
    """Raise a ValueError for an unknown name, with the nearest known one."""
    hint = validation.did_you_mean(name, there) or "."
    raise ValueError(
        f"{what} {validation.shown(name)}{hint} There is: {', '.join(there) or 'none'}"
    )


def changed(guard: Guard) -> dict[str, Any]:
    """Return the options that differ from the declared ones: the declared value, and the layer."""
    if guard._layers is None:
        return {}
    declared, now = guard._layers[DECLARED], guard.options()
    return {
        name: {"declared": _plain(declared[name]), "by": layer}
        for layer in LAYERS[1:]
        for name in guard._layers.get(layer, {})
        if now[name] != declared[name]
    }


def _plain(value: Any) -> Any:
    return value if value is None or isinstance(value, (int, float, str)) else str(value)


def _changeable(guard: Guard) -> dict[str, Any]:
    options = guard.options()
    return {name: options[name] for name in changeable_options(guard)}


def _note(guard: Guard, fresh: Guard, before: list[str], after: list[str]) -> None:
    """Record the options that differ."""
    old, new = _changeable(guard), _changeable(fresh)
    afresh = guard.starts_afresh if isinstance(guard, Changeable) else ()
    for name in old:
        if old[name] != new[name]:
            lost = " (starts afresh)" if name in afresh else ""
            before.append(f"{guard.kind}.{name}={old[name]}")
            after.append(f"{guard.kind}.{name}={new[name]}{lost}")
