"""`resilient metrics`: alert rules and a dashboard for what is declared."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from ..flags.here import RUNTIME, VARIABLE
from ..flags.stores.opening import runtime_for
from ..monitoring.alerts import OBJECTIVES, Alerts, as_yaml
from ..monitoring.dashboard import dashboard
from ..monitoring.declared import Declared, in_pages, in_this_process
from .printing import say_json
from .reach import UNREACHED, USAGE, fail

_SELECTOR = click.option(
    "--selector", default="", metavar="LABELS",
    help="""Labels that series must have too, such as 'job="shop"'.""",
)  # fmt: skip


@click.group()
def metrics() -> None:
    """Make alert rules and a dashboard from the policies and flags that are declared."""


@metrics.command()
@click.option("--app", default="", metavar="MODULE",
              help="Import this, such as shop.app, for what it declares. Default: what running "
              "processes show in RESILIENT_RUNTIME_DIR, or beside the SQLite store.")  # fmt: skip
@click.option("--objective", "given", multiple=True, metavar="TIER=PERCENT",
              help="The share of calls that must not end in an error, such as 1=99.95; 'none' for "
              "policies without a tier. Default: 1=99.9, 2=99.5, 3=99, none=99.5.")  # fmt: skip
@_SELECTOR
def alerts(app: str, given: tuple[str, ...], selector: str) -> None:
    """Print a rule file for Prometheus: YAML, for `rule_files:`."""
    declared = _declared(app)
    if not declared.policies and not declared.flags:
        fail("no policy and no flag is declared", USAGE)
    objectives = {**OBJECTIVES, **dict(map(_objective, given))}
    sys.stdout.write(as_yaml(Alerts(declared, objectives, selector=selector).groups()))


@metrics.command("dashboard")
@click.option("--title", default="resilient", show_default=True, help="The dashboard's title.")
@_SELECTOR
def dashboard_command(title: str, selector: str) -> None:
    """Print a dashboard for Grafana: JSON, to be imported."""
    say_json(dashboard(title, selector))


def runtime_directory() -> Path:
    """Return where the processes of this host share their counts, or end with what to do."""
    try:
        path = runtime_for(os.environ.get(VARIABLE, ""), os.environ)
    except ValueError as error:
        fail(str(error), USAGE)
    if path is None:
        fail(
            f"no directory is set in which processes share their counts. Set {RUNTIME}, or "
            f"{VARIABLE} to a store of SQLite, as the processes have it",
            USAGE,
        )
    if not path.is_dir():
        fail(f"{path} does not exist: no process has ever shared its counts there", UNREACHED)
    return path


def _declared(app: str) -> Declared:
    if not app:
        try:
            return in_pages(runtime_directory())
        except (OSError, ValueError) as error:
            fail(str(error), UNREACHED)
    sys.path.insert(0, os.getcwd())  # as `python -m` does
    try:
        return in_this_process(app)
    except (Exception, SystemExit) as error:
        fail(f"--app {app}: {type(error).__name__}: {error}", USAGE)


def _objective(text: str) -> tuple[int | None, float]:
    tier, _, percent = text.partition("=")
    try:
        share = float(percent) / 100
        number = None if tier == "none" else int(tier)
    except ValueError:
        share, number = -1.0, None
    if not 0 < share < 1:
        fail(
            f"--objective must be TIER=PERCENT, such as 1=99.9, with a number between 0 and 100; "
            f"got {text}",
            USAGE,
        )
    return number, share
