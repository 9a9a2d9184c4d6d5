"""Which guards may stand together in a policy, and in which order they should."""

from __future__ import annotations

from itertools import pairwise
from math import inf
from typing import Any, Final

from .. import validation
from ..engine.policy_state import PolicyState
from ..errors import DeclarationWarning, OrderWarning
from ..guards.advising import Advises
from ..guards.attached import Attached
from ..guards.base import Guard
from ..guards.facets import (
    Admission,
    Answers,
    Changeable,
    Keeps,
    Queueing,
    Retries,
    Slots,
    Switch,
    TimeLimit,
)
from ..guards.races import Races
from ..guards.recalls import Recalls
from ..guards.sorting import answering, time_limits
from ..place import Place

# What a guard has to write itself.
REQUIRED: Final[dict[type[Guard], tuple[str, ...]]] = {
    Admission: ("admit",), Queueing: ("park", "unpark", "quit", "places"), Slots: ("slots",),
    Answers: ("recover",), Keeps: ("keep",), Recalls: ("recall",), Retries: ("again",),
    Races: ("copies_after", "copies"),
    Changeable: ("take_over",), Attached: ("attach",),
    Switch: ("needs_asking", "is_off"),
}  # fmt: skip


def check_new(guards: tuple[Guard, ...]) -> None:
    """Raise unless all are guards that belong to no policy yet."""
    for guard in guards:
        if not isinstance(guard, Guard):
            validation.refuse_type(
                "guards", guard, "guards, such as circuit_breaker() with its parentheses"
            )
        _check_whole(guard)
        if guard._policy_name:
            raise ValueError(
                f"this {guard.kind} belongs to {guard._policy_name} already: a guard's state is "
                "one policy's. Use that policy, or its with_(), or make another guard"
            )
    if len({id(guard) for guard in guards}) != len(guards):
        raise ValueError("the same guard stands twice in one policy; make two, or see with_()")


def _check_whole(guard: Guard) -> None:
    """Raise the TypeError that says what a guard lacks."""
    name = type(guard).__name__
    if not getattr(guard, "kind", ""):
        raise TypeError(f'{name} has no kind: a word for it, such as kind = "rate_limit"')
    for facet, methods in REQUIRED.items():
        for method in methods if isinstance(guard, facet) else ():
            if getattr(type(guard), method) is getattr(facet, method):
                raise TypeError(f"{name} has no {method}(): every {facet.__name__} guard needs one")
    if hasattr(guard, "seconds") and not isinstance(guard, TimeLimit):
        raise TypeError(
            f"the seconds of {name} would bound nothing: a guard that has them inherits from "
            f"{TimeLimit.__module__}.{TimeLimit.__name__}"
        )


def check_together(guards: tuple[Guard, ...]) -> None:
    """Raise if two guards can't stand in one policy."""
    for guard in guards:
        if guard.unique and sum(other.kind == guard.kind for other in guards) > 1:
            raise ValueError(f"a policy has at most one {guard.kind}")
    asking = [guard.kind for guard in guards if isinstance(guard, Retries)]
    if len(asking) > 1:
        raise ValueError(f"a policy has at most one guard that asks again; got {', '.join(asking)}")
    racing = [guard.kind for guard in guards if isinstance(guard, Races)]
    if len(racing) > 1:
        raise ValueError(f"a policy has at most one guard that races; got {', '.join(racing)}")
    ways = {guard.sync for guard in time_limits(guards)} - {None}
    if len(ways) > 1:
        raise ValueError(
            "the timeouts of one policy must have the same sync=; got "
            + " and ".join(sorted(map(repr, ways)))
        )


def warn_of_order(name: str, guards: tuple[Guard, ...]) -> None:
    """Warn of an order in which a guard does less than it seems to."""
    for warning in order_faults(guards):
        import warnings

        warnings.warn(f"{name}: {warning}", OrderWarning, stacklevel=Place.depth())
    doubts = [guard.doubts(guards) for guard in guards if isinstance(guard, Advises)]
    for doubt in filter(None, doubts):
        import warnings

        warnings.warn(f"{name}: {doubt}", DeclarationWarning, stacklevel=Place.depth())


