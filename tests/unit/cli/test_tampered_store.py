"""A store that was tampered with, terminals of every kind, and an installation without the extra."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.kit.command import Cli, Command
from tests.unit.cli import hostile

LOOKS = [("flags",), ("flags", "show", "recs"), ("flags", "log"), ("policies",), ("status",),
         ("doctor",), ("processes",)]  # fmt: skip


@pytest.fixture
def tampered(cli: Cli, database: Path) -> Path:
    """A store's file, to be written to by raw SQL."""
    cli.flip("flags", "off", "recs", "--declare").said(0)
    return database


@pytest.fixture
def looks(cli: Cli) -> Callable[[], None]:
    """Look at a store with each command, in this process: a start for each would take minutes."""
    command = Command(cli.store, cli.home)

    def look() -> None:
        for words in LOOKS:
            command(*words, code=(0, 1, 3))

    return look


def test_nothing_raw_of_a_store_is_printed(cli: Cli, tampered: Path) -> None:
    """Escapes, control characters and bidi marks in any field of a store are stripped."""
    evil = hostile.EVIL
    hostile.put(tampered, "flag/recs", by=evil, reason=evil)
    hostile.put(tampered, "forced/shop", value="forced_open", by=evil, reason=evil)
    hostile.put(tampered, "option/shop/bulkhead.max_concurrent", value=evil, by=evil, reason=evil)
    hostile.join(
        tampered, evil.replace("\ud800", ""), who=[evil, 1, evil], about=hostile.about(evil)
    )
    hostile.join(tampered, "b" * 32, who=[evil, 1, evil], about=hostile.about(evil), seen=1.0)
    for words in LOOKS:  # Cli looks for what is not clean
        cli(*words)
        assert cli(*words, "--json").json is not None
    cli.flip("flags", "off", "recs").said(3, "already, since", "red", "end")
    cli("forget", "b" * 32).said(0, "forgotten")


def test_a_store_forges_no_line(cli: Cli, tampered: Path) -> None:
    """A line end in what a store holds begins no line of the output."""
    forged = hostile.FORGED
    hostile.put(tampered, "flag/recs", by=forged, reason=forged)
    hostile.put(tampered, "forced/shop", value="forced_open", by=forged, reason=forged)
    hostile.join(tampered, "a" * 32, who=[forged, 1, forged], about=hostile.about(forged))
    for words in LOOKS:
        done = cli(*words)
        assert not [x for x in done.out.split("\n") if x.startswith("applied by 8")], done
    done = cli.flip("flags", "off", "recs", "--wait", "0.1s")
    assert not [x for x in done.out.split("\n") if x.startswith("applied by 8")], done


@pytest.mark.parametrize(
    "more",
    [
        {"at": 9e11}, {"until": 9e11}, {"at": -3e8}, {"version": 2**53 - 1}, {"value": "neither"},
        {"by": 7}, {"reason": "x" * 10**6}, {"at": "now"}, {"lever": "nonsense"},
    ],
    ids=str,
)  # fmt: skip
def test_a_flip_that_is_none_breaks_no_command(
    cli: Cli, looks: Callable[[], None], tampered: Path, more: dict[str, Any]
) -> None:
    """Beside a flip that no command would write, the lists work, and flags can be flipped."""
    hostile.put(tampered, "flag/strange", **more)
    looks()
    cli.flip("flags", "on", "recs", "--json").said(3)
    assert cli.flag("recs")["state"] == "on"
    cli.flip("flags", "off", "recs", "--json").said(3)
    assert cli.flag("recs")["state"] == "off"


@pytest.mark.parametrize(
    "more",
    [
        {"who": "nonsense"}, {"who": []}, {"who": [1, "x", None]}, {"about": "nonsense"},
        {"about": []}, {"about": {"flags": []}}, {"about": {"flags": {"recs": 1}}},
        {"about": {"flags": {"recs": {}}}}, {"about": {"policies": {"shop": {}}}},
        {"about": {"faults": 3, "unmatched": 4}}, {"seen": 9e11}, {"seen": "now"}, {"seen": 1e300},
        {"applied": "x"}, {"about": {"flags": {"recs": {"review": 5, "on": 1, "source": "x"}}}},
    ],
    ids=str,
)  # fmt: skip
def test_a_process_that_is_none_breaks_no_command(
    cli: Cli, looks: Callable[[], None], tampered: Path, more: dict[str, Any]
) -> None:
    """Beside a process that says what none would, the lists work, and flags can be flipped."""
    hostile.join(tampered, "c" * 32, **more)
    looks()
    done = cli.flip("flags", "on", "recs", "--wait", "0.1s")
    assert done.code in (0, 3), done
    assert cli.flag("recs")["state"] == "on"


