"""`resilient policies`: forced states and options."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from resilient.flags.flip import Flip
from resilient.flags.stores.sqlite import SQLiteStore
from tests.kit.command import Cli
from tests.kit.waiting import until
from tests.kit.workers import Worker

ROW = {
    "policy", "forced", "since", "by", "reason", "until", "version", "applied", "processes",
    "silent", "faults", "keys", "options", "states", "owner", "tier", "impact", "declared", "patches", "flags_off",
}  # fmt: skip


def policy(cli: Cli, name: str = "shop") -> dict[str, Any]:
    """Return what the list says of a policy."""
    rows: list[dict[str, Any]] = cli("policies", "--json").said(0).json
    (row,) = [each for each in rows if each["policy"] == name]
    assert set(row) == ROW
    return row


def test_the_list_shows_every_policy(cli: Cli, worker: Worker) -> None:
    """The list has each policy with its states, owner, and what is ordered."""
    columns = ("policy", "states", "forced", "since", "by", "why", "until", "options", "owner")
    cli("policies").said(0, *columns, "1 closed", "team-shop", "1 of 1")
    row = policy(cli)
    assert row["states"] == {"closed": 1}
    assert (row["forced"], row["options"], row["tier"]) == (None, {}, 2)


def test_the_list_shows_what_is_patched(cli: Cli, worker: Worker) -> None:
    """What a policy guards by a patch is listed, with how many processes have applied it."""
    assert policy(cli)["patches"] == {}
    assert worker.ask("patch") == "['applied', 'waiting']"
    until(lambda: policy(cli)["patches"].get("glob:glob") == {"applied": 1})
    until(lambda: len(policy(cli)["patches"]) == 2)
    assert policy(cli)["patches"] == {"glob:glob": {"applied": 1}, "wave:open": {"waiting": 1}}
    cli("policies").said(
        0, "glob:glob is guarded by shop: 1 applied", "wave:open is guarded by shop: 1 waiting"
    )


def test_a_list_of_nothing_says_so(cli: Cli) -> None:
    """Where no process follows, that is said."""
    cli("policies").said(0, "no process follows this store")
    assert cli("policies", "--json").said(0).json == []


def test_forced_open_and_released(cli: Cli, worker: Worker) -> None:
    """A policy that is forced open refuses every call until it is released."""
    done = cli.flip("policies", "force-open", "shop", "--for", "10m", reason="INC-1234")
    done.said(0, "shop (team-shop)\nforced_open until ", "by ana: INC-1234\napplied by 1 of 1")
    assert worker.ask("shop") == "CircuitOpenError"
    row = policy(cli)
    assert (row["forced"], row["reason"]) == ("forced_open", "INC-1234")
    assert row["until"] - row["since"] == pytest.approx(600, abs=0.01)
    cli("policies").said(0, "FORCED_OPEN", "INC-1234")
    cli("status").said(1, "forced or changed: shop")
    cli.flip("policies", "release", "shop").said(0, "released by ana: because")
    assert worker.ask("shop") == "ok"
    assert policy(cli)["forced"] is None
    cli("status").said(0, "no policy is forced")


def test_forced_open_lets_the_fallback_answer(cli: Cli, worker: Worker) -> None:
    """A policy with a fallback answers with it while it is forced open."""
    cli.flip("policies", "force-open", "plain").said(0)
    assert worker.ask("plain") == "instead"


def test_forced_closed(cli: Cli, worker: Worker) -> None:
    """A policy that is forced closed says so; the other is left alone."""
    assert cli.flip("policies", "force-closed", "shop", "--json").said(0).json["changed"] is True
    assert policy(cli)["forced"] == "forced_closed"
    assert policy(cli, "plain")["forced"] is None
    assert worker.ask("shop") == "ok"


def test_a_forced_state_ends_by_itself(cli: Cli, worker: Worker) -> None:
    """--for ends a forced state in the process, and in the list."""
    cli.flip("policies", "force-open", "shop", "--for", "5s").said(0)
    assert worker.ask("shop") == "CircuitOpenError"
    until(lambda: worker.ask("shop") == "ok")
    until(lambda: policy(cli)["forced"] is None)


def test_a_release_of_nothing_changes_nothing(cli: Cli, worker: Worker) -> None:
    """Releasing what is not forced is done already, and is not in the log."""
    data = cli.flip("policies", "release", "shop", "--json").said(0).json
    assert data["changed"] is False
    assert cli("flags", "log", "--json").json == []
    assert "1970" not in cli.flip("policies", "release", "shop").said(0).out


def test_options_are_set_and_taken_back(cli: Cli, worker: Worker) -> None:
    """`set` changes an option in the process, `unset` takes it back."""
    before = worker.ask("bulkhead")
    done = cli.flip("policies", "set", "shop", "bulkhead.max_concurrent=3")
    done.said(0, "bulkhead.max_concurrent = 3 by ana: because", "applied by 1 of 1")
    assert "'max_concurrent': 3" in worker.ask("bulkhead")
    assert policy(cli)["options"]["bulkhead.max_concurrent"]["value"] == 3
    cli("policies").said(0, "bulkhead.max_concurrent=3")
    cli("status").said(1, "forced or changed: shop")
    cli.flip("policies", "unset", "shop", "bulkhead.max_concurrent").said(0)
    assert worker.ask("bulkhead") == before
    assert policy(cli)["options"] == {}
    cli("status").said(0)


def test_metrics_only(cli: Cli, worker: Worker) -> None:
    """`metrics-only` is an option of the breaker."""
    cli.flip("policies", "metrics-only", "shop").said(0, "circuit_breaker.metrics_only = True")
    assert policy(cli)["options"]["circuit_breaker.metrics_only"]["value"] is True
    cli.flip("policies", "unset", "shop", "circuit_breaker.metrics_only").said(0)


@pytest.mark.parametrize(
    ("option", "word"),
    [
        ("bulkhead.max_concurrent=zero", "max_concurrent"),
        ("bulkhead.max_concurrent=-1", "max_concurrent"),
        ("bulkhead.nonsense=1", "nonsense"),
        ("timeout.seconds=1", "timeout"),
        ("circuit_breaker.failure_rate=7", "failure_rate"),
    ],
)
def test_an_option_that_no_process_can_take_is_told(
    cli: Cli, database: Path, worker: Worker, option: str, word: str
) -> None:
    """What a process can't obey is said, with why, exits with 3, and is among the findings."""
    name, _, text = option.partition("=")
    lever, value = f"option/shop/{name}", int(text) if text != "zero" else text
    store = SQLiteStore(str(database))  # as a command of an older version records it
    store.flip(Flip(lever, value, by="ana", reason="because"), None, None)
    store.close()
    until(lambda: cli("doctor").code == 1)
    cli.flip("policies", "set", "shop", option).said(2, "nothing was recorded: shop", word)
    cli("status").said(3, "1 can't obey an order")
    cli("doctor").said(1, "can't obey option/shop/", word)
    assert worker.ask("shop") == "ok"
    cli.flip("policies", "unset", "shop", option.partition("=")[0]).said(0)
    cli("doctor").said(0)


