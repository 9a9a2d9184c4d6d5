"""`resilient.explain`, `strict=`, and what help(), dir() and inspect say of a wrapped client."""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import pydoc
import threading
from functools import cached_property
from typing import Any

import httpx
import pytest

import resilient
from resilient import Policy, ThreadBoundWarning, bulkhead, circuit_breaker, timeout
from tests.kit.policies import counts, policy, raised
from tests.unit.clients.kit import Client, own_slot


class Part:
    def __init__(self, client: Any) -> None:
        self.client = client

    def find(self) -> int:
        return 1


class Documented:
    """A client that says what it is."""

    def __init__(self) -> None:
        self.sub, self.settings, self.asked = Part(self), {"a": 1}, 0

    def find(self, title: str) -> str:
        """Find a title."""
        return title

    async def afind(self, title: str) -> str:
        """Find it later."""
        return title

    def skipped(self) -> None: ...

    @contextlib.contextmanager
    def lent(self) -> Any:
        yield 1

    def __len__(self) -> int:
        return len(self.settings)

    def __iter__(self) -> Any:
        return iter(self.find("x"))

    @property
    def users(self) -> Part:
        self.asked += 1
        return self.sub

    @cached_property
    def more(self) -> Part:
        self.asked += 1
        return self.sub

    def close(self) -> None: ...


def told(of: Policy, client: Any, **options: Any) -> dict[str, tuple[str, str]]:
    found = resilient.explain(of.wrap(client, **options))
    return {row.name: (row.what, row.why) for row in found.rows}


def test_what_is_guarded_and_what_is_not() -> None:
    of = policy(circuit_breaker(), bulkhead(1), timeout(0.5, sync="thread"))
    client = Documented()
    rows = told(of, client, unless=["skipped"])
    assert rows["find"] == ("guarded", "at most 0.5 s, on a worker thread")
    assert rows["afind"] == ("guarded", "at most 0.5 s, then cancelled")
    assert rows["sub.find"][0] == "guarded"
    assert rows["__iter__"][0] == "guarded"
    assert rows["close"] == ("bounded", "it gives something back, within 0.5 s")
    assert rows["users"][0] == rows["more"][0] == "handed out"
    assert rows["skipped"] == ("left alone", "unless= names it")
    assert rows["__len__"] == ("left alone", "it reads what is here already")
    assert rows["settings"] == ("left alone", "data: dict")
    assert client.asked == 0, "no property was read"
    assert counts(of) == {}


def test_what_only_leaves_out() -> None:
    rows = told(own_slot(), Documented(), only=["find"])
    assert rows["afind"] == ("left alone", "only= does not name it")


def test_what_another_policy_guards() -> None:
    other = policy(timeout(2, sync="thread"))
    rows = told(own_slot(), Documented(), per_call={"find": other})
    assert rows["find"] == ("guarded", f"by {other.name}, at most 2 s, on a worker thread")
    assert rows["lent"] == ("guarded", "no time limit")


def test_it_is_text_and_data() -> None:
    of = own_slot()
    found = resilient.explain(of.wrap(Documented()))
    text = str(found)
    assert f"wrapped by the policy {of.name}" in text
    assert all(row.name in text for row in found.rows)
    data = found.as_data()
    assert json.loads(json.dumps(data)) == data
    assert sorted(data) == ["client", "gaps", "policy", "rows"]
    assert data["client"].endswith("Documented")
    assert "Documented" in repr(found)


def test_what_is_not_wrapped_is_refused() -> None:
    error = raised(resilient.explain, Documented())
    assert type(error) is TypeError
    assert "client must be what Policy.wrap returned" in str(error)


def test_known_libraries_say_what_does_no_io() -> None:
    with httpx.Client() as client:
        rows = told(policy(timeout(1, sync="cooperative")), client)
    assert rows["build_request"] == ("left alone", "its library is known, and it does no I/O")
    assert rows["get"] == ("guarded", "at most 1 s, by its deadline alone")


# -- strict ---------------------------------------------


class Bound:
    def __init__(self) -> None:
        self.local = threading.local()

    def find(self) -> None: ...


@pytest.mark.parametrize(
    ("of", "make", "options", "says"),
    [
        (lambda: policy(timeout(1, sync="cooperative")), Documented, {}, "nothing is known of its"),
        (lambda: policy(timeout(1, sync="thread")), Bound, {}, "state of its own for each thread"),
        (own_slot, lambda: Client(), {"unless": "*"}, "nothing of it is guarded"),
        (own_slot, lambda: io.BytesIO(), {}, "written in C"),
    ],
)
@pytest.mark.filterwarnings("ignore::resilient.ThreadBoundWarning")
def test_strict_raises_where_something_cannot_be_done(
    of: Any, make: Any, options: Any, says: str
) -> None:
    made, client = of(), make()
    error = raised(made.wrap, client, strict=True, **options)
    assert type(error) is ValueError
    assert says in str(error)
    assert str(error).startswith(f"{made.name}: strict=True")
    assert any(says in gap for gap in resilient.explain(made.wrap(client, **options)).gaps)


