"""`resilient policies`."""

from __future__ import annotations

import json
from functools import partial
from typing import Any, Final, cast

import click

from ..flags.flip import FORCED, KEY, OPTION, RELEASED, lever_of
from ..flags.stores.base import Process
from ..validation import clean
from .advise import command as advise
from .options import DECLARE, applied, common, given, lever_command, ordering, pull
from .output import moment, order_line, say, say_json, table
from .store_access import USAGE, StoreAccess, fail, known_name, look
from .store_view import shown_state
from .timeline import line, told

_MOVES: Final = 20  # the last moves of a policy that are shown
_TABLES: Final = ("exceptions", "settings")
_SETTINGS: Final = (
    "failure_rate", "failure_threshold", "minimum_calls", "window", "slow_call_duration",
    "slow_call_rate", "recovery_timeout", "recovery_backoff", "max_recovery_timeout", "ramp",
)  # fmt: skip


@click.group(invoke_without_command=True)
@common
@click.pass_context
def policies(context: click.Context, /, store: str | None, as_json: bool) -> None:
    """List every policy: the states it is in, and what operators have ordered."""
    if context.invoked_subcommand is not None:
        context.obj = store, as_json
        return
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
    rows = view.policies()
    if as_json:
        say_json(rows)
        return
    if not view.counts:
        say("this store does not know its processes: which policies there are is not known")
    elif not rows:
        say(
            "no running process has a policy" if view.processes else "no process follows this store"
        )
    if not rows:
        return
    table(
        (
            *("policy", "states", "forced", "since", "by", "why", "until"),
            *("options", "owner", "applied"),
        ),
        [
            (
                row["policy"], ", ".join(f"{n} {state}" for state, n in row["states"].items()),
                (row["forced"] or "").upper(), moment(row["since"], view.now), row["by"],
                row["reason"], moment(row["until"], view.now),
                ", ".join(f"{k}={o['value']}" for k, o in _parts(row).items()), row["owner"],
                applied(row, counts=view.counts),
            )
            for row in rows
        ],
    )  # fmt: skip
    for row in rows:
        _say_flags_off(row)
        for target, states in row["patches"].items():
            seen = ", ".join(f"{n} {state}" for state, n in states.items())
            say(f"{target} is guarded by {row['policy']}: {seen}")


@policies.command("show")
@click.argument("name")
@common
@click.pass_context
def show(context: click.Context, /, name: str, store: str | None, as_json: bool) -> None:
    """Show one policy: its state in every process, why, and its last moves."""
    around = given(context)
    reach, as_json = StoreAccess(store or around[0]), as_json or around[1]
    with reach.store() as opened:
        view = look(reach, opened)
        known_name(name, view.names(FORCED), "policy")
        moves = told(opened, 0.0, name)[-_MOVES:]
    row = view.policy(name, view.declared("policies").get(name, {}))
    each = [
        view.row(p) | {"policy": p.about["policies"][name]}
        for p in view.processes
        if name in p.about.get("policies", {})
    ]
    if as_json:
        say_json(row | {"in": each, "moves": moves})
        return
    tier = "" if row["tier"] is None else f", tier {row['tier']}"
    say(f"{name} ({row['owner'] or 'nobody'}{tier}): {row['impact'] or 'no impact is declared'}")
    if row["forced"]:
        say(order_line(row["forced"], row, view.now))
    _say_flags_off(row)
    for part, order in _parts(row).items():
        say(order_line(f"{part}={order['value']}", row | order, view.now))
    table(
        ("host", "pid", "program", "state", "why"),
        [
            (
                p["host"],
                p["pid"],
                p["program"],
                "silent, was " * p["silent"] + shown_state(p["policy"]),
                p["policy"].get("why", ""),
            )
            for p in each
        ],
    )
    _say_keys(each)
    _say_shadows(each)
    for move in moves:
        say(line(move, view.now))
        _say_evidence(move.get("evidence"))


def _parts(row: dict[str, Any]) -> dict[str, Any]:
    """Return what is ordered for parts of a policy: its options, and single keys."""
    keys: dict[str, Any] = {clean(key): order for key, order in row["keys"].items()}
    options: dict[str, Any] = row["options"]
    return options | keys


def _say_keys(each: list[dict[str, Any]]) -> None:
    """Print the worst keys of each process; it may be of another version."""
    rows: list[tuple[str, ...]] = []
    for process in each:
        keys: Any = process["policy"].get("keys")
        for row in cast("dict[str, Any]", keys).get("worst", ()) if isinstance(keys, dict) else ():
            where = f"{process['host']}, pid {process['pid']}"
            told = (row.get(word, "") for word in ("key", "state", "refused", "running", "why"))
            rows.append((*map(str, told), where))
    if rows:
        table(("key", "state", "refused", "running", "why", "process"), rows)


def _say_flags_off(row: dict[str, Any]) -> None:
    for flag in row["flags_off"]:
        say(f"{row['policy']} is cut off by its kill switch: flag {flag} is off")


