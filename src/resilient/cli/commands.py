"""The command line: `resilient flags`, `policies`, `metrics`, and the commands without a group."""

from __future__ import annotations

from socket import gethostname
from typing import Final

import click

from ..pages.running import process_identity
from .doctor import cores, findings, in_pages, told_of_cores
from .flag_commands import flags
from .metrics_commands import metrics
from .options import common
from .output import moment, plural, say, say_json, table
from .pages import directory_of
from .policy_commands import policies
from .simulate import simulate
from .status import status
from .store_access import FINDINGS, NOT_ALL, USAGE, StoreAccess, fail, look
from .timeline import timeline
from .top import top

CODES: Final = """
\b
Exit codes:
  0  done, and every process has obeyed
  1  status: something is off, forced or changed; doctor: something is wrong; simulate: what is
     expected does not come true
  2  the command can't be understood, or no store is set
  3  recorded, and not obeyed by every process, or by none that is known
  4  the store can't be reached, or refuses
  5  somebody else was quicker: look again
  6  the store did not answer: it may or may not be done
  7  done, as with 0, but the answer could not be written
"""


@click.group(epilog=CODES, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="resilient-guards", prog_name="resilient")
def cli() -> None:
    """Look at what is on, off and forced in production, and change it."""


cli.add_command(flags)
cli.add_command(policies)
cli.add_command(metrics)
cli.add_command(simulate)
cli.add_command(status)
cli.add_command(timeline)
cli.add_command(top)


@cli.command()
@common
def doctor(store: str | None, as_json: bool) -> None:
    """Look for what would hurt at 2 a.m.: processes that lag, disagree or hang, flags due.

    What customers get is for `resilient status` and `resilient top` to say.
    """
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
        amiss: list[str] = getattr(opened, "unreadable", list[str])()
    pages = directory_of(store)
    found = [*amiss, *findings(view), *(in_pages(pages) if pages is not None else ())]
    if as_json:
        say_json({"store": reach.shown, "findings": found, "cores": cores(view)})
    else:
        say(f"the store {reach.shown} can be read; its newest flip is {view.version or 'none'}")
        if not view.counts:
            say("it does not know its processes: whether they obey can't be told")
        for each in told_of_cores(cores(view)):
            say(each)
        for each in found:
            say(f"- {each}")
        if pages is None:
            say("processes that share their counts were not looked for: no directory is set")
        say(plural(len(found), "finding") if found else "nothing to complain of")
    raise SystemExit(FINDINGS if found else 0)


@cli.command()
@common
def processes(store: str | None, as_json: bool) -> None:
    """List the processes that follow the store."""
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
    rows = view.rows()
    if as_json:
        say_json(rows)
        return
    if not rows:
        none = "no process follows this store" if view.counts else "it does not know its processes"
        say(f"{reach.shown}: {none}")
        return
    table(
        ("id", "host", "pid", "program", "newest flip", "seen"),
        [
            (
                row["id"][:8], row["host"], row["pid"], row["program"],
                "not yet applied" if row["behind"] else "applied",
                f"silent since {moment(row['seen'], view.now)}" if row["silent"] else "now",
            )
            for row in rows
        ],
    )  # fmt: skip


@cli.command()
@click.argument("process", metavar="ID")
@common
def forget(process: str, store: str | None, as_json: bool) -> None:
    """Take a silent process that is gone for good out of the count; ID may be shortened.

    Exits with 3 where it still runs on this host, frozen or hung: it obeys nothing, and is not
    counted until it goes on.
    """
    reach = StoreAccess(store)
    with reach.store() as opened:
        view = look(reach, opened)
        found = [each for each in view.processes if each.id.startswith(process)]
        if len(process) < 4:
            fail(f"{process!r} is too short; see `resilient processes`", USAGE)
        if len(found) != 1:
            fail(f"{len(found)} processes have an id that begins with {process}; "
                 "see `resilient processes`", USAGE)  # fmt: skip
        if not view.is_silent(found[0]):
            fail(f"{found[0].host}, pid {found[0].pid} is alive; it would be back at once", USAGE)
        opened.leave(found[0].id)
    host, pid = found[0].host, found[0].pid
    runs = host == gethostname() and bool(process_identity(pid))
    if as_json:
        say_json({"forgotten": found[0].id, "runs": runs})
    else:
        say(f"forgotten: {host}, pid {pid}")
        if runs:
            say(
                f"a process of that pid still runs here: if it is this one (ps -fp {pid}), it does "
                "not obey, and is not counted until it goes on; end it"
            )
    if runs:
        raise SystemExit(NOT_ALL)
