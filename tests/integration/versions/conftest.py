"""The version before, and processes of it and of this one on one host and one store."""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resilient
from tests.kit.command import Cli
from tests.kit.paths import ROOT
from tests.kit.waiting import WAIT, until
from tests.kit.workers import Worker

BEFORE = "dd301137404d"  # the last commit of the version before this one
HERE = Path(__file__).parent
OURS = str(Path(resilient.__file__).parents[1])

Start = Callable[[str], "Versioned"]


@pytest.fixture(scope="session")
def before(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The sources of the version before, out of the history."""
    git = ["git", "-C", str(ROOT), "archive", BEFORE, "src"]
    if not (ROOT / ".git").exists():
        pytest.skip("there is no history here, as in a source distribution")
    done = subprocess.run(git, capture_output=True, check=False, timeout=WAIT)
    if done.returncode and (ROOT / ".git" / "shallow").exists():
        pytest.skip("the history here does not reach back to the version before")
    assert done.returncode == 0, done.stderr
    place = tmp_path_factory.mktemp("before")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(place, filter="data")
    return str(place / "src")


@pytest.fixture(params=["sqlite", "redis"])
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Cli:
    """The command of this version, on one store of either kind and one directory of pages."""
    redis = request.getfixturevalue("redis_server") if request.param == "redis" else None
    (tmp_path / "flags.db").touch()
    made = Cli(f"sqlite:///{tmp_path / 'flags.db'}" if redis is None else redis.url, tmp_path)
    made.environ = {
        "RESILIENT_RUNTIME_DIR": str(tmp_path / "pages"),
        "RESILIENT_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": OURS,
    }
    return made


@pytest.fixture
def older(home: Cli, before: str) -> Cli:
    """The command of the version before, on the same."""
    made = Cli(home.store, home.home)
    made.environ = {**home.environ, "PYTHONPATH": before}
    return made


class Versioned(Worker):
    """An application's process, of one version: it answers in JSON."""

    def __init__(self, cli: Cli) -> None:
        super().__init__(HERE / "worker.py", cli.env(), cli.home)

    def ask(self, *words: object) -> Any:
        """Have it do something; return its answer."""
        return json.loads(super().ask(*words))


@pytest.fixture
def start(home: Cli, older: Cli) -> Iterator[Start]:
    """Start processes of "this" version or of the one "before"; they end with the test."""
    made: list[Versioned] = []

    def begin(version: str) -> Versioned:
        made.append(Versioned(home if version == "this" else older))
        return made[-1]

    yield begin
    for each in made:
        each.close()


@pytest.fixture
def both(start: Start, home: Cli) -> tuple[Versioned, Versioned]:
    """A process of each version, known to the store."""
    found = start("this"), start("before")
    until(lambda: len(home("processes", "--json").said(0).json) == 2)
    return found
