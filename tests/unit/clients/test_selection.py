"""Which methods are guarded, by which policy, and what is said of names that match nothing."""

from __future__ import annotations

import functools
import json
import types
from datetime import timedelta
from typing import Any

import pytest

from resilient import (
    CallTimeoutError,
    Policy,
    ThreadBoundWarning,
    bulkhead,
    check,
    circuit_breaker,
    fallback,
    timeout,
)
from resilient.testing import ManualClock
from tests.kit.policies import counts, error_of, policy, raised
from tests.kit.worlds import BACKENDS, run
from tests.unit.clients.kit import Client, Down, guards, own_slot


def calls(client: Any) -> None:
    """Call a few methods."""
    client.find("x")
    client.doubled(1)
    client.sub.find("x")
    client.pages(1).__next__()
    client.do_it()


@pytest.mark.parametrize(
    ("options", "want"),
    [
        ({}, 5),
        ({"only": "find"}, 2),
        ({"only": ["find"]}, 2),
        ({"only": ("sub.find",)}, 1),
        ({"only": {"sub.*"}}, 1),
        ({"only": ["f*", "doubled"]}, 3),
        ({"only": "pages"}, 1),
        ({"only": "do_*"}, 1),
        ({"unless": "find"}, 3),
        ({"unless": "sub"}, 4),
        ({"unless": ["sub.find"]}, 4),
        ({"unless": "*"}, 0),
        ({"only": "*", "unless": "do_*"}, 4),
        ({"only": ["find", "doubled"], "unless": "find"}, 1),
        ({"only": "fi?d"}, 2),
        ({"only": "[fd]*"}, 4),
    ],
    ids=str,
)
def test_names_and_patterns(options: dict[str, Any], want: int) -> None:
    of = own_slot()
    client = of.wrap(Client(), **options)
    for _ in range(2):
        calls(client)
    assert counts(of).get("success", 0) == 2 * want
    bare = Client()
    calls(bare)
    assert client.noted == bare.noted * 2


def test_what_is_left_is_the_bare_thing() -> None:
    client = own_slot().wrap(Client(), unless=["sub", "find"])
    assert client.sub is client.__wrapped__.sub
    assert client.find("x") == "x"


def test_special_methods_may_be_named() -> None:
    class Store:
        def __getitem__(self, key: str) -> str:
            return key

        def __call__(self, key: str) -> str:
            return key

        def __contains__(self, key: str) -> bool:
            return True

        def find(self) -> None: ...

    of, other = own_slot(), own_slot()
    client = of.wrap(Store(), unless=["__getitem__"], per_call={"__call__": other})
    assert (client["x"], client("x"), "x" in client) == ("x", "x", True)
    assert (counts(of), counts(other)) == ({"success": 1}, {"success": 1})
    of = own_slot()
    client = of.wrap(Store(), only="__getitem__")
    client["x"], client("x"), client.find()
    assert counts(of) == {"success": 1}


def test_parts_of_a_generator_that_is_not_selected_are_guarded() -> None:
    class Table:
        def __init__(self, owner: Any) -> None:
            self.owner = owner

        def rows(self) -> None: ...

    class Shop:
        def tables(self) -> Any:
            yield Table(self)

        def table(self) -> Table:
            return Table(self)

    of = own_slot()
    client = of.wrap(Shop(), only=["table.rows", "tables.rows"])
    client.table().rows()
    assert counts(of) == {"success": 1}
    next(client.tables()).rows()
    assert counts(of) == {"success": 2}


def test_who_is_thread_bound_is_asked_of_each_client() -> None:
    import threading

    class Session:
        def where(self) -> str:
            return threading.current_thread().name

    of, here = policy(timeout(5, sync="thread")), threading.current_thread().name
    plain, bound = Session(), Session()
    bound._local = threading.local()  # type: ignore[attr-defined]
    for _ in range(2):
        assert of.wrap(plain).where() != here
        with pytest.warns(ThreadBoundWarning):
            assert of.wrap(bound).where() == here


def test_per_call_takes_policies_and_the_first_match_counts() -> None:
    usual, other, third = own_slot(), own_slot(), own_slot()
    client = usual.wrap(
        Client(), per_call={"sub.find": third, "fi*": other, "find": third, "doubled": third}
    )
    calls(client)
    assert counts(usual) == {"success": 2, "ignored": 1}  # pages' first step and itself, do_it
    assert counts(other) == {"success": 1}  # find
    assert counts(third) == {"success": 2}  # sub.find, doubled


