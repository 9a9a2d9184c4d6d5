"""Rows of different layouts add up as a naive model does it: by name, over names."""

from __future__ import annotations

import json
from array import array
from math import isnan, nan
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from resilient.engine.counters import LINE, ROW
from resilient.metric_types import Metric
from resilient.pages import format as form
from resilient.pages.format import Entry
from resilient.pages.merge import summed
from resilient.telemetry.rows import add, counters
from resilient.telemetry.schema import WORDS, RowSchema, layout

KINDS = ("policy", "bulkhead", "circuit_breaker", "timeout")
PLAIN = [
    Metric(
        f"{over}_{kind}_{n}" + "_total" * (kind == "counter"), kind, "", *["label"] * n, over=over
    )
    for over in ("sum", "max", "min")
    for kind in ("gauge", "counter")
    if over == "sum" or kind == "gauge"
    for n in (0, 1)
]
MEANS = [
    (Metric(f"mean_{n}", "gauge", "", over="mean"), Metric(f"mean_{n}_of", "part", ""))
    for n in (0, 1)
]
Model = dict[str, dict[Any, float]]

number = st.integers(0, 1000).map(float)
maybe = number | st.just(nan)


@st.composite
def rows(draw: Any) -> tuple[RowSchema, list[float]]:
    """Draw a layout, and a row of it."""
    words = draw(st.none() | st.sets(st.sampled_from(WORDS)))
    refusing = draw(st.lists(st.sampled_from(KINDS), unique=True)) if words is not None else []
    groups: list[list[Any]] = []
    for metric in draw(st.lists(st.sampled_from(PLAIN), unique=True)):
        values = (
            draw(st.lists(st.sampled_from("ab"), unique=True, min_size=1))
            if metric.labels
            else [()]
        )
        groups += [[(metric, tuple(value))] for value in values]
    groups += [
        [(mean, ()), (part, ())]
        for mean, part in draw(st.lists(st.sampled_from(MEANS), unique=True))
    ]
    tail = [key for group in draw(st.permutations(groups)) for key in group]
    named = None if words is None else tuple(word for word in WORDS if word in words)
    found = layout(words=named, refusing=tuple(refusing), tail=tuple(tail))
    heads = [draw(number) for _ in range(found.heads)]
    values = [draw(number if metric.kind == "part" else maybe) for metric, _ in tail]
    return found, heads + values


def counted(found: RowSchema) -> tuple[str, ...]:
    """Return the names of the counts of a row."""
    names: tuple[str, ...] = tuple(json.loads(found.text)["counts"])
    return names


def as_model(found: RowSchema, row: list[float]) -> Model:
    """Return a row by names."""
    names, heads = counted(found), found.heads
    return {
        "counts": dict(zip(names, row, strict=False)),
        "refused": {kind: row[at] for kind, at in found.refused_at.items()},
        "tail": dict(zip(found.tail, row[heads:], strict=True)),
    }


def added(models: list[Model]) -> Model:
    """Add up, one name at a time."""
    whole: Model = {"counts": {}, "refused": {}, "tail": {}}
    for part in ("counts", "refused"):
        for model in models:
            for name, value in model[part].items():
                whole[part][name] = whole[part].get(name, 0.0) + value
    for key in {key for model in models for key in model["tail"]}:
        said = [model["tail"][key] for model in models if key in model["tail"]]
        known = [value for value in said if not isnan(value)]
        over = key[0].over
        if over == "mean":
            (part,) = [part for mean, part in MEANS if mean is key[0]]
            pairs = [
                (model["tail"][key], model["tail"][part, ()])
                for model in models
                if key in model["tail"]
            ]
            pairs = [(value, weight) for value, weight in pairs if not isnan(value) and weight > 0]
            weight = sum(weight for _, weight in pairs)
            mean = sum(value * weight for value, weight in pairs) / weight if weight else nan
            whole["tail"][key] = mean if len(models) > 1 else said[0]
        else:
            whole["tail"][key] = {"sum": sum, "max": max, "min": min}[over](known) if known else nan
    return whole


def same(one: Model, other: Model) -> bool:
    """Compare, where a number that is none equals itself."""
    return all(
        one[part].keys() == other[part].keys()
        and all(
            v == other[part][k] or (isnan(v) and isnan(other[part][k]))
            for k, v in one[part].items()
        )
        for part in one
    )