def test_strict_is_content_where_all_can_be_done() -> None:
    of = policy(circuit_breaker(), timeout(1, sync="thread"))
    client = of.wrap(Documented(), strict=True)
    assert client.find("x") == "x"
    with httpx.Client() as inner:
        policy(timeout(1, sync="cooperative")).wrap(inner, strict=True)


def test_strict_is_true_or_false() -> None:
    assert "strict must be True or False" in str(raised(own_slot().wrap, Client(), strict="yes"))


# -- threads ---------------------------------------------


def test_parts_of_a_client_that_is_bound_to_its_thread_stay_in_it() -> None:
    class Item:
        def __init__(self, client: Any) -> None:
            self.client = client

        def where(self) -> int:
            return threading.get_ident()

        def items(self) -> Any:
            yield threading.get_ident()

    class Keeps(Bound):
        def item(self) -> Item:
            return Item(self)

        @property
        def shown(self) -> Item:
            return Item(self)

        def __getitem__(self, key: int) -> int:
            return threading.get_ident()

    of = policy(timeout(5, sync="thread"))
    with pytest.warns(ThreadBoundWarning):
        client = of.wrap(Keeps())
    here = threading.get_ident()
    assert client.item().where() == client.shown.where() == client[0] == here
    assert list(client.item().items()) == [here]
    assert of.wrap(Documented()).find is not None
    assert "caller's thread" in resilient.explain(client).gaps[0]


# -- special methods ---------------------------------------------


def test_special_methods_are_guarded_by_one_rule(policies: Any) -> None:
    class Remote:
        def __init__(self) -> None:
            self.held = {"a": 1}

        def _ask(self) -> int:
            return 3

        def __len__(self) -> int:
            return self._ask()

        def __bool__(self) -> bool:
            return self._ask() > 0

        def __iter__(self) -> Any:
            return iter([self._ask()])

        def __reversed__(self) -> Any:
            return iter([self._ask()])

        def __add__(self, other: int) -> int:
            return self._ask() + other

        def __lt__(self, other: Any) -> bool:
            return self._ask() < 4

        def __int__(self) -> int:
            return len(self.held)

        def __eq__(self, other: object) -> bool:
            return self._ask() == 3

        def __hash__(self) -> int:
            return self._ask()

        def __repr__(self) -> str:
            return f"Remote {self._ask()}"

        def find(self) -> None: ...

    of = own_slot()
    client = of.wrap(Remote())
    assert (len(client), bool(client), list(client), list(reversed(client)), client + 1) == (
        3, True, [3], [3], 4,
    )  # fmt: skip
    assert client < 5
    assert counts(of) == {"success": 6 + 1}, "list() asks for the length too"
    assert int(client) == 1, "it reads what is here"
    assert (client == 3, hash(client), repr(client)) == (True, 3, "Remote 3")
    assert counts(of) == {"success": 7}, "these are of the object itself"
    with policies.forced_open(of):
        for use in (len, bool, list, lambda one: one + 1):
            assert type(raised(use, client)).__name__ == "CircuitOpenError"


# -- help ---------------------------------------------


def test_help_tells_of_the_client() -> None:
    bare = Documented()
    client = own_slot().wrap(bare)
    client.find("x")
    of_bare, of_wrapped = (pydoc.plain(pydoc.render_doc(each)) for each in (bare, client))
    assert of_wrapped.splitlines()[1:] == of_bare.splitlines()[1:]
    assert "Find a title." in of_wrapped
    assert "A client that says what it is." in of_wrapped
    found = pydoc.plain(pydoc.render_doc(client.find))
    assert "find(title: 'str') -> 'str'" in found
    assert "Find a title." in found


def test_introspection_is_the_clients() -> None:
    bare = Documented()
    client = own_slot().wrap(bare)
    assert dir(client) == dir(bare)
    assert client.__doc__ == bare.__doc__
    assert inspect.getdoc(client) == inspect.getdoc(bare)
    assert inspect.signature(client.find) == inspect.signature(bare.find)
    assert inspect.iscoroutinefunction(client.afind)
    assert inspect.getdoc(client.afind) == "Find it later."
    bare.__doc__ = "Of its own."
    assert own_slot().wrap(bare).__doc__ == "Of its own."


class Shards:
    """A client that keeps its parts in containers."""

    def __init__(self) -> None:
        self.by_name, self.pair = {"a": Part(self)}, (1, Part(self))
        self.words, self.empty = {"a": "b"}, ()

    def find(self) -> int:
        return 1


def test_parts_in_containers_are_said_to_be_unguarded() -> None:
    rows = {row.name: row for row in resilient.explain(policy().wrap(Shards())).rows}
    for name in ("by_name", "pair"):
        assert rows[name].what == "left alone"
        assert "holds parts, " in rows[name].why, rows[name]
        assert "not guarded" in rows[name].why
    assert rows["words"].why == "data: dict"
    assert rows["empty"].why == "data: tuple"
