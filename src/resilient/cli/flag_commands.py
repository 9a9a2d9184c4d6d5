"""`resilient flags`."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from ..flags.flip import FLAG, OFF, ON, RELEASED, lever_of
from .options import applied, common, given, lever_command
from .output import moment, order_line, plural, say, say_json, table
from .store_access import StoreAccess, known_name, look


@click.group(invoke_without_command=True)
@common
@click.pass_context
def flags(context: click.Context, /, store: str | None, as_json: bool) -> None:
    """List every flag: its state, since when, by whom, why, and who has applied it."""
    if context.invoked_subcommand is not None:
        context.obj = store, as_json
        return
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
    rows = view.flags()
    if as_json:
        say_json(rows)
        return
    if not rows and not view.counts:
        say("this store says nothing of any flag, and does not know its processes")
    elif not rows:
        say("no flag is declared by a running process, and none was ever flipped")
    if not rows:
        return
    table(
        ("flag", "state", "since", "by", "why", "until", "owner", "applied", "pinned"),
        [
            (
                row["flag"], _state(row),
                moment(row["since"], view.now), row["by"], row["reason"],
                moment(row["until"], view.now), row["owner"], applied(row, counts=view.counts),
                f"in {row['pinned_in']}, by {_holders(row)}" if row["pinned_in"] else "",
            )
            for row in rows
        ],
    )  # fmt: skip


def _state(row: dict[str, Any]) -> str:
    """Return what a flag is at a glance: what the store says is not all where it is held off."""
    if row["state"] == "off":
        return "OFF"
    return f"OFF in {row['pinned_in']}" if row["pinned_in"] else "on"


def _holders(row: dict[str, Any]) -> str:
    return " and ".join(row["pinned_by"])


lever_command(flags, "off", OFF, partial(lever_of, FLAG), "Turn a flag off, in every process.")
lever_command(flags, "on", ON, partial(lever_of, FLAG), "Turn a flag on, in every process.")
lever_command(
    flags, "release", RELEASED, partial(lever_of, FLAG),
    "Take back what was flipped: the flag is as it is declared.",
)  # fmt: skip


@flags.command("log")
@click.argument("name", required=False)
@click.option(
    "--most", default=50, show_default=True, type=click.IntRange(1, 100_000),
    help="How many flips at the most.",
)  # fmt: skip
@common
@click.pass_context
def flags_log(
    context: click.Context, /, name: str | None, most: int, store: str | None, as_json: bool
) -> None:
    """Show who flipped what, when and why, newest first: of one flag, or everything."""
    around = given(context)
    reach, as_json = StoreAccess(store or around[0]), as_json or around[1]
    with reach.store() as opened:
        if name is not None:
            known_name(name, look(reach, opened).names(FLAG), "flag")
        flips = opened.log(None if name is None else lever_of(FLAG, name), most)
        now = look(reach, opened).now
    if as_json:
        say_json([{k: v for k, v in f.as_data().items() if k not in ("boot", "due")}
                  for f in flips])  # fmt: skip
        return
    table(
        ("when", "lever", "to", "until", "by", "why"),
        [
            (moment(f.at, now), f.lever, f.value, moment(f.until, now), f.by, f.reason)
            for f in flips
        ],
    )


@flags.command("show")
@click.argument("name")
@common
@click.pass_context
def flags_show(context: click.Context, /, name: str, store: str | None, as_json: bool) -> None:
    """Show one flag, and what it is in every process."""
    around = given(context)
    reach, as_json = StoreAccess(store or around[0]), as_json or around[1]
    with reach.store() as opened:
        view = look(reach, opened)
    known_name(name, view.names(FLAG), "flag")
    row = view.flag(name, view.declared("flags").get(name, {}))
    holders = [p for p in view.processes if name in p.about.get("flags", {})]
    each = [view.row(p) | {"on": p.about["flags"][name]["on"],
                           "decided_by": p.about["flags"][name]["source"]}
            for p in holders]  # fmt: skip
    if as_json:
        say_json(row | {"in": each})
        return
    owner = f" ({row['owner']})" if row["owner"] else ""
    say(f"{name}{owner}: {row['impact'] or 'nothing is said of what off means'}")
    say(order_line(row["state"], row, view.now))
    if row["pinned_in"]:
        where = plural(row["pinned_in"], "process")
        say(f"OFF in {where} all the same, held off by {_holders(row)}")
    if row["review"]:
        say(f"to be reviewed on {row['review']}")
    if view.counts and not row["processes"]:
        say("nobody follows: no process that declares it is known")
    elif view.counts:
        say(f"applied by {applied(row, counts=True)}")
    else:
        say("this store does not know its processes")
    table(
        ("host", "pid", "program", "says", "decided by", "applied", "seen"),
        [
            (
                p["host"], p["pid"], p["program"], "on" if p["on"] else "OFF", p["decided_by"],
                "yes" if p["applied"] >= row["version"] else "not yet",
                f"silent since {moment(p['seen'], view.now)}" if p["silent"] else "now",
            )
            for p in each
        ],
    )  # fmt: skip
