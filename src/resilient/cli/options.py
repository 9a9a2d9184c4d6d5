"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

import click

from .apply_flip import FlipRequest, move
from .output import seconds_of
from .store_access import USAGE, StoreAccess, fail

F = TypeVar("F", bound=Callable[..., Any])


def common(command: F) -> F:
    """Add the options that every command has."""
    command = click.option(
        "--store", metavar="URL", help="The store. Default: the variable RESILIENT_STORE."
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


def given(context: click.Context) -> tuple[str | None, bool]:
    """Return the store and the output form given before the command's name."""
    store, as_json = context.obj or (None, False)
    return store, as_json


def ordering(command: F) -> F:
    """Add the options of a command that moves a lever."""
    for option in (
        click.option("--wait", default="5s", show_default=True, metavar="TIME",
                     help="How long to wait for the processes."),
        click.option("--by", default="", metavar="NAME",
                     help="Who. Default: RESILIENT_BY, SUDO_USER, or the user of the system."),
        click.option("--for", "lasts", metavar="TIME",
                     help="End it by itself after 90s, 30m, 1h30m, 2d. Default: never."),
        click.option("--reason", required=True, metavar="TEXT",
                     help="Why; it is in the log for ever."),
    ):  # fmt: skip
        command = option(command)
    return common(command)


DECLARE: Final = click.option(
    "--declare", is_flag=True, help="Also for a name that no running process declares."
)


def lever_command(
    group: click.Group, word: str, value: Any, lever: Callable[[str], str], text: str,
    *, keyed: Callable[[str, str], str] | None = None,
) -> None:  # fmt: skip
    """Add a command that sets one lever of a name, or of a key of it, to a value."""

    def command(
        context: click.Context, /, name: str, declare: bool, key: str | None = None, **options: Any
    ) -> None:
        target = lever(name) if key is None or keyed is None else keyed(name, key)
        pull(context, {target: value}, name, declare, options)

    found: Any = click.pass_context(command)
    found = click.argument("name")(DECLARE(ordering(found)))
    if keyed is not None:
        found = click.option("--key", metavar="KEY", help="Only this key of the policy.")(found)
    group.command(word, help=text)(found)


def pull(
    context: click.Context,
    /,
    levers: Mapping[str, Any],
    name: str,
    declare: bool,
    options: Any,
) -> None:
    """Set levers of one flag or policy, with the command's options."""
    around = given(context)
    reach = StoreAccess(options["store"] or around[0])
    try:
        lasts = None if options["lasts"] is None else seconds_of("--for", options["lasts"])
        wait = seconds_of("--wait", options["wait"])
    except ValueError as error:
        fail(str(error), USAGE)
    order = FlipRequest(
        levers, reason=options["reason"], by=options["by"], lasts=lasts, wait=wait,
        as_json=options["as_json"] or around[1],
    )  # fmt: skip
    move(reach, order, name, unknown_too=declare)


def applied(row: dict[str, Any], *, counts: bool) -> str:
    """Return how many processes have applied a row's order."""
    if not counts:
        return "not known"
    if not row["processes"]:
        return "nobody follows"
    silent = f", {row['silent']} silent" if row["silent"] else ""
    faulty = f", {len(row['faults'])} can't obey" if row.get("faults") else ""
    return f"{row['applied']} of {row['processes']}{silent}{faulty}"
