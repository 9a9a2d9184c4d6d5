"""The version before, and processes of it and of this one on one host and one store."""

from __future__ import annotations

import contextlib
import io
import json
import os
import select
import subprocess
import sys
import tarfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import resilient
from tests.cli.conftest import needed_redis
from tests.cli.kit import WAIT, Cli, RedisServer, until

BEFORE = "dd301137404d"  # the last commit of the version before this one
ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
OURS = str(Path(resilient.__file__).parents[1])

Start = Callable[[str], "Process"]


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
def home(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Cli]:
    """The command of this version, on one store of either kind and one directory of pages."""
    redis = RedisServer(tmp_path, needed_redis()) if request.param == "redis" else None
    (tmp_path / "flags.db").touch()
    made = Cli(f"sqlite:///{tmp_path / 'flags.db'}" if redis is None else redis.url, tmp_path)
    made.environ = {
        "RESILIENT_RUNTIME_DIR": str(tmp_path / "pages"),
        "RESILIENT_STATE_DIR": str(tmp_path / "state"),
        "PYTHONPATH": OURS,
    }
    yield made
    if redis is not None:
        redis.kill()


@pytest.fixture
def older(home: Cli, before: str) -> Cli:
    """The command of the version before, on the same."""
    made = Cli(home.store, home.home)
    made.environ = {**home.environ, "PYTHONPATH": before}
    return made


class Process:
    """An application's process, of one version."""

    def __init__(self, cli: Cli) -> None:
        self.process = subprocess.Popen(
            [sys.executable, str(HERE / "worker.py")],
            env=cli.env(), stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip
        self._rest = b""
        assert self._answer() == "ready"

    def ask(self, *words: object) -> Any:
        """Have it do something; return its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)).encode() + b"\n")
        return self._answer()

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        end = time.monotonic() + WAIT
        while b"\n" not in self._rest:
            left = max(0.0, end - time.monotonic())
            assert select.select([self.process.stdout], [], [], left)[0], "the process hangs"
            more = os.read(self.process.stdout.fileno(), 65536)
            assert more, "the process ended"
            self._rest += more
        line, _, self._rest = self._rest.partition(b"\n")
        return json.loads(line)

    def kill(self) -> None:
        """End it as a crash does."""
        self.process.kill()
        self.process.wait(WAIT)
        for stream in (self.process.stdin, self.process.stdout):
            with contextlib.suppress(OSError):
                stream.close()  # type: ignore[union-attr]


@pytest.fixture
def start(home: Cli, older: Cli) -> Iterator[Start]:
    """Start processes of "this" version or of the one "before"; they end with the test."""
    made: list[Process] = []

    def begin(version: str) -> Process:
        made.append(Process(home if version == "this" else older))
        return made[-1]

    yield begin
    for each in made:
        each.kill()


@pytest.fixture
def both(start: Start, home: Cli) -> tuple[Process, Process]:
    """A process of each version, known to the store."""
    found = start("this"), start("before")
    until(lambda: len(home("processes", "--json").said(0).json) == 2)
    return found
