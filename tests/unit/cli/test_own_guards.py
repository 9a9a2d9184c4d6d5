"""A guard of somebody's own is shown, and changed, by the commands like one of ours."""

from __future__ import annotations

import time
from pathlib import Path

from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import Worker, python_path

WORKER = Path(__file__).parents[2] / "kit" / "own_worker.py"


def test_own_guards_are_seen_and_changed(cli: Cli) -> None:
    """`policies show` has its options, `policies set` changes one, `top` has its refusals."""
    worker = Worker(WORKER, cli.env(PYTHONPATH=python_path()), cli.home)
    try:
        for _ in range(3):
            worker.ask("call")
        cli.flip("policies", "set", "own-shop", "own_rate_limit.interval=60").said(0)
        until(lambda: worker.ask("options") == "{'interval': 60, 'max_wait': 0.0}")
        shown = cli("policies", "show", "own-shop", "--json").json
        assert shown["options"]["own_rate_limit.interval"]["value"] == 60
        looking = cli.start("top", "--once")
        while looking.poll() is None:  # it looks on for two seconds
            worker.ask("call")
            time.sleep(0.01)
        screen = cli.end(looking).said(0).out
        assert "own-shop" in screen
    finally:
        worker.close()


def test_the_options_of_a_retry_are_set_and_taken_back(cli: Cli) -> None:
    """What a process can't take is refused before it is recorded."""
    worker = Worker(WORKER, cli.env(PYTHONPATH=python_path()), cli.home)
    try:
        assert worker.ask("retry") == "4 2.0 0.1"
        cli.flip(
            "policies", "set", "own-retry", "retry.attempts=2", "retry.wait_max=0.5",
            "retry.budget=none",
        ).said(0, "applied by 1 of 1")  # fmt: skip
        until(lambda: worker.ask("retry") == "2 0.5 None")
        for bad in "retry.attempts=0", "retry.budget=2", "retry.wait_max=0.01", "retry.on=1":
            word = bad.partition("=")[0].partition(".")[2]
            assert word in cli.flip("policies", "set", "own-retry", bad).said(2).err
        cli.flip("policies", "unset", "own-retry", "retry.attempts").said(0)
        until(lambda: worker.ask("retry") == "4 0.5 None")
    finally:
        worker.close()


def test_the_options_of_a_last_good_answer_are_set_and_taken_back(cli: Cli) -> None:
    """Functions and a cache of its own stay; what has no meaning beside the cache is refused."""
    worker = Worker(WORKER, cli.env(PYTHONPATH=python_path()), cli.home)
    try:
        assert worker.ask("last_good") == "60.0 1000 60.0 None"
        for policy, order in (
            ("own-last-good", "last_good.max_age=5"),
            ("own-last-good", "last_good.max_entries=10"),
            ("own-cached", "last_good.max_age=7"),
        ):
            cli.flip("policies", "set", policy, order).said(0, "applied by 1 of 1")
        until(lambda: worker.ask("last_good") == "5.0 10 7.0 None")
        for policy, bad in (
            ("own-last-good", "last_good.max_age=0"),
            ("own-last-good", "last_good.max_entries=0"),
            ("own-cached", "last_good.max_entries=10"),
            ("own-cached", "last_good.key=1"),
        ):
            word = bad.partition("=")[0].partition(".")[2]
            assert word in cli.flip("policies", "set", policy, bad).said(2).err
        cli.flip("policies", "unset", "own-last-good", "last_good.max_age").said(0)
        until(lambda: worker.ask("last_good") == "60.0 10 7.0 None")
    finally:
        worker.close()


def test_the_options_of_limits_are_set_and_taken_back(cli: Cli) -> None:
    """Also before any process runs that has them."""
    early = "rate_limit.max_wait=0.5", "rate_limit.burst=2", "throttle.window=60"
    for order in early:
        cli.flip("policies", "set", "own-later", order, "--declare").said(0)
    cli.flip("policies", "set", "own-later", "rate_limit.max_calls=0", "--declare").said(
        2, "max_calls"
    )
    worker = Worker(WORKER, cli.env(PYTHONPATH=python_path()), cli.home)
    try:
        assert worker.ask("limited") == "0.9 100 None"
        cli.flip(
            "policies", "set", "own-limited", "rate_limit.max_calls=5", "rate_limit.max_wait=0.5",
            "throttle.max_refused=0.5",
        ).said(0, "applied by 1 of 1")  # fmt: skip
        until(lambda: worker.ask("limited") == "0.5 5 0.5")
        for bad in "rate_limit.quota=true", "rate_limit.burst=0", "throttle.max_refused=0.95":
            word = bad.partition("=")[0].partition(".")[2]
            assert word in cli.flip("policies", "set", "own-limited", bad).said(2).err
        cli.flip("policies", "unset", "own-limited", "rate_limit.max_wait").said(0)
        until(lambda: worker.ask("limited") == "0.5 5 None")
    finally:
        worker.close()
