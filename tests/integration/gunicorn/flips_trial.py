"""The trial of `make trial`: how long a flip takes until 8 loaded workers obey, and what a call costs.

Not a test: it measures for some minutes, prints figures, and exits with 1 where a goal is missed.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.integration.gunicorn.service import Load, Service
from tests.kit.servers.redis_server import RedisServer, redis_program
from tests.kit.trials import figures, goal, missed, share
from tests.kit.workers import free_port

WORKERS = 8
FLIPS = 100
DEATHS = 12
ROUNDS = 3
GOAL = 1.0  # seconds, p99
GOAL_AFTER_DEATH = 2.0
PATIENCE = 8.0


class PagePoller:
    """What the workers wrote down of the flag: which value they saw, and when."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def lines(self) -> dict[str, list[tuple[str, float]]]:
        """Return what each worker saw, in order."""
        found: dict[str, list[tuple[str, float]]] = {}
        for path in self.directory.iterdir():
            rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines()]
            found[path.name] = [(row[0], float(row[1])) for row in rows if len(row) == 2]
        return found

    def changes(self) -> int:
        """Return how many changes all workers have seen so far."""
        return sum(len(seen) for seen in self.lines().values())

    def obeyed(self, value: str, began: float) -> list[float] | None:
        """Return after how long each worker saw a value, None where some have not."""
        took: list[float] = []
        for seen in self.lines().values():
            at = [when for what, when in seen if what == value and when > began]
            if not at or seen[-1][0] != value:
                return None
            took.append(at[0] - began)
        return took if len(took) == WORKERS else None

    def wait(self, value: str, began: float) -> list[float] | None:
        """Wait until all have seen it."""
        end = began + PATIENCE
        while time.monotonic() < end:
            took = self.obeyed(value, began)
            if took is not None:
                return took
            time.sleep(0.02)
        return None


class Trial:
    """A service of 8 workers that follow one store, and an operator."""

    def __init__(self, store: str, directory: Path) -> None:
        directory.mkdir()
        seen = directory / "seen"
        seen.mkdir()
        self.environ = {
            "PATH": os.environ["PATH"], "HOME": str(directory), "RESILIENT_STORE": store,
            "RESILIENT_STATE_DIR": str(directory / "state"), "APP_WATCH": str(seen),
            **{name: os.environ[name] for name in ("PYTHONPATH",) if name in os.environ},
        }  # fmt: skip
        self.watch = PagePoller(seen)
        self.service = Service(free_port(), WORKERS, self.environ, directory / "log", threads=4)
        self.service.answers(30)
        end = time.monotonic() + 10
        while self.operator("flags", "show", "recs")[1].get("applied") != WORKERS:
            if time.monotonic() > end:
                raise RuntimeError("the workers are not known to the store")

    def operator(self, *words: str) -> tuple[int, dict[str, Any], str]:
        """Run the command; return its exit code, what it printed, and what it complained of."""
        done = subprocess.run(
            [sys.executable, "-m", "resilient.cli", *words, "--json"],
            env=self.environ, stdin=subprocess.DEVNULL, capture_output=True, timeout=30,
            check=False,
        )  # fmt: skip
        data = json.loads(done.stdout) if done.stdout.strip() else {}
        return done.returncode, data, done.stderr.decode().strip()

    def flip(self, number: int) -> tuple[str, tuple[int, dict[str, Any], str], float]:
        """Flip once, to and fro; return the value, what came of it, and when it began."""
        word = "off" if number % 2 == 0 else "on"
        began = time.monotonic()
        done = self.operator("flags", word, "recs", "--reason", f"trial {number}")
        return "0" if word == "off" else "1", done, began

    def close(self) -> None:
        """End the service."""
        self.service.kill()


def flips(trial: Trial, name: str) -> None:
    """Flip again and again under load, and measure until each worker obeys."""
    each: list[float] = []
    last: list[float] = []
    commands: list[float] = []
    whole = 0
    with Load(trial.service, 4, pause=0.005) as load:
        time.sleep(0.5)
        load.asked, begun = 0, time.monotonic()
        for number in range(FLIPS):
            value, (code, data, error), began = trial.flip(number)
            commands.append(time.monotonic() - began)
            took = trial.watch.wait(value, began)
            if took is None or code != 0:
                print(f"  flip {number}: exit {code}, {error or data}")
            each += took or [PATIENCE]
            last.append(max(took or [PATIENCE]))
            whole += code == 0 and data.get("applied") == data.get("processes") == WORKERS
        rate = load.asked / (time.monotonic() - begun)
    wanted = "top 100" if value == "0" else "personal"
    answers = trial.service.answers()
    print(f"{name}: {FLIPS} flips, {WORKERS} workers, {rate:.0f} requests/s, {load.failed} failed")
    print(f"  from the start of the command until a worker obeys: {figures(each)}")
    print(f"  ... until the last of the {WORKERS} does:                 {figures(last)}")
    print(f"  the command itself, until it ends:                  {figures(commands)}")
    goal(share(last, 0.99) < GOAL, f"p99 until all obey < {GOAL} s")
    goal(whole == FLIPS, f"reports {WORKERS} of {WORKERS}: {whole} of {FLIPS} times")
    goal(set(answers.values()) == {wanted}, f"every worker answers {wanted!r} at the end")


