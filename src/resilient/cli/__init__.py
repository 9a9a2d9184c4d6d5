"""The command line: look at flags and policies in production, and move their levers."""

from __future__ import annotations

import sys

MISSING = "the command line needs click and rich: pip install 'resilient-guards[cli]'"


def main() -> None:
    """Run the command line, or say what it needs."""
    try:
        from .commands import cli
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write(f"resilient: {MISSING}\n")
        sys.exit(2)
    cli(prog_name="resilient")
