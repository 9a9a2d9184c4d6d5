"""The command line: look at flags and policies in production, and move their levers."""

from __future__ import annotations

import importlib
import sys
from typing import NoReturn

from .outlet import fault, open_outlets

MISSING = "the command line needs click and rich: pip install 'resilient-guards[cli]'"
UNWRITTEN = 7  # done, but the answer could not be written
INTERRUPTED = 130  # the code that shells use


def main() -> None:
    """Run the command line, or report a missing dependency."""
    open_outlets()
    try:
        importlib.import_module("rich")  # now, and not in the middle of an answer
        from .commands import cli
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write(f"resilient: {MISSING} ({error})\n")
        sys.exit(2)
    import click

    try:
        code = cli.main(prog_name="resilient", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("resilient: interrupted\n")
        code = INTERRUPTED
    except SystemExit as end:
        code = end.code
    _end(code if isinstance(code, int) else 0)


def _end(code: int) -> NoReturn:
    """Exit with the command's code; report also if its answer could not be written."""
    wrong = fault()
    if wrong is not None and not isinstance(wrong, BrokenPipeError):  # not after `... | head -1`
        sys.stderr.write(f"resilient: the answer can't be written: {wrong}\n")
        code = code or UNWRITTEN
    sys.exit(code)
