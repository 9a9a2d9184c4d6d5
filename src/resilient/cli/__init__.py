"""The command line: look at flags and policies in production, and move their levers."""

from __future__ import annotations

import importlib
import io
import os
import sys

MISSING = "the command line needs click and rich: pip install 'resilient-guards[cli]'"


def main() -> None:
    """Run the command line, or say what it needs."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that lacks a character gets a "?"
    try:
        importlib.import_module("rich")  # now, and not in the middle of an answer
        from .commands import cli
    except ImportError as error:
        if (error.name or "").partition(".")[0] not in ("click", "rich"):
            raise
        sys.stderr.write(f"resilient: {MISSING} ({error})\n")
        sys.exit(2)
    try:
        cli(prog_name="resilient")
    finally:
        try:
            sys.stdout.flush()
        except OSError as error:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            if not isinstance(error, BrokenPipeError):  # as of `resilient flags | head -1`
                sys.stderr.write(f"resilient: the output can't be written: {error}\n")
                sys.exit(2)