def test_per_call_names_what_only_does_not_and_unless_wins() -> None:
    usual, other = own_slot(), own_slot()
    client = usual.wrap(Client(), only="doubled", per_call={"find": other})
    client.find("x")
    client.doubled(1)
    client.do_it()
    assert (counts(usual), counts(other)) == ({"success": 1}, {"success": 2 - 1})
    usual, other = own_slot(), own_slot()
    client = usual.wrap(Client(), unless="find", per_call={"find": other})
    client.find("x")
    assert counts(other) == counts(usual) == {}


@pytest.mark.parametrize("seconds", [0.5, timedelta(seconds=0.5), 5])
def test_per_call_takes_seconds(seconds: Any) -> None:
    clock = ManualClock()

    class Slow:
        def find(self) -> str:
            clock.advance(1)
            check()
            return "in time"

        def other(self) -> str:
            return self.find()

    of = policy(circuit_breaker(), timeout(3, sync="cooperative"), clock=clock)
    client = of.wrap(Slow(), per_call={"find": seconds})
    assert client.other() == "in time"
    if seconds == 5:
        assert client.find() == "in time"
    else:
        error = raised(client.find)
        assert type(error) is CallTimeoutError
        assert (error.policy, error.timeout) == (of.name, 0.5)  # type: ignore[attr-defined]
        assert counts(of) == {"success": 1, "failure": 1}, "it is the same policy"


@pytest.mark.parametrize("backend", BACKENDS)
def test_per_call_seconds_of_an_async_client(backend: str) -> None:
    import anyio

    class Slow:
        async def find(self) -> None:
            await anyio.sleep(5)

    of = policy(circuit_breaker())

    async def body() -> None:
        client = of.wrap(Slow(), per_call={"find": 0.01})
        assert type(await error_of(client.find())) is CallTimeoutError

    run(backend, body)


def test_per_call_may_guard_a_release() -> None:
    usual, other = own_slot(), own_slot()
    client = usual.wrap(Client(), per_call={"close": other})
    assert client.close() == "closed"
    assert (counts(usual), counts(other)) == ({}, {"success": 1})
    client = usual.wrap(Client(), only="close")
    assert client.close() == "closed"
    assert counts(usual) == {"success": 1}


def test_private_names_pass_bare(policies: Any) -> None:
    class Private:
        def _find(self) -> int:
            return 1

        def __very(self) -> int:
            return 2

        def find(self) -> int:
            return self._find() + self.__very()

    of = own_slot()
    client = of.wrap(Private())
    with policies.forced_open(of):
        assert client._find() == 1
        assert client._Private__very() == 2
    assert client.find() == 3
    assert counts(of) == {"success": 1}


def test_ignored_errors_are_no_failures() -> None:
    class NotFound(Exception):
        pass

    of = policy(circuit_breaker(failure_threshold=1))
    client = of.wrap(Client(NotFound("404")), ignore=NotFound)
    for _ in range(3):
        assert raised(client.find, "x") is client.down
        assert raised(client.sub.find, "x") is client.down
        assert raised(list, client.items(1)) is client.down
    assert counts(of) == {"ignored": 9}
    client = of.wrap(Client(Down("404")), ignore=lambda error: error.args == ("404",))
    raised(client.find, "x")
    assert of.state == "closed"
    client.__wrapped__.down = Down("500")
    raised(client.find, "x")
    assert of.state == "open"


def test_ignore_adds_to_what_the_guards_ignore() -> None:
    of = policy(circuit_breaker(failure_threshold=1, ignore=KeyError))
    client = of.wrap(Client(KeyError("k")), ignore=ValueError)
    raised(client.find, "x")
    client.__wrapped__.down = ValueError("v")
    raised(client.find, "x")
    assert counts(of) == {"ignored": 2}
    assert of.state == "closed"
    assert raised(of.call, int, "x").args
    assert of.state == "open", "the policy itself was not changed"


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_result_may_be_a_failure(backend: str) -> None:
    class Answer:
        def __init__(self, status: int) -> None:
            self.status = status

    class Http:
        def get(self, status: int) -> Answer:
            return Answer(status)

        async def aget(self, status: int) -> Answer:
            return Answer(status)

    of = policy(circuit_breaker(failure_threshold=2))
    client = of.wrap(Http(), failed_result=lambda answer: answer.status == 503)

    async def body() -> None:
        assert client.get(200).status == 200
        assert client.get(503).status == 503
        assert (await client.aget(503)).status == 503

    run(backend, body)
    assert of.state == "open"
    assert counts(of) == {"success": 1, "failure": 2}


