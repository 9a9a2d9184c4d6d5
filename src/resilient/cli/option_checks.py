"""Checks of options before an order: against the reports of the processes."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeGuard, cast

import resilient

from ..admin.options import unknown
from ..admin.settings import value_of
from ..guards.kinds import kinds
from .store_view import StoreView, shown_id

Options = dict[str, dict[str, Any]]  # by guard and name


def check_options(view: StoreView, policy: str, wanted: Options) -> list[str]:
    """Check options for a policy against the report of every process.

    Returns:
        The processes that do not report their options: they run an older version.

    Raises:
        ValueError: a guard or option does not exist, or a value is not allowed.
        TypeError: a value has the wrong type.
    """
    silent: list[str] = []
    if not any(policy in process.about.get("policies", {}) for process in view.processes):
        for kind, options in wanted.items():  # without processes, the guards' own checks
            _check_alone(policy, kind, options)
    for process in view.processes:
        about = process.about.get("policies", {}).get(policy)
        if about is None:
            continue
        stacks: Mapping[str, Any] = process.about.get("stacks", {})
        stack: object = stacks.get(str(about.get("stack")))
        if isinstance(stack, list):
            told = [each for each in cast("list[object]", stack) if _is_told(each)]
            _check(policy, told, wanted)
        else:
            silent.append(shown_id(process))
    return silent


def _check(policy: str, told: list[dict[str, Any]], wanted: Options) -> None:
    for kind, options in wanted.items():
        found = [each for each in told if each["guard"] == kind]
        if len(found) > 1:
            raise ValueError(
                f"{policy} has {len(found)} guards of kind {kind}: which one is meant can't be "
                "known"
            )
        if not found:
            unknown(f"{policy} has no guard", kind, [str(each["guard"]) for each in told])
        can, now = found[0]["change"], found[0]["options"]
        for name in options:
            if name not in can and name in now:
                raise ValueError(
                    f"{policy}.{kind}: {name} can't change at run time; these can: {', '.join(can)}"
                )
            if name not in can:
                unknown(f"{policy}.{kind}: there is no option", name, can)
        _check_alone(policy, kind, options, now)


def _check_alone(
    policy: str, kind: str, options: dict[str, Any], now: dict[str, Any] | None = None
) -> None:
    try:
        _build(kind, now or {}, options)
    except (ValueError, TypeError) as error:
        error.args = (f"{policy}.{kind}: {error}",)
        raise


def _is_told(each: object) -> TypeGuard[dict[str, Any]]:
    if not isinstance(each, dict):
        return False
    said = cast("dict[str, Any]", each)
    can = said.get("change")
    words = isinstance(can, list) and all(isinstance(w, str) for w in cast("list[object]", can))
    return words and isinstance(said.get("guard"), str) and isinstance(said.get("options"), dict)


def _build(kind: str, now: dict[str, Any], wanted: dict[str, Any]) -> None:
    """Build a guard of this kind: its constructor raises for bad options."""
    make: Callable[..., Any] | None = getattr(resilient, kind, None)
    if make is None or all(each.kind != kind for each in kinds()):
        return  # a third party's guard, which this process does not have
    names = inspect.signature(make).parameters
    if kind == "bulkhead" and "max_waiting" in wanted and not now:
        now = {"max_wait": 1.0}  # the declared policy may have one
    if kind == "retry":
        now = {**now, "on": Exception}  # it has one, which is told by its name alone
    if kind == "rate_limit" and not now:
        now = {"max_calls": 1}
    if kind == "hedge" and not now:  # the declared one has one of them, and says this
        when = {} if {"delay", "quantile"} & {*wanted} else {"delay": 1.0}
        now = {"idempotent": True, **when}
    can = {*names} - {"ignore", "failed_result", "retry_after"}  # told by their names, too
    given = {name: value_of(name, value) for name, value in now.items() if name in can}
    if kind == "last_good" and now and "cache" not in now:  # told only where there is none
        given["cache"] = {}
    make(**{**given, **wanted})
