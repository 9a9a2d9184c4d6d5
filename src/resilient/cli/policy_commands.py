"""`resilient policies`."""

from __future__ import annotations

import json
from typing import Any

import click

from ..flags.flips import FORCED, OPTION, RELEASED, lever_of
from .moving import move
from .options import DECLARE, applied, common, order_of, ordering
from .printing import moment, say, say_json, table
from .reach import USAGE, Reach, fail, look


@click.group(invoke_without_command=True)
@common
@click.pass_context
def policies(context: click.Context, /, store: str | None, as_json: bool) -> None:
    """List every policy: the states it is in, and what operators have ordered."""
    if context.invoked_subcommand is not None:
        context.obj = store
        return
    reach = Reach(store)
    with reach.store() as opened:
        view = look(reach, opened)
    rows = view.policies()
    if as_json:
        say_json(rows)
        return
    if not rows:
        say("no running process has a policy")
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
                ", ".join(f"{k}={o['value']}" for k, o in row["options"].items()), row["owner"],
                applied(row, counts=view.counts),
            )
            for row in rows
        ],
    )  # fmt: skip


def _force(
    context: click.Context, /, name: str, value: str, declare: bool, options: dict[str, Any]
) -> None:
    reach = Reach(options["store"] or context.obj)
    wanted = order_of(lever_of(FORCED, name), value, options)
    move(reach, wanted, kind=FORCED, name=name, what="policy", unknown_too=declare)


@policies.command("force-open")
@click.argument("name")
@DECLARE
@ordering
@click.pass_context
def force_open(context: click.Context, /, name: str, declare: bool, **options: Any) -> None:
    """Refuse every call of a policy; its fallback answers."""
    _force(context, name, "forced_open", declare, options)


@policies.command("force-closed")
@click.argument("name")
@DECLARE
@ordering
@click.pass_context
def force_closed(context: click.Context, /, name: str, declare: bool, **options: Any) -> None:
    """Let calls pass a policy's circuit breaker, whatever it says."""
    _force(context, name, "forced_closed", declare, options)


@policies.command("release")
@click.argument("name")
@DECLARE
@ordering
@click.pass_context
def release(context: click.Context, /, name: str, declare: bool, **options: Any) -> None:
    """End a forced state."""
    _force(context, name, RELEASED, declare, options)


@policies.command("set")
@click.argument("name")
@click.argument("option", metavar="GUARD.OPTION=VALUE")
@DECLARE
@ordering
@click.pass_context
def set_option(
    context: click.Context, /, name: str, option: str, declare: bool, **options: Any
) -> None:
    """Change an option of a policy, such as bulkhead.max_concurrent=5."""
    word, equals, text = option.partition("=")
    if not equals:
        fail(f"{option} must be GUARD.OPTION=VALUE, such as bulkhead.max_concurrent=5", USAGE)
    _set(context, name, word, _value(text), declare, options)


@policies.command("unset")
@click.argument("name")
@click.argument("option", metavar="GUARD.OPTION")
@DECLARE
@ordering
@click.pass_context
def unset_option(
    context: click.Context, /, name: str, option: str, declare: bool, **options: Any
) -> None:
    """Take back what `set` changed."""
    _set(context, name, option, RELEASED, declare, options)


@policies.command("metrics-only")
@click.argument("name")
@DECLARE
@ordering
@click.pass_context
def metrics_only(context: click.Context, /, name: str, declare: bool, **options: Any) -> None:
    """Let a policy's circuit breaker count and never refuse; undone by `unset`."""
    _set(context, name, "circuit_breaker.metrics_only", True, declare, options)


def _set(
    context: click.Context,
    /,
    name: str,
    word: str,
    value: Any,
    declare: bool,
    options: dict[str, Any],
) -> None:
    reach = Reach(options["store"] or context.obj)
    wanted = order_of(f"{OPTION}/{name}/{word}", value, options)
    move(reach, wanted, kind=FORCED, name=name, what="policy", unknown_too=declare)


def _value(text: str) -> Any:
    try:
        value = json.loads(text)
    except ValueError:
        return None if text.lower() == "none" else text
    return value if value is None or isinstance(value, (bool, int, float, str)) else text
