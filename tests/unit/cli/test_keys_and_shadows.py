"""Orders for single keys, candidates that take a guard's place, and advice, from the command line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import Worker

WORKER = Path(__file__).parents[2] / "kit" / "keyed_worker.py"


@pytest.fixture
def shop(cli: Cli, tmp_path: Path) -> Iterator[Worker]:
    """A process whose policies have been called, and have told of themselves."""
    cli.environ["RESILIENT_RUNTIME_DIR"] = str(tmp_path / "pages")
    one = Worker(WORKER, cli.env(), cli.home)
    assert (one.ask("a"), one.ask("tried")) == ("a", "tried")
    until(lambda: "tried" in {row["policy"] for row in cli("policies", "--json").json})
    yield one
    one.close()


def test_a_key_is_cut_off_alone(cli: Cli, shop: Worker) -> None:
    """Also one that had no call; who looks sees which, and its release ends it."""
    for key in ("a", "new key"):
        done = cli.flip("policies", "force-open", "shards", "--key", key, reason="INC-1")
        done.said(0, "every call of that key is an error now", "applied by 1 of 1 process")
    assert (shop.ask("a"), shop.ask("b")) == ("CircuitOpenError", "b")
    cli("policies", "show", "shards").said(0, "a=forced_open", "INC-1", "new key")
    until(lambda: "forced_open" in cli("policies", "show", "shards").out.partition("key ")[2])
    until(lambda: _keys(cli).get("a") == "forced_open")
    cli.flip("policies", "release", "shards", "--key", "a").said(0, "applied by 1 of 1 process")
    assert shop.ask("a") == "a"
    until(lambda: "a" not in _keys(cli))
    assert _keys(cli) == {"new key": "forced_open"}


def _keys(cli: Cli) -> dict[str, str]:
    """Return which keys a process says are not closed."""
    (process,) = cli("policies", "show", "shards", "--json").json["in"]
    worst = process["policy"]["keys"]["worst"]
    return {row["key"]: row["state"] for row in worst if row["state"] != "closed"}


def test_a_policy_without_keys_says_that_it_does_not_obey(cli: Cli, shop: Worker) -> None:
    done = cli.flip("policies", "force-open", "tried", "--key", "a")
    assert done.code != 0
    done.said(
        done.code, "tried has no keys in this process", "resilient policies release tried --key"
    )
    assert shop.ask("tried") == "tried"


def test_a_candidate_takes_the_place_of_the_guard(cli: Cli, shop: Worker) -> None:
    """What it would have done is shown; then its options are in force, as an order."""
    assert shop.ask("tried fail") == "OSError"
    assert shop.ask("tried") == "tried"
    until(lambda: "would open" in cli("policies", "show", "tried").out)
    until(lambda: "1 of 2 calls failed" in cli("policies", "show", "tried").out
          or "failure" in cli("policies", "show", "tried").out)  # fmt: skip
    done = cli.flip("policies", "promote", "tried", reason="a week in the shadow")
    done.said(0, "circuit_breaker.failure_threshold = 1 by ana", "applied by 1 of 1 process")
    assert shop.ask("tried fail") == "OSError"
    assert shop.ask("tried") == "CircuitOpenError"
    until(lambda: cli.flip("policies", "promote", "tried").code == 2)
    cli.flip("policies", "promote", "tried").said(2, "has these options already")
    cli.flip("policies", "unset", "tried", "circuit_breaker.failure_threshold").said(0)


def test_what_has_no_shadow_is_not_promoted(cli: Cli, shop: Worker) -> None:
    cli.flip("policies", "promote", "shards").said(2, "no process says that shards has a shadow")
    cli.flip("policies", "promote", "nobody").said(2, "nobody")
    assert cli("flags", "log", "--json").json == []


def test_advice_goes_by_enough_calls(cli: Cli, shop: Worker) -> None:
    """Too few are said, and no answer; so is a policy that nobody has called."""
    cli("policies", "advise", "tried").said(3, "too few for advice, which needs 1000")
    cli("policies", "advise", "nobody").said(3, "no living process of this host")
    assert shop.ask("tried many") == "tried"
    text = "bulkhead: in the last minute a process ran at most 1 at once"
    until(lambda: text in cli("policies", "advise", "tried").out)
    cli("policies", "advise", "tried").said(1, "max_concurrent=20 is far")
    told = cli("policies", "advise", "tried", "--json").said(1).json
    assert (told["policy"], told["enough"], told["left_out"]) == ("tried", True, [])
    assert "bulkhead" in [each["guard"] for each in told["advice"]]


def test_advice_names_what_it_can_not_judge(cli: Cli, shop: Worker) -> None:
    """The guards of which each key has its own: it is no all-clear."""
    assert shop.ask("a many") == "a"
    until(lambda: "living process:" in cli("policies", "advise", "shards").out)
    cli("policies", "advise", "shards").said(3, "not looked at: circuit_breaker, bulkhead")
    assert cli("policies", "advise", "shards", "--json").json["left_out"] == [
        "circuit_breaker", "bulkhead",
    ]  # fmt: skip
