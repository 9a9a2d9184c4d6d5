"""What a scrape does with rows, compiled: the same as Python's."""

from __future__ import annotations

from array import array
from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from resilient.metric_types import Metric
from resilient.prometheus import text_format
from resilient.state_types import compiled
from resilient.telemetry import rows as rows_
from resilient.telemetry import schema

pytestmark = pytest.mark.skipif(compiled is None, reason="Python's alone runs here")

numbers = st.one_of(
    st.integers(0, 20_000).map(float), st.floats(width=32), st.sampled_from([nan, -0.0, inf, -1.0])
)


tables = st.integers(1, 6).flatmap(lambda n: st.lists(st.tuples(*[numbers] * n), min_size=1))


@given(tables, st.lists(st.sampled_from([0, 1, 2, schema.MEAN]), min_size=6, max_size=6))
def test_sums(rows: list[tuple[float, ...]], way: list[int]) -> None:
    """NaN stands for nothing; where all are NaN, so is the sum."""
    width = len(rows[0])
    ways = bytes([*way[: width - 1], 0])  # a mean has its weights behind it
    ours, theirs = compiled.sum_rows(rows, ways), rows_._added(list(rows), ways)
    assert ours == pytest.approx(theirs, nan_ok=True, rel=1e-6)


@given(st.lists(st.tuples(st.integers(0, 3), st.one_of(numbers, st.floats()))))
def test_rows_that_are_made_sound(columns: list[tuple[int, float]]) -> None:
    """To the last bit, which is looked at as bytes: NaN is not equal to itself."""
    cells, cleaning = (
        array("d", [value for _, value in columns]).tobytes(),
        bytes(way for way, _ in columns),
    )
    ours, theirs = compiled.exact_row(cells, cleaning), rows_._exact(cells, cleaning)
    assert type(ours) is type(theirs) is tuple
    assert array("d", ours).tobytes() == array("d", theirs).tobytes()


@given(st.lists(st.tuples(st.sampled_from("abc"), numbers), min_size=1), st.text(min_size=1))
def test_lines(row: list[tuple[str, float]], policy: str) -> None:
    """A run of lines for each family, whatever is NaN."""
    metrics = {name: Metric(name, "gauge", "words", "place") for name in "abc"}
    keys: list[Any] = [(metrics[name], (str(at),)) for at, (name, _) in enumerate(row)]
    pieces: dict[str, list[str]] = {name: [] for name in metrics}
    shape = text_format._Shape(keys, [pieces[name] for name, _ in row])
    values = tuple(value for _, value in row)
    ours = shape.chunks({"policy": policy}, values, {})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_format, "compiled", None)
        theirs = shape.chunks({"policy": policy}, values, {})
    assert ours == theirs
    assert len(ours) == len(shape.runs)
    compiled.spread(shape.runs, ours)
    spread = {name: list(each) for name, each in pieces.items()}
    for each in pieces.values():
        each.clear()
    text_format._appended(shape.runs, theirs)
    assert spread == pieces


def test_they_take_only_what_they_know() -> None:
    wrongs: list[Any] = [
        ([], b""), ((), b""), ([1], b"\0"), ([(1.0,), (1.0, 2.0)], b"\0"), ([("x",)], b"\0"),
        ([(1.0,)], b""), ([(1.0,)], "0"), ([(1.0,)], b"\3"),
    ]  # fmt: skip
    for rows, ways in wrongs:
        with pytest.raises((TypeError, ValueError)):
            compiled.sum_rows(rows, ways)
    for wrong in (
        (("a",), (2,), "x", (1.0,)), (("a",), (1,), "x", ("y",)), (("a",), (1,), "x", 1),
        (("a",), (1, 0), "x", (1.0,)), (("a", "b"), (2,), "x", (1.0,)),
    ):  # fmt: skip
        with pytest.raises((TypeError, ValueError)):
            compiled.lines(*wrong)
    for wrong in (([[]], ("a", "b")), ([()], ("a",)), ([[]], ["a"])):
        with pytest.raises((TypeError, ValueError)):
            compiled.spread(*wrong)
