"""Stores that are not set, of no known kind, not there, broken, or read-only."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.kit.command import Cli
from tests.kit.workers import Worker, free_port

LOOKS = [("flags",), ("flags", "log"), ("flags", "show", "x"), ("policies",), ("status",),
         ("doctor",), ("processes",), ("forget", "abcdef")]  # fmt: skip
FLIPS = [
    ("flags", "off", "x"), ("flags", "on", "x"), ("policies", "force-open", "x"),
    ("policies", "force-closed", "x"), ("policies", "release", "x"),
    ("policies", "set", "x", "bulkhead.a=1"), ("policies", "unset", "x", "bulkhead.a"),
    ("policies", "metrics-only", "x"),
]  # fmt: skip
ALL = [*LOOKS, *((*flip, "--declare", "--reason", "because") for flip in FLIPS)]


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words[:2]))
def test_without_a_store_nothing_is_done(cli: Cli, words: tuple[str, ...]) -> None:
    """With no store set every command says so and exits with 2: it never flips its own memory."""
    for store in (None, "", "memory:"):
        cli(*words, RESILIENT_STORE=store).said(2, "no store is set", "RESILIENT_STORE", "sqlite:")
    assert not cli(*words, "--json", RESILIENT_STORE=None).said(2).out


@pytest.mark.parametrize(
    "store",
    [
        "mysql://host/db", "nonsense", "sqlite:///relative.db", "sqlite://host/x.db", "sqlite:",
        "sqlite:////tmp/", "file:relative.toml", "file:", "file://",
        "redis://host:port/0", "redis://[::1", "redis://host:99999999/0", "://", "http://[",
    ],
)  # fmt: skip
def test_a_store_of_no_known_form_is_refused(cli: Cli, store: str) -> None:
    """What names no store is refused, with what would."""
    cli("flags", "--store", store).said(2, "resilient: ", "store")
    cli.flip("flags", "off", "x", "--declare", "--store", store).said(2, "store")


@pytest.mark.parametrize("path", ["/proc/none/flags.db", "/dev/null/flags.db", "/proc/flags.db"])
def test_a_directory_that_can_not_be_written(cli: Cli, path: str) -> None:
    """A flip into a file that can't be there exits with 4, and names it."""
    done = cli.flip("flags", "off", "x", "--declare", "--store", f"sqlite:///{path}")
    done.said(4, "resilient: ", path)


@pytest.mark.parametrize("words", ALL, ids=lambda words: " ".join(words[:2]))
@pytest.mark.parametrize("content", [b"no database " * 100, b"", "directory"])
def test_a_file_that_is_no_store(
    cli: Cli, database: Path, content: bytes | str, words: tuple[str, ...]
) -> None:
    """A corrupt file is an error with its path, and stays as it was; an empty one is no error."""
    if isinstance(content, bytes):
        database.write_bytes(content)
    else:
        database.unlink()
        database.mkdir()
    done = cli(*words)
    if content == b"":
        assert done.code in (0, 1, 2, 3), done
        return
    done.said(4, "the store can't be used: ", str(database))
    if isinstance(content, bytes):
        assert database.read_bytes() == content


def test_a_store_that_breaks_under_the_processes(cli: Cli, database: Path, worker: Worker) -> None:
    """With the file gone corrupt, the command says so, and the process keeps what it knows."""
    cli.flip("flags", "off", "recs").said(0)
    for each in database.parent.glob("flags.db*"):
        if each.is_file():
            each.unlink()
    database.write_bytes(b"no database " * 1000)
    cli.flip("flags", "on", "recs").said(4, "the store can't be used")
    cli("doctor").said(4, "the store can't be used")
    assert worker.ask("read") == "False"


def test_a_store_made_by_a_newer_version(cli: Cli, database: Path) -> None:
    """A file of a schema to come is left alone."""
    import sqlite3

    with sqlite3.connect(database) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    cli.flip("flags", "off", "x", "--declare").said(4, "newer version of resilient")


def test_the_log_is_append_only(cli: Cli, database: Path) -> None:
    """What is in the log can be neither changed nor taken out, also not by SQL."""
    import sqlite3

    cli.flip("flags", "off", "x", "--declare", reason="one").said(0)
    db = sqlite3.connect(database)
    for statement in ("DELETE FROM log", "UPDATE log SET flip = '{}'"):
        with pytest.raises(sqlite3.IntegrityError, match="append-only"):
            db.execute(statement)
    db.close()
    assert [flip["reason"] for flip in cli("flags", "log", "--json").json] == ["one"]


