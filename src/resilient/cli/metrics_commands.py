"""`resilient metrics`: alert rules and a dashboard for what is declared."""

from __future__ import annotations

import os
import sys

import click

from ..monitoring.alerts import OBJECTIVES, Alerts, checked_runbook
from ..monitoring.dashboard import dashboard
from ..monitoring.inventory import Declared, in_pages, in_this_process
from ..monitoring.rule_file import as_yaml
from .output import say_json
from .pages import runtime_directory, unread
from .store_access import UNREACHED, USAGE, fail

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
@click.option("--runbook-url", "runbook", default="", metavar="TEMPLATE",
              help="A URL for the annotation runbook_url of each alert; {name}, {kind}, {owner} "
              "and {alert} in it are filled in. Default: none.")  # fmt: skip
@_SELECTOR
def alerts(app: str, given: tuple[str, ...], runbook: str, selector: str) -> None:
    """Print a rule file for Prometheus: YAML, for `rule_files:`."""
    try:
        template = checked_runbook(runbook) if runbook else ""
    except ValueError as error:
        fail(str(error), USAGE)
    declared = _declared(app)
    if not declared.policies and not declared.flags:
        fail("no policy and no flag is declared", USAGE)
    objectives = {**OBJECTIVES, **dict(map(_objective, given))}
    rules = Alerts(declared, objectives, selector=selector, runbook=template)
    sys.stdout.write(as_yaml(rules.groups()))


@metrics.command("dashboard")
@click.option("--title", default="resilient", show_default=True, help="The dashboard's title.")
@_SELECTOR
def dashboard_command(title: str, selector: str) -> None:
    """Print a dashboard for Grafana: JSON, to be imported."""
    say_json(dashboard(title, selector))


def _declared(app: str) -> Declared:
    if not app:
        path = runtime_directory()
        try:
            return in_pages(path)
        except (OSError, ValueError) as error:
            fail(unread(path, error), UNREACHED)
    sys.path.insert(0, os.getcwd())  # like `python -m`
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