def _say_evidence(seen: Any) -> None:
    """Print a circuit's evidence, in one more line; a store may hold anything."""
    if not isinstance(seen, dict) or "calls" not in seen:
        return
    told = cast("dict[str, Any]", seen)
    exceptions, settings = (
        cast("dict[str, Any]", told[word]) if isinstance(told.get(word), dict) else dict[str, Any]()
        for word in _TABLES
    )
    rate, after = told.get("failure_rate"), told.get("retry_after")
    parts = [f"{told.get('failures')} of {told['calls']} calls failed"]
    parts += [f"{rate:.0%}"] if isinstance(rate, float) else []
    slow, share = told.get("slow"), told.get("slow_rate")
    if slow and isinstance(share, float):
        parts.append(f"{slow} slow, {share:.0%}")
    parts += [f"{number}x {kind}" for kind, number in exceptions.items()]
    parts += [f"tries again after {after:.1f} s"] if isinstance(after, float) else []
    if settings:
        chosen = (
            f"{word}={settings[word]}" for word in _SETTINGS if settings.get(word) is not None
        )
        parts.append(f"settings {told.get('revision', 0)}: {', '.join(chosen)}")
    say(f"    {'; '.join(parts)}")


def _metrics_only(name: str) -> str:
    return f"{OPTION}/{name}/circuit_breaker.metrics_only"


def _key(name: str, key: str) -> str:
    return f"{KEY}/{name}/{key}"


_forced = partial(lever_of, FORCED)
for _word, _value, _text in (
    ("force-open", "forced_open",
     "Refuse every call of a policy, or of one key; its fallback answers, if it has one."),
    ("force-closed", "forced_closed",
     "Let calls pass a policy's circuit breaker, or a key's, whatever it says."),
    ("release", RELEASED, "End a forced state."),
):  # fmt: skip
    lever_command(policies, _word, _value, _forced, _text, keyed=_key)
lever_command(
    policies, "metrics-only", True, _metrics_only,
    "Let a policy's circuit breaker count and never refuse; undone by `unset`.",
)  # fmt: skip


@policies.command("set")
@click.argument("name")
@click.argument("settings", metavar="GUARD.OPTION=VALUE...", nargs=-1, required=True)
@DECLARE
@ordering
@click.pass_context
def set_option(
    context: click.Context, /, name: str, settings: tuple[str, ...], declare: bool, **options: Any
) -> None:
    """Change options of a policy, such as bulkhead.max_concurrent=5: all of them, or none.

    Names and values are checked by what its processes say of it before anything is recorded.
    """
    levers: dict[str, Any] = {}
    for setting in settings:
        word, equals, text = setting.partition("=")
        lever = f"{OPTION}/{name}/{word}"
        if not equals:
            fail(f"{setting} must be GUARD.OPTION=VALUE, such as bulkhead.max_concurrent=5", USAGE)
        if lever in levers:
            fail(f"{word} is given twice", USAGE)
        levers[lever] = _parsed(text)
    pull(context, levers, name, declare, options)


@policies.command("unset")
@click.argument("name")
@click.argument("settings", metavar="GUARD.OPTION...", nargs=-1, required=True)
@DECLARE
@ordering
@click.pass_context
def unset_option(
    context: click.Context, /, name: str, settings: tuple[str, ...], declare: bool, **options: Any
) -> None:
    """Take back what `set` changed."""
    levers = {f"{OPTION}/{name}/{option}": RELEASED for option in settings}
    pull(context, levers, name, declare, options)


policies.add_command(advise, "advise")


@policies.command("promote")
@click.argument("name")
@ordering
@click.pass_context
def promote(context: click.Context, /, name: str, **options: Any) -> None:
    """Put the options of a policy's shadows in force: the candidates that ran beside its guards.

    The processes say which these are; where they do not say the same, nothing is recorded. Undone
    by `unset`.
    """
    around = given(context)
    reach = StoreAccess(options["store"] or around[0])
    with reach.store() as opened:
        view = look(reach, opened)
        known_name(name, view.names(FORCED), "policy")
    pull(context, _promoted(view.processes, name), name, False, options)


def _promoted(processes: list[Process], name: str) -> dict[str, Any]:
    """Return the levers by which the shadows of a policy take the place of its guards."""
    said = [p.about.get("policies", {}).get(name) for p in processes]
    told = [each.get("shadows", []) for each in said if each is not None]
    wanted = [{(s["guard"], o): v for s in each for o, v in s["changes"].items()} for each in told]
    if not any(told):
        fail(f"nothing was recorded: no process says that {name} has a shadow", USAGE)
    if any(not each for each in told) or any(each != wanted[0] for each in wanted):
        fail(f"nothing was recorded: the processes do not say the same of {name}'s shadow", USAGE)
    alone = [s["guard"] for each in told for s in each if not s["living"]]
    if alone:
        fail(f"nothing was recorded: {name} has no {alone[0]} whose place it could take", USAGE)
    if not wanted[0]:
        why = "has these options already, but for those that can't change at run time"
        fail(f"nothing was recorded: {name} {why}", USAGE)
    return {f"{OPTION}/{name}/{kind}.{option}": v for (kind, option), v in wanted[0].items()}


def _say_shadows(each: list[dict[str, Any]]) -> None:
    """Print what the shadows of each process would have done."""
    rows = [
        (
            f"{process['host']}, pid {process['pid']}", str(row["guard"]),
            ", ".join(f"{name}={value}" for name, value in row["changes"].items()),
            str(row["would_be"]), str(row["would_open"]), str(row["would_refuse"]), row["last"],
        )
        for process in each
        for row in process["policy"].get("shadows", ())
    ]  # fmt: skip
    if rows:
        table(
            ("process", "candidate for", "with", "would be", "would open", "would refuse", "why"),
            rows,
        )


def _parsed(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return None if text.lower() == "none" else text
    return value if value is None or isinstance(value, (bool, int, float, str)) else text