def test_looking_makes_no_file(cli: Cli, database: Path) -> None:
    """Commands leave a store that is not there not there: it is a wrong path, and told as one."""
    database.unlink()
    for words in LOOKS:
        cli(*words).said(4, str(database), "does not exist")
    cli.flip("flags", "off", "typo", "--declare").said(4, "does not exist")
    assert not database.exists()


# -- a file ---------------------------------------------


@pytest.fixture
def settings(cli: Cli, tmp_path: Path) -> Path:
    """A store that is a file of somebody else's."""
    path = tmp_path / "flags.toml"
    path.write_text('[flags.recs]\nstate = "off"\nreason = "INC-1"\nby = "git"\n')
    cli.store = f"file:{path}"
    return path


def test_a_file_can_be_listed(cli: Cli, settings: Path, make: Callable[..., Worker]) -> None:
    """The lists show what the file says; who has applied it is not known."""
    assert make().ask("read") == "False"
    cli("flags").said(0, "recs", "OFF", "git", "INC-1", "not known")
    row = cli.flag("recs")
    assert (row["state"], row["by"], row["reason"]) == ("off", "git", "INC-1")
    cli("flags", "show", "recs").said(0, "off by git: INC-1")
    cli("status").said(1, "off: recs", "processes not known")
    assert cli("flags", "log", "--json").said(0).json == []
    assert cli("processes", "--json").said(0).json == []
    cli("forget", "abcdef").said(2)


@pytest.mark.parametrize("words", FLIPS, ids=lambda words: " ".join(words[:2]))
def test_a_file_is_never_written(cli: Cli, settings: Path, words: tuple[str, ...]) -> None:
    """A flip says that the file is changed where it comes from, and changes nothing."""
    before = settings.read_bytes()
    done = cli.flip(*words, "--declare", "--for", "10m")
    done.said(4, "is read and never written", str(settings))
    cli.flip("flags", "on", "recs").said(4, "is read and never written")
    assert settings.read_bytes() == before
    assert sorted(os.listdir(settings.parent)) == ["flags.db", settings.name]


def test_a_file_that_can_not_be_read(cli: Cli, settings: Path) -> None:
    """A file that is gone, or is none, exits with 4."""
    settings.write_text("[flags\n")
    cli("flags").said(4, str(settings))
    settings.unlink()
    cli("flags").said(4, str(settings))


def test_an_entry_of_a_file_that_is_none(cli: Cli, settings: Path) -> None:
    """The others are listed; `status` and `doctor` say which, and doctor why."""
    settings.write_text('[flags]\nrecs = "of"\nmore = "off"\n[flag]\n')
    cli("flags").said(0, "more")
    cli("status").said(1, "off: more", "can't be read: flag, flag/recs")
    cli("doctor").said(1, "flag/recs can't be read: ", "'on', 'off'", "unknown table")


# -- passwords ---------------------------------------------

SECRET = "Hunter2secret"


@pytest.mark.parametrize(
    "form",
    [
        "redis://:{secret}@127.0.0.1:{port}/0",
        "redis://user:{secret}@127.0.0.1:{port}/0",
        "redis://127.0.0.1:{port}/0?password={secret}",
        "redis://user:{secret}@127.0.0.1:port/0",
        "redis://user:{secret}/x@127.0.0.1:{port}/0",
        "redis://user:{secret}#x@127.0.0.1:{port}/0",
        "redis://user:{secret}@127.0.0.1:{port}/0?nonsense=1",
        "mysql://user:{secret}@127.0.0.1/db",
        "sqlite://user:{secret}@host/flags.db",
        "redis:/user:{secret}@127.0.0.1",
    ],
)
def test_no_password_is_printed(cli: Cli, form: str) -> None:
    """Wherever a password stands in a setting, and whatever goes wrong, it is not printed."""
    store = form.format(secret=SECRET, port=free_port())
    for words in (("doctor",), ("doctor", "--json"), ("flags",), ("status", "--store", store)):
        done = cli(*words, RESILIENT_STORE=store)
        assert done.code in (2, 4), done
        assert SECRET not in done.out + done.err, done
    done = cli.flip("flags", "off", "x", "--declare", RESILIENT_STORE=store)
    assert done.code in (2, 4), done
    assert SECRET not in done.out + done.err, done


def test_json_is_json_only(cli: Cli, worker: Worker) -> None:
    """With --json every command prints one JSON document on stdout, and nothing on stderr."""
    cli.flip("flags", "off", "recs").said(0)
    (row,) = cli("processes", "--json").json
    for words in (*LOOKS[:2], ("flags", "show", "recs"), *LOOKS[3:7]):
        done = cli(*words, "--json")
        assert json.loads(done.out) is not None
        assert done.err == ""
    assert not cli("forget", row["id"], "--json").said(2).out