def test_failed_result_lets_generators_be() -> None:
    of = guards()
    client = of.wrap(Client(), failed_result=lambda value: value == "bad")
    assert list(client.items(2)) == [0, 1]
    assert client.find("bad") == "bad"
    assert counts(of) == {"success": 1, "failure": 1}


def test_a_predicate_that_raises_is_no_trouble() -> None:
    def wrong(value: Any) -> bool:
        raise RuntimeError("predicate")

    of = guards()
    client = of.wrap(Client(), failed_result=wrong, ignore=wrong)
    assert client.find("x") == "x"
    client.__wrapped__.down = Down("x")
    assert type(raised(client.find, "x")) is Down
    assert counts(of) == {"success": 1, "failure": 1}


def test_a_failed_result_is_answered_by_the_fallback() -> None:
    of = policy(fallback(value="cached"), circuit_breaker())
    client = of.wrap(Client(), failed_result=lambda value: value == "bad", only="find")
    assert client.find("bad") == "cached"
    assert client.find("good") == "good"
    assert counts(of) == {"success": 1, "failure": 1}


# -- bad input ---------------------------------------------


def generator() -> Any:
    yield 1


class Enumish(dict):  # type: ignore[type-arg]
    def find(self) -> None: ...


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (Client, "class"), (int, "class"), (json, "resilient.patch"), (len, "policy(function)"),
        (lambda: 1, "policy(function)"), (Client().find, "policy(function)"),
        (functools.partial(print), ""), ("text", "data"), (5, "data"), (None, "data"), ([1], "data"),
        ({"a": 1}, "data"), ((1,), "data"), (b"x", "data"), (ValueError("x"), "data"), (1.5, "data"),
        (range(3), "data"), (property(len), "function"), (classmethod(len), "function"),
        (staticmethod(len), "function"), (generator(), "decorate"), (object(), "no public method"),
        (types.SimpleNamespace(a=1), "no public method"), (True, "data"), (Enumish(), "data"),
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)  # fmt: skip
def test_what_can_not_be_wrapped(what: Any, said: str) -> None:
    of = own_slot()
    if isinstance(what, functools.partial):
        assert of.wrap(what)(end="") is None  # a callable object; wrapped or decorated
        return
    error = raised(of.wrap, what)
    assert type(error) is TypeError
    assert said in str(error)
    assert str(error).startswith(of.name)


def test_a_coroutine_can_not_be_wrapped() -> None:
    made = Client().afind("x")
    try:
        assert type(raised(own_slot().wrap, made)) is TypeError
    finally:
        made.close()


class Plain:
    """A client all of whose names are known."""

    def __init__(self) -> None:
        self.part = Small()

    def find(self) -> None: ...

    def fetch(self) -> None: ...


class Small:
    def rows(self) -> None: ...


@pytest.mark.parametrize(
    ("options", "kind"),
    [
        ({"only": "fimd"}, ValueError), ({"unless": ["find", "x_*"]}, ValueError),
        ({"per_call": {"lost": 1.0}}, ValueError), ({"only": "part.nothing"}, ValueError),
        ({"only": "nobody.rows"}, ValueError), ({"only": []}, ValueError), ({"only": ()}, ValueError),
        ({"only": 5}, TypeError), ({"only": [5]}, TypeError), ({"only": {"find": 1}}, TypeError),
        ({"only": ""}, (TypeError, ValueError)), ({"unless": 5}, TypeError), ({"unless": [None]}, TypeError),
        ({"per_call": ["find"]}, TypeError), ({"per_call": {5: 1.0}}, TypeError),
        ({"per_call": {"": 1.0}}, (TypeError, ValueError)), ({"per_call": {"find": "1"}}, TypeError),
        ({"per_call": {"find": None}}, TypeError), ({"per_call": {"find": -1}}, ValueError),
        ({"per_call": {"find": 0}}, ValueError), ({"per_call": {"find": float("nan")}}, ValueError),
        ({"per_call": {"find": True}}, TypeError), ({"per_call": {"find": bulkhead(1)}}, TypeError),
        ({"ignore": "ValueError"}, TypeError), ({"ignore": [ValueError]}, TypeError), ({"ignore": 5}, TypeError),
        ({"ignore": (ValueError, 5)}, TypeError), ({"ignore": ValueError("x")}, TypeError),
        ({"failed_result": 503}, TypeError), ({"failed_result": ValueError}, TypeError),
        ({"nothing": 1}, TypeError),
    ],
    ids=str,
)  # fmt: skip
def test_bad_options(options: dict[str, Any], kind: Any) -> None:
    of = policy(bulkhead(1), timeout(1, sync="cooperative"))
    error = raised(of.wrap, Plain(), **options)
    assert isinstance(error, kind)
    assert next(iter(options)) in str(error)
    assert type(error) is not AssertionError


