"""The reference of the command line is made from the commands: this holds it to them.

Renew it with ``python tests/public/test_cli_page.py --write``.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from pathlib import Path

import click

from resilient.cli.commands import CODES, cli

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "cli.md"
RENEW = "python tests/public/test_cli_page.py --write"
HEAD = """# Command line

`pip install 'resilient-guards[cli]'` brings the command `resilient`; without that extra it says so. How it is used
at 2 a.m.: [flip a flag in production](../howto/flip-in-production.md). Every command but `top`, `simulate` and `metrics` takes `--store`, in place of
the variable `RESILIENT_STORE`, and `--json`: [what it prints](json.md).

The exit code says what was done. That the answer could not be written (a full disk, a closed file) is told on stderr, and
turns 0 into 7; a reader that has had enough, such as `head`, is no fault.
"""


def test_the_page_is_what_the_commands_say() -> None:
    """The page names every command and option in the words of its own help."""
    written = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    assert written == page(), f"renew the page: {RENEW}"


def test_every_option_has_help() -> None:
    """No command and no option is without a word on what it does."""
    for name, command in walk("resilient", cli):
        assert command.help, name
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


def page() -> str:
    """Return the page."""
    parts = [HEAD, "```text", CODES.replace("\b", "").strip(), "```", ""]
    for name, command in walk("resilient", cli):
        parts += [
            f"## {name}",
            "",
            inspect.cleandoc(command.help or ""),  # which Python 3.13 has done already
            "",
            "```text",
            usage(name, command),
            "```",
            "",
        ]
    return "\n".join(parts)


def walk(name: str, command: click.Command) -> Iterator[tuple[str, click.Command]]:
    """Yield a command and those inside it, with their full names."""
    yield name, command
    if isinstance(command, click.Group):
        for word in sorted(command.commands):
            yield from walk(f"{name} {word}", command.commands[word])


def usage(name: str, command: click.Command) -> str:
    """Return the usage and the options of a command, whatever the terminal."""
    # As under `resilient` itself, whose settings the commands share.
    context = click.Context(command, info_name=name, **cli.context_settings)
    context.max_content_width = context.terminal_width = 100
    formatter = click.HelpFormatter(width=100, max_width=100)
    command.format_usage(context, formatter)
    click.Command.format_options(command, context, formatter)
    return formatter.getvalue().rstrip()


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit(f"usage: {RENEW}")
    PAGE.write_text(page(), encoding="utf-8")