def deaths(trial: Trial, server: RedisServer) -> None:
    """Kill the server, start it empty, and measure the first flip after that."""
    last: list[float] = []
    changed = whole = refused = 0
    with Load(trial.service, 4, pause=0.005):
        for number in range(DEATHS):
            before = trial.watch.changes()
            server.kill()
            time.sleep(1.5)
            server.start()
            changed += trial.watch.changes() - before
            value, done, began = trial.flip(number)
            while done[0] != 0 and time.monotonic() < began + PATIENCE:
                refused += 1
                print(f"  death {number}: exit {done[0]}: {done[2] or done[1]}"[:160])
                value, done, _ = trial.flip(number)
            took = trial.watch.wait(value, began)
            last.append(max(took or [PATIENCE]))
            applied, known = done[1].get("applied"), done[1].get("processes")
            whole += applied == known == WORKERS
            if applied != WORKERS:
                print(f"  death {number}: reports {applied} of {known}")
    print(f"Redis killed with -9 and started again empty, {DEATHS} times")
    print(f"  from the first command after that until all obey: {figures(last)}")
    print(f"  commands that had to be given again: {refused}")
    goal(changed == 0, f"killing it changed no flag ({changed} changes)")
    goal(share(last, 0.99) < GOAL_AFTER_DEATH, f"p99 until all obey < {GOAL_AFTER_DEATH} s")
    goal(whole == DEATHS, f"reports {WORKERS} of {WORKERS}: {whole} of {DEATHS} times")


def calls(trial: Trial, server: RedisServer) -> None:
    """Measure a call and a read with the server alive, killed and frozen, one after the other."""
    states: list[tuple[str, Callable[[], object], Callable[[], object]]] = [
        ("alive", lambda: None, lambda: None),
        ("killed", server.kill, server.start),
        ("frozen", server.stop, server.cont),
    ]
    found: dict[str, list[dict[str, float]]] = {name: [] for name, _, _ in states}
    for _ in range(ROUNDS):
        for name, begin, end in states:
            begin()
            time.sleep(1.0)
            found[name] += [trial.service.ask("/latency", 10) for _ in range(2)]
            end()
            time.sleep(1.0)
    print(f"one call and one read of the flag, medians of {2 * ROUNDS} paired runs of 1 s")
    medians: dict[str, tuple[float, float]] = {}
    for name, rows in found.items():
        p50, p99 = (statistics.median(row[key] for row in rows) for key in ("p50", "p99"))
        medians[name] = p50, p99
        spread = ", ".join(f"{row['p99']:.1f}" for row in rows)
        print(f"  Redis {name}: p50 {p50:.2f} us, p99 {p99:.2f} us (p99 of each run: {spread})")
    for name in ("killed", "frozen"):
        p50, p99 = (medians[name][k] / medians["alive"][k] for k in (0, 1))
        print(f"  {name} over alive: p50 x {p50:.2f}, p99 x {p99:.2f}")
        goal(p50 < 1.25 and medians[name][1] < 1000, f"{name}: p50 within a quarter, p99 < 1 ms")


def main() -> int:
    """Run it all."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="resilient-trial-") as name:
        directory = Path(name)
        trial = Trial(f"sqlite:///{directory / 'flags.db'}", directory / "sqlite")
        try:
            flips(trial, "SQLite")
        finally:
            trial.close()
        if redis_program() is None:
            goal(False, "there is no redis-server on PATH: nothing was measured on Redis")
        else:
            on_redis(directory)
    print(f"{time.monotonic() - began:.0f} s; {len(missed)} goals missed")
    return 1 if missed else 0


def on_redis(directory: Path) -> None:
    """Run what is about Redis."""
    with RedisServer() as server:
        trial = Trial(server.url, directory / "redis")
        try:
            flips(trial, "Redis")
            deaths(trial, server)
            calls(trial, server)
        finally:
            trial.close()


if __name__ == "__main__":
    sys.exit(main())