@pytest.mark.parametrize("option", ["only", "unless", "per_call"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "wrapped by another"])
def test_a_name_that_matches_nothing_is_told_with_what_there_is(option: str, wrapped: bool) -> None:
    of = policy(bulkhead(1), timeout(1, sync="cooperative"))
    client = own_slot().wrap(Plain()) if wrapped else Plain()
    given: Any = {"fimd": 1.0} if option == "per_call" else ["fimd"]
    error = raised(of.wrap, client, **{option: given})
    assert type(error) is ValueError
    for word in (option, "'fimd'", "'find'", "fetch", "part.rows", of.name):
        assert word in str(error)


def test_parts_that_are_not_known_yet_may_be_named() -> None:
    class Holder:
        def session(self) -> Small:
            made = Small()
            made.holder = self  # type: ignore[attr-defined]
            return made

        def find(self) -> None: ...

    of = own_slot()
    client = of.wrap(Holder(), only="session.rows")
    client.session().rows()
    client.find()
    assert counts(of) == {"success": 1}


def test_a_timeout_that_does_not_say_how_to_bound_sync_calls() -> None:
    of = policy(timeout(1))
    error = raised(of.wrap, Plain())
    assert type(error) is TypeError
    assert 'sync="thread"' in str(error)
    assert of.name in str(error)
    other = own_slot()
    assert of.wrap(Plain(), per_call={"*": other}).find() is None
    assert type(raised(own_slot().wrap, Plain(), per_call={"find": 0.5})) is TypeError


def test_the_same_policy_twice_and_another() -> None:
    first, second = own_slot(), own_slot()
    bare = Plain()
    client = first.wrap(bare)
    assert first.wrap(client) is client
    assert first.wrap(bare) is client
    both = second.wrap(client)
    assert both is not client
    assert both == client == bare
    assert isinstance(both, Plain)
    both.find()
    assert counts(first) == counts(second) == {"success": 1}
    both.part.rows()
    assert counts(first) == counts(second) == {"success": 2}
    assert first.wrap(both) is both
    both.find()
    assert counts(first) == counts(second) == {"success": 3}
    assert type(raised(first.wrap, client, only="find")) is ValueError


def test_another_policy_goes_outside(policies: Any) -> None:
    first, second = own_slot(), own_slot()
    both = second.wrap(first.wrap(Plain()))
    with policies.forced_open(first):
        error = raised(both.find)
    assert error.policy == first.name  # type: ignore[attr-defined]
    assert counts(second) == {"failure": 1}, "another policy's refusal inside is a failure"
    with policies.forced_open(second):
        assert raised(both.find).policy == second.name  # type: ignore[attr-defined]
    assert counts(first) == {"refused": 1}


def test_a_view_wraps_with_its_own_limit_and_the_same_counts() -> None:
    clock = ManualClock()

    class Slow:
        def find(self) -> str:
            clock.advance(1)
            check()
            return "in time"

    of = Policy("view-of-wrap", circuit_breaker(), timeout(3, sync="cooperative"), clock=clock)
    strict = of.with_(timeout(0.5, sync="cooperative"))
    assert of.wrap(Slow()).find() == "in time"
    assert type(raised(strict.wrap(Slow()).find)) is CallTimeoutError
    assert counts(of) == counts(strict) == {"success": 1, "failure": 1}


def test_what_is_thread_bound_is_not_moved() -> None:
    import threading

    class Session:
        def __init__(self) -> None:
            self._local = threading.local()

        def where(self) -> str:
            return threading.current_thread().name

        def items(self) -> Any:
            yield threading.current_thread().name

    class Local(threading.local):
        def where(self) -> str:
            return threading.current_thread().name

        def items(self) -> Any:
            yield threading.current_thread().name

    of = policy(timeout(5, sync="thread"))
    here = threading.current_thread().name
    for made in (Session(), Local()):
        with pytest.warns(ThreadBoundWarning, match=of.name) as told:
            client = of.wrap(made)
        assert told[0].filename == __file__
        assert client.where() == here
        assert list(client.items()) == [here]
    assert of.wrap(Client()).find("x") == "x"
