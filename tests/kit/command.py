"""The command line: in a process of its own, as over ssh, and in this one."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from typing import Any

from tests.kit.waiting import WAIT, until
from tests.kit.warm_commands import WarmCommands

CODES = range(8)


def unclean(text: str) -> list[str]:
    """Return what a terminal could take for more than text: all but printable and line ends."""
    return [c for c in text if not c.isprintable() and c != "\n"]


class Outcome:
    """What came of one run of the command."""

    def __init__(self, code: int, out: bytes, err: bytes, took: float) -> None:
        self.code = code
        self.out = out.decode(errors="replace")
        self.err = err.decode(errors="replace")
        self.took = took

    @property
    def json(self) -> Any:
        """Return what it printed, as JSON and nothing else."""
        return json.loads(self.out, parse_constant=_no_constant)

    def said(self, code: int, *words: str, where: str = "") -> Outcome:
        """Check the exit code, and that the words were printed."""
        text = where or self.out + self.err
        assert self.code == code, self
        for word in words:
            assert word in text, (word, self)
        return self

    def __repr__(self) -> str:
        return f"<exit {self.code} in {self.took:.2f} s\n{self.out}\n{self.err}>"


def _no_constant(word: str) -> None:
    raise ValueError(f"{word} is not JSON")


@cache
def _warm() -> WarmCommands:
    return WarmCommands()


def _looked_at(outcome: Outcome) -> Outcome:
    """Check that a command did not break down, and printed nothing but text; return it."""
    assert outcome.code in CODES, outcome
    assert "Traceback" not in outcome.err, outcome
    assert not unclean(outcome.out + outcome.err), ascii(outcome.out + outcome.err)
    return outcome


class Cli:
    """The command, run as over ssh: no console, no input, next to no environment."""

    def __init__(self, store: str, home: Path) -> None:
        self.store = store
        self.home = home
        self.environ: dict[str, str] = {}

    def env(self, **more: str | None) -> dict[str, str]:
        """Return the environment of a run; None takes a variable out."""
        kept = {n: os.environ[n] for n in ("PATH", "PYTHONPATH") if n in os.environ}
        given: dict[str, str | None] = {
            **kept, "HOME": str(self.home), "USER": "ana", "RESILIENT_STORE": self.store,
            **self.environ, **more,
        }  # fmt: skip
        return {name: value for name, value in given.items() if value is not None}

    def start(self, *words: str | bytes, **more: str | None) -> subprocess.Popen[bytes]:
        """Start the command."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "-m", "resilient.cli", *words],
            env=self.env(**more),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __call__(self, *words: str | bytes, **more: str | None) -> Outcome:
        """Run the command to its end; it never breaks down, and prints nothing but text."""
        began, environ = time.monotonic(), self.env(**more)
        if not _warm().can(environ):
            return self.end(self.start(*words, **more), began)
        code, out, err = _warm().run(words, environ, 2 * WAIT)
        return _looked_at(Outcome(code, out, err, time.monotonic() - began))

    def end(self, process: subprocess.Popen[bytes], began: float | None = None) -> Outcome:
        """Wait for a command to end, and look at what it printed."""
        try:
            out, err = process.communicate(timeout=2 * WAIT)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
            raise
        took = time.monotonic() - (began if began is not None else time.monotonic())
        return _looked_at(Outcome(process.returncode, out, err, took))

    def flip(self, *words: str, reason: str = "because", **more: str | None) -> Outcome:
        """Run a command that flips, with a reason; it waits for as long as a test does."""
        said = any(word.startswith("--wait") for word in words)
        wait = () if said else ("--wait", f"{WAIT:g}s")
        return self(*words, *wait, "--reason", reason, **more)

    def flag(self, name: str) -> dict[str, Any]:
        """Return what the list says of a flag."""
        rows: list[dict[str, Any]] = self("flags", "--json").said(0).json
        (row,) = [each for each in rows if each["flag"] == name]
        return row

    def applied_by(self, number: int, name: str = "recs") -> None:
        """Wait until so many processes follow, and have applied all there is."""
        until(lambda: self._followed(name) == (number, number))

    def followers(self) -> int:
        """Return how many processes follow; -1 where the store did not answer in time."""
        done = self("processes", "--json")
        return -1 if done.code == 4 else len(done.said(0).json)

    def _followed(self, name: str) -> tuple[int, int]:
        """Return how many processes have applied all of a flag, and how many follow."""
        done = self("flags", "--json")
        if done.code == 4:  # a process that makes the store may hold it for as long as we wait
            return -1, -1
        (row,) = [each for each in done.said(0).json if each["flag"] == name] or [None]
        return (0, 0) if row is None else (row["applied"], row["processes"])


class Command:
    """The command line, run in this process."""

    def __init__(self, setting: str, home: Path) -> None:
        self.setting = setting
        self.environ = {"RESILIENT_STORE": setting, "RESILIENT_STATE_DIR": str(home / "state"),
                        "RESILIENT_RUNTIME_DIR": "off", "RESILIENT_BY": "ana"}  # fmt: skip

    def __call__(self, *words: str, code: int | tuple[int, ...] = 0) -> str:
        """Run it; return what it printed: text, and nothing that a terminal would obey."""
        from click.testing import CliRunner

        from resilient.cli.commands import cli

        done = CliRunner(env=self.environ).invoke(cli, list(words))
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        codes = (code,) if isinstance(code, int) else code
        assert done.exit_code in codes, (words, done.exit_code, done.output)
        assert not unclean(done.output), ascii(done.output)
        return done.output

    def json(self, *words: str) -> Any:
        """Run it with --json; return the data."""
        return json.loads(self(*words, "--json"), parse_constant=_no_constant)