@pytest.mark.parametrize("value", ["NaN", "Infinity", "-Infinity", "1e999"])
def test_a_number_that_json_has_not_is_refused(cli: Cli, worker: Worker, value: str) -> None:
    """A number that is none is refused, or else --json would print what is no JSON."""
    cli.flip("policies", "set", "shop", f"circuit_breaker.failure_rate={value}").said(2)
    assert cli("flags", "log", "--json").said(0).json == []


@pytest.mark.parametrize(
    "option", ["bulkhead.max_concurrent", "=", "x=1", ".=1", "a.b.c=1", "a b.c=1", "a/b.c=1", ""]
)
def test_a_malformed_option_is_refused(cli: Cli, worker: Worker, option: str) -> None:
    """What is not GUARD.OPTION=VALUE is refused before anything is recorded."""
    cli.flip("policies", "set", "shop", option).said(2, "resilient: ", "GUARD.OPTION")
    assert cli("flags", "log", "--json").json == []


def test_declare_reaches_a_policy_of_the_future(cli: Cli, make: Callable[..., Worker]) -> None:
    """With --declare a policy is forced before any process has it, by its first call."""
    cli.flip("policies", "force-open", "shop").said(2, "no process declares a policy named shop")
    cli.flip("policies", "force-open", "shop", "--declare").said(0, "those that start will obey")
    cli.flip("policies", "set", "shop", "bulkhead.max_concurrent=2", "--declare").said(0)
    one = make()
    assert one.ask("shop") == "CircuitOpenError"
    assert "'max_concurrent': 2" in one.ask("bulkhead")


def test_a_policy_that_nobody_calls_obeys_too(cli: Cli, worker: Worker) -> None:
    """A policy that has not been called yet is forced at its first call."""
    cli.flip("policies", "force-open", "plain").said(0, "applied by 1 of 1")
    assert worker.ask("plain") == "instead"