# -- terminals ---------------------------------------------


@pytest.mark.parametrize(
    "around",
    [
        {"LANG": "C"},
        {"LC_ALL": "C"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0"},
        {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
        {"PYTHONIOENCODING": "ascii"},
        {"PYTHONIOENCODING": "latin-1"},
        {"TERM": "dumb"},
        {"TERM": "xterm-256color", "COLUMNS": "20"},
        {"TERM": "nonsense", "COLUMNS": "0", "LINES": "x"},
    ],
    ids=str,
)
def test_it_works_on_every_terminal(cli: Cli, around: dict[str, str]) -> None:
    """Whatever the language and the terminal are said to be, words arrive, and no command fails."""
    cli.environ |= around
    cli.flip("flags", "off", "recs", "--declare", reason="plain").said(0, "plain")
    cli.flip("flags", "on", "recs", reason="plain too", RESILIENT_BY="ana").said(3)
    hostile.put(cli.home / "flags.db", "flag/recs", by="Zoë", reason="停電 \U0001f525")
    for words in LOOKS:
        assert cli(*words).code in (0, 1, 3), words
    assert cli("flags", "log", "--json").said(0).json[0]["reason"] == "停電 \U0001f525"
    assert "plain too" in cli("flags", "log").out


def test_a_reader_that_goes_away(cli: Cli, tampered: Path) -> None:
    """`resilient flags | head -0` ends without a word of complaint."""
    for words in LOOKS:
        process = cli.start(*words)
        assert process.stdout is not None
        process.stdout.close()
        assert process.stderr is not None
        errors = process.stderr.read().decode()
        process.stderr.close()
        process.wait(60)
        assert "Traceback" not in errors, errors
        assert "BrokenPipe" not in errors, errors


def test_a_full_disk_is_told(cli: Cli, tampered: Path) -> None:
    """Where its words can't be written, the command does not exit with 0."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "resilient.cli", "flags", "--json"],
            env=cli.env(), stdin=subprocess.DEVNULL, stdout=full, stderr=subprocess.PIPE,
            timeout=60, check=False,
        )  # fmt: skip
    assert done.returncode != 0


# -- the installation ---------------------------------------------


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_what_to_install(cli: Cli, tampered: Path, missing: str) -> None:
    """Without click or rich, the command says what to install and exits with 2."""
    stubs = cli.home / "stubs"
    stubs.mkdir()
    (stubs / f"{missing}.py").write_text(
        f'raise ImportError("No module named {missing!r}", name="{missing}")\n'
    )
    path = ":".join(filter(None, [str(stubs), cli.env().get("PYTHONPATH")]))
    for words in (("flags",), ("flags", "log"), ("processes",)):
        done = cli(*words, PYTHONPATH=path)
        done.said(2, "resilient: ", "pip install 'resilient-guards[cli]'")
        assert done.out == ""


def test_another_import_error_is_not_hidden(cli: Cli) -> None:
    """An import that fails for another reason is told as it is."""
    stubs = cli.home / "stubs"
    stubs.mkdir()
    (stubs / "click.py").write_text("import a_module_that_is_not_there\n")
    path = ":".join(filter(None, [str(stubs), cli.env().get("PYTHONPATH")]))
    process = cli.start("flags", PYTHONPATH=path)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert b"a_module_that_is_not_there" in err


def test_it_starts_quickly(cli: Cli, tampered: Path) -> None:
    """A look works hardly more than any command that imports what draws and what stores."""
    bare = "import asyncio, click, json, logging, rich.console, rich.table, sqlite3"

    def spent(run: Callable[[], object]) -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        run()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    ours = min(spent(lambda: cli("status")) for _ in range(3))
    theirs = min(
        spent(lambda: subprocess.run([sys.executable, "-c", bare], check=True)) for _ in range(3)
    )
    assert ours < 4 * theirs, (ours, theirs)


def test_no_command_waits_for_what_another_needs() -> None:
    """At 2 a.m. no flip waits for the import of a simulator, an event loop or a terminal."""
    code = "import sys, resilient.cli.commands; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"asyncio", "resilient.simulate", "rich.table", "sqlite3", "redis"} & {
        *done.stdout.split()
    }