@given(st.lists(rows(), min_size=1, max_size=5))
@settings(max_examples=60)
def test_rows_add_up_by_name(some: list[tuple[RowSchema, list[float]]]) -> None:
    """The sum has every name of any row, its counts 0 where a row has none, its samples absent."""
    before = [row.copy() for _, row in some]
    found, row = add(some)
    assert len(row) == len(found)
    assert same(as_model(found, row), added([as_model(each, values) for each, values in some]))
    assert all(
        array("d", old).tobytes() == array("d", now).tobytes()
        for old, (_, now) in zip(before, some, strict=True)
    )


@given(st.lists(rows(), min_size=2, max_size=5), st.randoms())
@settings(max_examples=40)
def test_in_any_order_and_in_parts(some: list[tuple[RowSchema, list[float]]], chance: Any) -> None:
    """What is folded first and what last makes no difference, but to means."""
    shuffled = some.copy()
    chance.shuffle(shuffled)
    cut = chance.randrange(1, len(some))
    first, last = add(shuffled[:cut]), add(shuffled[cut:])
    one, other = as_model(*add(some)), as_model(*add([first, last]))
    for model in (one, other):
        model["tail"] = {key: v for key, v in model["tail"].items() if key[0].over != "mean"}
    assert same(one, other)


@given(rows())
@settings(max_examples=40)
def test_what_outlives_a_process(one: tuple[RowSchema, list[float]]) -> None:
    """Counters are what they were; what was in hand is not; of gauges only a sum's zero is left."""
    found, row = one
    before, after = as_model(found, row), as_model(found, counters(found, row))
    for name, value in before["counts"].items():
        assert after["counts"][name] == (0.0 if name in ("in_flight", "abandoned") else value)
    assert after["refused"] == before["refused"]
    for (metric, labels), value in before["tail"].items():
        left = after["tail"][metric, labels]
        if metric.kind == "counter":
            assert left == value or (isnan(left) and isnan(value))
        else:
            assert isnan(left) or left == 0.0


@given(rows(), st.randoms())
@settings(max_examples=40)
def test_a_page_of_another_version(one: tuple[RowSchema, list[float]], chance: Any) -> None:
    """Counts are matched by name: in another order, with new ones and without some of ours."""
    found, row = one
    names = list(counted(found))
    other = chance.random() < 0.5  # else it has the very same ones, in another order
    lost = set(chance.sample(names, len(names) // 5)) if other else set()
    new = ["new_one", "new:two"] if other and names else []
    theirs = [name for name in [*names, *new] if name not in lost]
    chance.shuffle(theirs)
    values = dict(zip(names, row, strict=False))
    cells = [values.get(name, 99.0) for name in theirs] + row[len(names) :]
    text = json.dumps(json.loads(found.text) | {"counts": theirs})
    content = _page(text, cells)
    (place,) = form.places(content, form.HEADER, len(content), [])
    place.take(bytes(content[place.start : place.stop]))
    expected = [0.0 if name in lost else value for name, value in zip(names, row, strict=False)]
    model = as_model(place.layout, place.row)
    assert same(model, as_model(found, expected + row[len(names) :]))


def _page(text: str, cells: list[float]) -> memoryview:
    about = {"owner": "", "tier": None, "impact": "", "since": 1.0}
    said = {"kind": "policy", "name": "x", "about": about, "layout": 0}
    head, _ = form.record(form.ROW, json.dumps(said), len(cells))
    body = form.record(form.LAYOUT, text, 0)[0] + head + array("d", cells).tobytes()
    return memoryview(form.header({}, form.HEADER + len(body), 0.0) + body)


@given(st.lists(st.tuples(st.sampled_from("abc"), rows()), max_size=8))
@settings(max_examples=40)
def test_a_page_of_the_departed_says_what_was_put_there(
    some: list[tuple[str, tuple[RowSchema, list[float]]]],
) -> None:
    """Entries of one name become one, and are read as they were written."""
    about = {"owner": "", "tier": None, "impact": "", "since": 1.0}
    whole = summed([Entry("policy", name, about, *one) for name, one in some])
    content = memoryview(form.departed(whole, {"folded": [], "rows": len(whole)}))
    read = list(form.places(content, form.HEADER, len(content), []))
    for place in read:
        place.take(bytes(content[place.start : place.stop]))
    assert [each.name for each in read] == list(dict.fromkeys(name for name, _ in some))
    for one, other in zip(whole, read, strict=True):
        assert one.layout is other.layout
        assert same(as_model(one.layout, one.row), as_model(other.layout, other.row))


def test_the_names_of_the_counts() -> None:
    """The model has read the real names."""
    assert counted(layout(words=WORDS)) == ROW + LINE
    assert counted(layout(words=())) == ROW
    assert counted(layout(words=None)) == ()
