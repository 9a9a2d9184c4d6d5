"""The process that forks the tests' commands: each is what one would be that a shell starts."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.waiting import WAIT
from tests.kit.warm_commands import WarmCommands


@pytest.fixture(scope="module")
def warm() -> Iterator[WarmCommands]:
    made = WarmCommands()
    yield made
    made.close()


def environ(**more: str) -> dict[str, str]:
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return {**kept, "HOME": "/nowhere", **more}


def test_it_prints_fails_and_reads_its_own_environment(warm: WarmCommands, tmp_path: Path) -> None:
    code, out, err = warm.run(["--version"], environ(), WAIT)
    assert (code, out[:10], err) == (0, b"resilient,", b"")
    code, out, err = warm.run(["flags"], environ(), WAIT)
    assert (code, out, b"no store is set" in err) == (2, b"", True)
    (tmp_path / "flags.db").touch()
    store = f"sqlite:///{tmp_path / 'flags.db'}"
    code, out, _ = warm.run(["flags", "--json"], environ(RESILIENT_STORE=store), WAIT)
    assert (code, out) == (0, b"[]\n")
    assert warm.run(["flags"], environ(), WAIT)[0] == 2  # nothing of the one before is left


def test_what_a_new_interpreter_obeys_is_left_to_one(warm: WarmCommands) -> None:
    assert warm.can(environ(RESILIENT_PURE="1"))
    for name in ("PYTHONHASHSEED", "LC_ALL", "LANG", "TZ"):
        assert not warm.can(environ(**{name: "0"}))
    without = {name: value for name, value in environ().items() if name != "PYTHONPATH"}
    assert warm.can(without) is ("PYTHONPATH" not in os.environ)


def test_one_that_takes_too_long_is_killed(warm: WarmCommands, tmp_path: Path) -> None:
    (tmp_path / "flags.db").touch()
    store = f"sqlite:///{tmp_path / 'flags.db'}"
    with pytest.raises(subprocess.TimeoutExpired):
        warm.run(
            ["status", "--over", "1h"],
            environ(RESILIENT_RUNTIME_DIR=str(tmp_path), RESILIENT_STORE=store),
            2.0,
        )
    assert warm.run(["--version"], environ(), WAIT)[0] == 0