def warn_of_difference(there: PolicyState, again: PolicyState, guards: tuple[Guard, ...]) -> None:
    """Warn, once, if a policy is declared again with other options."""
    if there.differs:
        return
    words = {
        name: (getattr(there, name), getattr(again, name))
        for name in ("owner", "tier", "impact", "patience")
    }
    kinds = [guard.kind for guard in there.guards], [guard.kind for guard in guards]
    if kinds[0] == kinds[1]:
        for old, new in zip(there.guards, guards, strict=True):
            theirs, ours = (
                (old._layers or {}).get("declared", old.options()), new.options()
            )  # fmt: skip
            words |= {f"{old.kind}.{name}": (theirs.get(name), ours[name]) for name in ours}
    else:
        words["guards"] = kinds
    found = [
        f"{name} was {validation.shown(old)}, and is {validation.shown(new)} now"
        for name, (old, new) in words.items()
        if not _alike(old, new)
    ]
    if found:
        import warnings

        there.differs = True
        warnings.warn(
            f"{there.name}: declared again, and joined with the policy that is there, as that was "
            f"declared first: {'; '.join(found)}. Make the policy once, outside the function, or "
            "use policy.update() to change it",
            DeclarationWarning,
            stacklevel=Place.depth(),
        )


def alike(old: dict[str, Any], new: dict[str, Any]) -> bool:
    """Return whether two guards of a kind have the same options."""
    return all(_alike(old[name], new[name]) for name in old)


def _alike(old: object, new: object) -> bool:
    """Return whether two options are the same; functions are the same if their code is."""
    try:
        return _same(old, new)
    except Exception:  # it can't be compared, or is a closure variable without a value yet
        return True


def _same(old: object, new: object) -> bool:
    if callable(old) and callable(new):
        one, other = getattr(old, "__code__", old), getattr(new, "__code__", new)
        return one == other and _bound(old) == _bound(new)
    return old is new or (type(old) is type(new) and bool(old == new))


def _bound(fn: object) -> tuple[object, ...]:
    """Return what else than its code makes a function: its object, defaults and closure."""
    cells = [cell.cell_contents for cell in getattr(fn, "__closure__", None) or ()]
    defaults = getattr(fn, "__defaults__", None), getattr(fn, "__kwdefaults__", None)
    return id(getattr(fn, "__self__", None)), defaults, cells


def order_faults(guards: tuple[Guard, ...]) -> list[str]:
    """Return what is suspicious in the order of some guards."""
    faults: list[str] = []
    ranked = [(guard, guard.rank) for guard in guards if guard.rank is not None]
    for (outer, outer_rank), (inner, inner_rank) in pairwise(ranked):
        if outer_rank > inner_rank:
            faults.append(
                f"{inner.kind} stands inside {outer.kind}; recommended is the other way round. "
                + inner.misplaced
            )
    for place, guard in enumerate(guards):
        inside = answering(guards[place + 1 :]) if isinstance(guard, TimeLimit) else []
        if inside:
            faults.append(
                f"a {inside[0].kind} stands inside a timeout, so it can't answer when that timeout "
                "is up"
            )
    faults += [_never_raced(guard, guards) for guard in guards if isinstance(guard, Races)]
    return [fault for fault in faults if fault]


def _never_raced(guard: Races, guards: tuple[Guard, ...]) -> str:
    """Return why a guard never has a second copy run, "" if it may."""
    after = guard.copies_after(0.0)
    binding = (limit.seconds for limit in time_limits(guards) if limit.sync != "cooperative")
    shortest = min(binding, default=inf)
    if after is None or after < shortest:
        return ""
    return (
        f"its {guard.kind} would begin a second copy after {after:g} s, and its timeout of "
        f"{shortest:g} s ends the first before that: there never is one"
    )
