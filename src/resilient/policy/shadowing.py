"""Shadows of a policy: candidates beside its guards, and how one takes their place."""

from __future__ import annotations

from typing import Any

from .. import validation
from ..admin.options import guard_named
from ..engine.policy_state import PolicyState
from ..guards.base import Guard
from ..guards.facets import Admission, Queueing, Retries, Switch, TimeLimit
from ..guards.shadow import Shadow
from . import ordering


def shadowed(core: PolicyState, guards: tuple[Guard, ...], candidate: object) -> tuple[Guard, ...]:
    """Return a policy's guards with the shadow of a candidate among them."""
    admits = isinstance(candidate, Admission) and not isinstance(
        candidate, (Switch, Shadow, TimeLimit, Retries)
    )
    if not (isinstance(candidate, Admission) and admits):
        validation.refuse_type(
            "candidate", candidate, "a guard that can refuse, such as circuit_breaker(...)"
        )
    ordering.check_new((candidate,))
    if isinstance(candidate, Queueing) and candidate.places():
        validation.refuse("candidate", candidate, "without a line: in a shadow nobody waits")
    if core.shaped or core.view_guards:
        raise ValueError(
            f"{core.name} guards a function already, which a shadow would not see: call shadow() "
            "where the policy is made"
        )
    if core.keys is not None:
        raise ValueError(f"{core.name} has keys already: call shadow() before keyed()")
    if any(isinstance(each, Shadow) and each.of == candidate.kind for each in guards):
        raise ValueError(f"{core.name} has a shadow of its {candidate.kind} already")
    shadow = Shadow(candidate)
    places = [place for place, each in enumerate(guards) if each.kind == candidate.kind]
    if not places:
        rank = 100.0 if candidate.rank is None else candidate.rank
        inside = [
            place for place, each in enumerate(guards)
            if each.rank is not None and each.rank > rank
        ]  # fmt: skip
        places = inside or [len(guards)]
    candidate._policy_name = core.name
    return *guards[: places[0]], shadow, *guards[places[0] :]


def promotion(core: PolicyState, guards: tuple[Guard, ...]) -> dict[str, dict[str, Any]]:
    """Return the options by which shadows differ from the guards they stand beside.

    Raises:
        ValueError: there is no shadow, one without a guard whose place it could take, or none whose
            options differ that can change.
    """
    shadows = [each for each in guards if isinstance(each, Shadow)]
    if not shadows:
        raise ValueError(f"{core.name} has no shadow to promote")
    known = {each.of: each.changes(guard_named(core.name, guards, each.of)) for each in shadows}
    if not any(known.values()):
        raise ValueError(
            f"{core.name} has nothing to promote: its guards have the options of its shadows, but "
            "for those that can't change at run time"
        )
    return known
