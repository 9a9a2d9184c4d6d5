"""The judge of outcomes against the one-line rules of the design."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.outcomes import FAILURE, IGNORED, SUCCESS, Judge

TYPES: list[type[Exception]] = [
    ValueError,
    LookupError,
    KeyError,
    IndexError,
    OSError,
    TimeoutError,
    ConnectionError,
    Exception,
]
LEAVES = st.sampled_from(TYPES).map(lambda kind: kind("leaf"))
ERRORS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, min_size=1, max_size=3).map(
        lambda errors: ExceptionGroup("group", errors)
    ),
    max_leaves=5,
)
SOME = st.lists(st.sampled_from(TYPES), min_size=1, max_size=3).map(tuple)


class Predicate:
    """A filter of exceptions that counts how often it raised."""

    def __init__(self, kinds: tuple[type[Exception], ...], faulty: Any, wanted: bool) -> None:
        self.kinds = kinds
        self.faulty = faulty
        self.wanted = wanted
        self.raised = 0

    def __call__(self, error: Exception) -> bool:
        if isinstance(error, self.faulty):
            self.raised += 1
            raise RuntimeError("a bug in the predicate")  # noqa: TRY004 - it stands for any bug
        return isinstance(error, self.kinds) == self.wanted

    def __repr__(self) -> str:
        return f"Predicate({self.kinds}, faulty={self.faulty}, wanted={self.wanted})"


FILTERS = (
    st.none()
    | st.sampled_from(TYPES)
    | SOME
    | st.builds(Predicate, SOME, st.just(()) | SOME, st.booleans())
)


def leaves_of(error: Exception) -> Iterator[Exception]:
    """Give the exceptions at the bottom of a group."""
    if isinstance(error, ExceptionGroup):
        for inner in error.exceptions:
            yield from leaves_of(inner)
    else:
        yield error


def matches(given_filter: Any, error: Exception, *, default: bool) -> bool:
    """Apply one option to one exception that is no group."""
    if isinstance(given_filter, Predicate):
        if isinstance(error, given_filter.faulty):
            return default
        return isinstance(error, given_filter.kinds) == given_filter.wanted
    return isinstance(error, given_filter)


def ignored(on: Any, ignore: Any, leaf: Exception) -> bool:
    """Say whether an exception is none of the dependency's failures."""
    if ignore is not None and matches(ignore, leaf, default=False):
        return True
    return on is not None and not matches(on, leaf, default=True)


@settings(max_examples=600)
@given(on=FILTERS, ignore=FILTERS, error=ERRORS)
def test_an_error_is_ignored_only_if_every_leaf_is(on: Any, ignore: Any, error: Exception) -> None:
    """Exceptions are failures unless the options say otherwise of each leaf."""
    judge = Judge(on, ignore)
    told: list[Exception] = []
    judge.on_fault = told.append
    every = all(ignored(on, ignore, leaf) for leaf in leaves_of(error))
    assert judge.of_error(error) == (IGNORED if every else FAILURE)
    raised = sum(option.raised for option in (on, ignore) if isinstance(option, Predicate))
    assert judge.faults == raised == len(told)


@pytest.mark.parametrize("nested", [False, True])
def test_a_predicate_is_asked_about_the_leaves_and_not_the_group(nested: bool) -> None:
    """A group of failures is a failure, though the predicate would ignore a group as such."""
    judge = Judge(ignore=lambda error: not isinstance(error, ConnectionError))
    group = ExceptionGroup("down", [ConnectionError(), ConnectionError()])
    error = ExceptionGroup("outer", [group]) if nested else group
    assert judge.of_error(error) == FAILURE


@given(on=SOME, ignore=SOME, leaf=LEAVES)
def test_ignore_is_stronger_than_on(on: Any, ignore: Any, leaf: Exception) -> None:
    """What both options name is ignored."""
    if isinstance(leaf, on) and isinstance(leaf, ignore):
        assert Judge(on, ignore).of_error(leaf) == IGNORED


@given(value=st.none() | st.booleans() | st.integers() | st.text() | st.lists(st.integers()))
def test_a_value_is_a_failure_where_its_predicate_is_true(value: object) -> None:
    """The truth of failed_result's answer decides, and without one every value is a success."""
    assert Judge().of_value(value) == SUCCESS
    assert Judge(failed_result=lambda v: v).of_value(value) == (FAILURE if value else SUCCESS)


@pytest.mark.parametrize(
    ("judge", "ask", "expected"),
    [
        (lambda bad: Judge(on=bad), lambda judge: judge.of_error(ValueError()), FAILURE),
        (lambda bad: Judge(ignore=bad), lambda judge: judge.of_error(ValueError()), FAILURE),
        (lambda bad: Judge(failed_result=bad), lambda judge: judge.of_value(7), SUCCESS),
    ],
    ids=["on", "ignore", "failed_result"],
)
def test_a_predicate_that_raises_gives_the_default_and_is_counted(
    judge: Callable[[Any], Judge], ask: Callable[[Judge], int], expected: int
) -> None:
    """A broken predicate changes no outcome, and every fault is counted and told."""

    def bad(_: object) -> bool:
        raise ZeroDivisionError

    made = judge(bad)
    told: list[Exception] = []
    made.on_fault = told.append
    assert [ask(made), ask(made)] == [expected, expected]
    assert made.faults == 2
    assert [type(fault) for fault in told] == [ZeroDivisionError] * 2
