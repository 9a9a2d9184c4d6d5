"""Commands whose store dies, or may not be written."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from resilient.errors import StoreError
from resilient.flags.flip import Flip
from resilient.flags.stores.sqlite import SQLiteStore
from resilient.flags.stores.urls import directory_for
from tests.kit.followers import Make, off


def command(*words: str) -> tuple[int, str]:
    """Run the command line here; return its exit code and what it printed."""
    pytest.importorskip("rich")
    runner = pytest.importorskip("click.testing").CliRunner()
    from resilient.cli.commands import cli

    done = runner.invoke(cli, list(words), env={"RESILIENT_STATE_DIR": None})
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output


def test_what_was_recorded_is_said_though_the_store_dies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The flip stands; that nobody knows who has obeyed is exit 3, not 4."""
    database, real = str(tmp_path / "flags.db"), SQLiteStore.flip

    def dying(self: SQLiteStore, *given: Any) -> Flip:
        made = real(self, *given)

        def dead(*_: object) -> Any:
            raise StoreError("gone")

        monkeypatch.setattr(self, "processes", dead)
        return made

    opened = SQLiteStore(database)
    opened.flip(off("more"), None, None)  # or there would be no file
    monkeypatch.setattr(SQLiteStore, "flip", dying)
    store = f"sqlite:///{database}"
    code, said = command("flags", "off", "x", "--declare", "--reason", "r", "--store", store)
    assert code == 3, said
    assert "recorded; who has obeyed can't be told: gone" in said
    assert [each.lever for each in opened.log(None, 1)] == ["flag/x"]
    opened.close()


def test_status_counts_a_flag_that_is_pinned_off(hand: Make, tmp_path: Path) -> None:
    """One that the environment of a process forces off is off for somebody."""
    database = str(tmp_path / "flags.db")
    one = hand(lambda: SQLiteStore(database), "recs", "more")
    environ: Any = one.flags._environ
    environ["RESILIENT_FLAG_RECS"] = "off"
    one.state.declared(one.made["recs"])
    one.turn()
    code, said = command("status", "--store", f"sqlite:///{database}")
    held = "off: recs (held off in 1 process, by no order); "
    assert (code, said.startswith(held)) == (1, True), said


def test_status_needs_not_write(hand: Make, tmp_path: Path) -> None:
    """While another writes for long, a process that is proved dead is left out all the same."""
    database = str(tmp_path / "flags.db")
    directory = directory_for(f"sqlite:///{database}", None, {})
    for _ in range(2):
        one = hand(lambda: SQLiteStore(database), "recs", directory=directory)
        one.turn()
    one.presence.drop()  # as by a kill
    db = sqlite3.connect(database, isolation_level=None)
    db.execute("BEGIN IMMEDIATE")
    code, said = command("status", "--store", f"sqlite:///{database}")
    db.close()
    assert code == 0, said
    assert "1 process; all in step" in said
