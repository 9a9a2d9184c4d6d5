"""Files in the directory that are no pages, or lie: told as unread, and no reason for anything."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import stat
import struct
from array import array
from collections.abc import Callable
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import parser as plain
from prometheus_client.openmetrics import parser as openmetrics

from resilient import Policy, bulkhead, circuit_breaker, registry
from resilient.pages import format as form
from resilient.pages.directory import Directory, living
from resilient.pages.format import DEPARTED
from resilient.pages.reader import Reader
from resilient.telemetry.policy_samples import row_of
from resilient.telemetry.schema import WORDS, RowSchema, layout, parsed
from tests.kit.hosts import Host, Process, calls, good, key
from tests.kit.waiting import until
from tests.unit.pages.steps import killed_at

CALLS = "p = Policy('shop')\nfor _ in range(5): p.call(int)"
HEADER = form.HEADER


def page(path: Path, *records: bytes, about: Any = None, used: int | None = None) -> None:
    """Write a page that nobody owns."""
    body = b"".join(records)
    said = {"pid": 1, "id": "x", "program": "", "started": 0.0} if about is None else about
    content = form.header(said, HEADER + len(body) if used is None else used, 0.0) + body
    path.parent.mkdir(mode=0o700, exist_ok=True)
    path.write_bytes(content)


def laid(text: str) -> bytes:
    """Return the record of a layout."""
    return form.record(form.LAYOUT, text, 0)[0]


def rowed(said: Any, cells: list[float]) -> bytes:
    """Return the record of a row."""
    head, _ = form.record(form.ROW, json.dumps(said), len(cells))
    return head + array("d", cells).tobytes()


def of(policy: Policy) -> tuple[RowSchema, list[float]]:
    """Return the layout and the row of a policy."""
    return row_of(registry.find(policy.name))


def said_of(found: RowSchema, **more: Any) -> dict[str, Any]:
    """Return what a layout's record says, changed."""
    return {**json.loads(found.text), **more}


ABOUT = {"owner": "", "tier": None, "impact": "", "since": 1.0}
ENTRY = {"kind": "policy", "name": "lies", "about": ABOUT, "layout": 0}


# -- what is no page ------------------------------------------------------------------

STRANGE: dict[str, Callable[[Path], Any]] = {
    "empty": lambda path: path.write_bytes(b""),
    "short": lambda path: path.write_bytes(form.MAGIC),
    "zeros": lambda path: path.write_bytes(bytes(HEADER * 2)),
    "noise": lambda path: path.write_bytes(os.urandom(HEADER * 3)),
    "another form": lambda path: path.write_bytes(
        form.header({}, HEADER, 0.0).replace(form.MAGIC, form.MAGIC[:-2] + b"99")
    ),
    "no json": lambda path: path.write_bytes(form.MAGIC + b"\0" * 48 + struct.pack("q", 9) + b"{" * HEADER),
    "a list": lambda path: page(path, about=[1, 2]),
    "a directory": lambda path: path.mkdir(parents=True),
    "a fifo": lambda path: os.mkfifo(path),
    "a loop": lambda path: path.symlink_to(path),
    "a link to nothing": lambda path: path.symlink_to("/nowhere"),
    "a link to a device": lambda path: path.symlink_to("/dev/zero"),
    "unreadable": lambda path: path.symlink_to("/proc/self/mem"),
}  # fmt: skip


@pytest.fixture(scope="module")
def pair(shared: Host) -> tuple[Process, Process]:
    """Two processes, of five calls each, and what makes dead ones of five calls."""
    found = shared.start(CALLS + DEAD), shared.start(CALLS)
    found[0].scrape()
    return found


DEAD = """
def dead():
    pid = os.fork()
    if pid == 0:
        for _ in range(5): p.call(int)
        os._exit(0)
    os.waitpid(pid, 0)
"""


@pytest.mark.parametrize("what", STRANGE)
def test_what_is_no_page(shared: Host, pair: tuple[Process, Process], what: str) -> None:
    """It is counted as unread, left alone, and in nobody's way; the other pages are read."""
    worker, other = pair
    expected = calls(worker.scrape(), "shop") or 0
    path = shared.pages / "strange.page"
    STRANGE[what](path)
    before = os.lstat(path).st_mode
    try:
        worker.do("dead()")
        for _ in range(2):
            seen = worker.scrape()
            assert calls(seen, "shop") == expected + 5
            assert seen[key("pages_unread")] == 1
            living = {shared.page_of(worker).name, shared.page_of(other).name}
            until(lambda: shared.names() == {*living, "departed.page", "strange.page"})
        assert os.lstat(path).st_mode == before
    finally:
        path.rmdir() if stat.S_ISDIR(before) else path.unlink()
    assert worker.scrape()[key("pages_unread")] == 0


@pytest.fixture
def alone(tmp_path: Path) -> Path:
    """A directory that this process reads and folds itself."""
    tmp_path.chmod(0o700)
    return tmp_path


def shown(path: Path) -> tuple[dict[str, float], Directory]:
    """Return how many quick calls each policy has in a directory, and who has read it."""
    directory = Directory(path)
    pages, entries = directory.read()
    found: dict[str, float] = {}
    for entry in [*entries, *(entry for each in pages for entry in living(each))]:
        found[entry.name] = found.get(entry.name, 0.0) + entry.row[0]
    return found, directory


def paged(*names: str) -> bytes:
    """Return a page of some policies of one quick call each."""
    found = layout(words=())
    row = [1.0] + [0.0] * (len(found) - 1)
    entries = [form.Entry("policy", name, ABOUT, found, row) for name in names]
    return form.departed(entries, {"folded": [], "rows": len(entries), "pid": 1, "id": "x"})


@pytest.mark.parametrize("what", [each for each in STRANGE if each != "a link to nothing"])
def test_a_page_of_the_departed_that_is_none(alone: Path, what: str) -> None:
    """It is told, kept for somebody to look at, and no reason for the dead to pile up."""
    STRANGE[what](alone / "departed.page")
    content = os.lstat(alone / "departed.page")
    for number in (1, 2):
        (alone / f"{number}-dead.page").write_bytes(paged("shop"))
        found, directory = shown(alone)
        assert found == {"shop": number}
        assert len(directory.faults) == 1
        with contextlib.suppress(OSError):
            directory.fold()
        found, directory = shown(alone)
        assert found == {"shop": number}
        assert len(directory.faults) == 1
    (kept,) = [path for path in alone.iterdir() if os.lstat(path).st_ino == content.st_ino]
    if not kept.is_symlink():  # what can't be opened is left where it is
        assert "broken" in kept.name
        assert len(list(alone.iterdir())) == 2


@pytest.mark.parametrize("cut", [1, 8, 32, 200, 400, 1000])
def test_a_page_of_the_departed_that_was_cut(alone: Path, cut: int) -> None:
    """Nothing of it is lost: what there is of it is set aside, and not folded over."""
    departed, whole = alone / "departed.page", paged("a", "b")
    departed.write_bytes(whole[:-cut])
    (alone / "1-dead.page").write_bytes(paged("late"))
    assert DEPARTED in shown(alone)[1].faults
    Directory(alone).fold()
    found, directory = shown(alone)
    assert found == {"late": 1}
    assert len(directory.faults) == 1
    assert any(path.read_bytes() == whole[:-cut] for path in alone.iterdir())


def test_a_damaged_record_of_the_departed(alone: Path) -> None:
    """One record that can't be read is no reason to lose it in the next fold."""
    damaged = paged("a", "b").replace(b'"name":"a"', b'"name:"a"}')
    (alone / "departed.page").write_bytes(damaged)
    (alone / "1-dead.page").write_bytes(paged("late"))
    for _ in range(2):
        Directory(alone).fold()
    found, directory = shown(alone)
    assert found["late"] == 1
    assert len(directory.faults) == 1
    assert any(path.read_bytes() == damaged for path in alone.iterdir())


@pytest.mark.parametrize("line", range(0, 240, 24))
def test_more_dead_pages_than_fit_in_one_step(alone: Path, line: int) -> None:
    """They are taken in some at a time; a folder may be killed after any of the steps."""
    for number in range(70):
        (alone / f"{number}-dead.page").write_bytes(paged("shop"))
    fold = Directory(alone).fold
    killed_at(line, ("pages/directory.py:_fold", "pages/directory.py:_write"), fold)
    assert shown(alone)[0] == {"shop": 70}
    Directory(alone).fold()
    assert shown(alone)[0] == {"shop": 70}
    assert {path.name for path in alone.iterdir()} == {"departed.page"}


def test_copies_of_pages(host: Host) -> None:
    """A copy of a page is taken for that of one more process that has died: once, and no more."""
    worker, other = host.start(CALLS), host.start(CALLS)
    assert calls(worker.scrape(), "shop") == 10
    shutil.copy(host.page_of(other), host.pages / "1-copy.page")
    until(lambda: calls(worker.scrape(), "shop") == 15)
    until(lambda: "1-copy.page" not in host.names())
    for each in (worker, other, worker):
        assert calls(each.scrape(), "shop") == 15


def test_a_page_of_the_departed_that_is_well(host: Host) -> None:
    """Where it can't be opened for once, nothing is set aside, and what was known stands."""
    worker = host.start(CALLS)
    host.start(CALLS).kill()
    assert calls(worker.scrape(), "shop") == 10
    until(lambda: host.names() == {host.page_of(worker).name, "departed.page"})
    os.utime(host.pages / "departed.page", (1, 1))
    worker.do(
        """
import resilient.pages.reader as module
real = module.os.open
class OS:
    def __getattr__(self, name): return opens if name == "open" else getattr(os, name)
def opens(path, *more):
    if str(path).endswith("departed.page"): raise OSError(24, "too many open files")
    return real(path, *more)
import resilient.pages.directory as directory
module.os = OS()
"""
    )
    # Only now: the worker's thread may take it in, living or dead, before it is asked.
    host.start(CALLS).kill()
    seen = worker.do("seen = [scrape(), scrape()]\nmodule.os = os\nseen + [scrape()]")
    assert [calls(each, "shop") for each in seen] == [10, 10, 15]
    third = host.start(CALLS)
    assert calls(worker.scrape(), "shop") == 20
    worker.do("module.os = directory.os = OS()")
    third.kill()
    other = host.start()
    assert calls(other.scrape(), "shop") == 20
    until(lambda: len(host.names()) == 3)  # taken in, and its page is gone
    assert calls(worker.scrape(), "shop") == 20
    worker.do("module.os = directory.os = os")
    assert calls(worker.scrape(), "shop") == 20
    assert not [name for name in host.names() if "broken" in name]


# -- what lies ------------------------------------------------------------------------


def _lies() -> dict[str, list[bytes]]:
    """Return the records of pages whose JSON or numbers lie."""
    found = layout(words=WORDS, refusing=("policy", "bulkhead"), tail=())
    row = [1.0] * len(found)
    good = said_of(found)

    def changed(cells: int = len(found), entry: dict[str, Any] = ENTRY, **more: Any) -> list[bytes]:
        return [laid(json.dumps(good | more)), rowed(entry, [1.0] * cells)]

    def tailed(*tail: Any) -> list[bytes]:
        both = changed(len(found) + len(tail), tail=list(tail))
        return [*both, both[1]]  # twice: rows are added up

    def told(**more: Any) -> list[bytes]:
        return changed(entry=ENTRY | more)

    weight = ["w", "part", "sum", "", {}]
    return {
        "about a list": told(about=[1]),
        "about a str": told(about="x"),
        "about nothing": told(about=None),
        "since a str": told(about={"since": "x"}),
        "since a list": told(about={"since": [1]}),
        "since nothing": told(about={"since": None}),
        "since huge": told(about={"since": 10**400}),
        "tier a dict": told(about={"tier": {"a": 1}, "owner": [2]}),
        "no name": [laid(found.text), rowed({"kind": "policy"}, row)],
        "name a list": told(name=[1]),
        "name odd": told(name='x"} 1\n# TYPE y\\'),
        "kind odd": told(kind="zzz"),
        "process with a name": told(kind="process", name="p"),
        "flag": told(kind="flag", name='f"\n'),
        "layout unknown": told(layout=7),
        "layout below": told(layout=-1),
        "layout a str": told(layout="x"),
        "layout a bool": told(layout=True),
        "fewer cells": changed(3, counts=[*good["counts"], "new"]),
        "no cells": changed(0),
        "more cells": changed(len(found) + 9),
        "other order": changed(counts=list(reversed(good["counts"]))),
        "counts twice": changed(counts=["quick", "quick"]),
        "counts odd": changed(counts=[[1]]),
        "counts a dict": changed(counts={"quick": 1}),
        "refusing twice": changed(refusing=["policy", "policy"]),
        "refusing odd": changed(refusing=['x"} 1\n', "y"]),
        "refusing a str": changed(refusing="ab"),
        "words odd": changed(words=5),
        "words none": changed(words=None),
        "mean alone": tailed(["m", "gauge", "mean", "", {}]),
        "mean before a gauge": tailed(["m", "gauge", "mean", "", {}], ["g", "gauge", "sum", "", {}]),
        "mean before a mean": tailed(["m", "gauge", "mean", "", {}], ["n", "gauge", "mean", "", {}], weight),
        "part alone": tailed(weight),
        "mean of a counter": tailed(["m_total", "counter", "mean", "", {}], weight),
        "metric odd": tailed(["m x} 1\n# y", "counter", "sum", "", {}]),
        "metric a number": tailed([1, "counter", "sum", "", {}]),
        "metric of ours": tailed(["calls_total", "counter", "sum", "", {"outcome": "success"}]),
        "metric of ours, a gauge": tailed(["calls", "gauge", "sum", "", {}]),
        "part of a histogram": tailed(["call_duration_seconds", "gauge", "sum", "", {}]),
        "a histogram's bucket": tailed(["call_duration_seconds_bucket", "gauge", "sum", "", {"le": "x"}]),
        "a counter without its end": tailed(["m", "counter", "sum", "", {}]),
        "a gauge with a counter's end": tailed(["m_total", "gauge", "sum", "", {}]),
        "a gauge that is information": tailed(["m_info", "gauge", "sum", "", {}]),
        "counts below zero of a metric": [*tailed(["m_total", "counter", "sum", "", {}])[:1], rowed(ENTRY, [*row, -7.0])],
        "kind of metric odd": tailed(["m", "zzz", "sum", "", {}]),
        "over odd": tailed(["m", "gauge", "zzz", "", {}]),
        "help odd": tailed(["m", "gauge", "sum", "a\n# EOF\n\\", {}]),
        "label odd": tailed(["m", "gauge", "sum", "", {'a="b",c': "x"}]),
        "label ours": tailed(["m", "gauge", "sum", "", {"policy": "x"}]),
        "label value odd": tailed(["m", "gauge", "sum", "", {"a": ["x"]}]),
        "labels a list": tailed(["m", "gauge", "sum", "", ["a"]]),
        "the same twice": tailed(["m", "gauge", "sum", "", {}], ["m", "gauge", "sum", "", {}]),
        "short tail": changed(len(found) + 1, tail=[["m"]]),
        "nan": [laid(found.text), rowed(ENTRY, [nan] * len(found))],
        "inf": [laid(found.text), rowed(ENTRY, [inf] * len(found)), rowed(ENTRY, [-inf] * len(found))],
        "below zero": [laid(found.text), rowed(ENTRY, [-5.0] * len(found))],
        "huge": [laid(found.text), rowed(ENTRY, [1e308] * len(found)), rowed(ENTRY, [1e308] * len(found))],
        "no layout": [rowed(ENTRY, row)],
        "a layout that is none": [laid("[" * 100_000), laid("7"), laid("{}"), rowed(ENTRY, row)],
        "a record without an end": [laid(found.text), struct.pack("qqqq", 2**62, form.ROW, 2**61, 2**60)],
        "a record of nothing": [struct.pack("qqqq", 0, form.ROW, 0, 0)],
        "a record below zero": [struct.pack("qqqq", 32, form.ROW, -8, 4), struct.pack("qqqq", -32, 1, 0, 0)],
        "odd sizes": [struct.pack("qqqq", 41, form.ROW, 9, 0) + b"x" * 9, laid(found.text), rowed(ENTRY, row)],
    }  # fmt: skip


@pytest.mark.parametrize("lie", _lies())
def test_a_page_that_lies(shared: Host, pair: tuple[Process, Process], lie: str) -> None:
    """The scrape is valid, the policies of others are whole, and folding goes on."""
    worker, _ = pair
    expected = calls(worker.scrape(), "shop") or 0
    path = shared.pages / "lies.page"
    page(path, *_lies()[lie])
    try:
        for form in ("", "application/openmetrics-text") * 2:
            assert shop_in(worker.do(f"metrics.exposition({form!r})[0].decode()"), form) == expected
        worker.do("dead()")
        for _ in range(2):
            assert calls(worker.scrape(), "shop") == expected + 5
            until(lambda: len([each for each in shared.names() if each.endswith(".page")]) <= 4)
    finally:
        for each in (path, shared.pages / "departed.page"):
            each.unlink(missing_ok=True)


def shop_in(text: str, form: str) -> float:
    """Return the successes of the shop in a text that is valid, and has no series twice."""
    parse = (openmetrics if form else plain).text_string_to_metric_families
    samples = [line for family in parse(text) for line in family.samples]
    assert len({(line.name, *sorted(line.labels.items())) for line in samples}) == len(samples)
    labels = {"policy": "shop", "outcome": "success"}
    (found,) = [line.value for line in samples
                if line.name == "resilient_calls_total" and line.labels == labels]  # fmt: skip
    return float(found)


@pytest.mark.parametrize("used", [2**62, -5, 0, HEADER - 8, 2**63 - 1, HEADER + 40])
def test_a_page_that_lies_about_its_length(tmp_path: Path, used: int) -> None:
    """Nothing beyond its end is read, and nothing that is half there."""
    found = layout(words=WORDS)
    path = tmp_path / "pages" / "lies.page"
    page(path, laid(found.text), rowed(ENTRY, [1.0] * len(found)), used=used)
    reader = Reader(path)
    with contextlib.suppress(ValueError):
        reader.read()
    assert [good(each.row) for each in reader.entries] == ([2] if used > 2**60 else [])


# -- anything -------------------------------------------------------------------------

words = st.text(max_size=5) | st.sampled_from(
    ["counter", "gauge", "part", "sum", "mean", "max", "quick"]
)
anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | words,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(words, inner, max_size=4),
    max_leaves=12,
)
metric = st.tuples(words, words, words, words, st.dictionaries(words, words | anything, max_size=2))
layouts = st.fixed_dictionaries(
    {
        "counts": st.lists(words | st.sampled_from(["quick", "duration_sum"]), max_size=4)
        | anything,
        "words": st.none() | st.lists(st.sampled_from(WORDS)) | anything,
        "refusing": st.lists(words, max_size=3) | anything,
        "tail": st.lists(metric | anything, max_size=3) | anything,
    }
)


@given(anything | layouts)
@settings(max_examples=100)
def test_parsed_raises_nothing_but_what_it_says(said: Any) -> None:
    """A layout as another process may have written it, or a ValueError."""
    try:
        found, order = parsed(json.dumps(said))
    except ValueError:
        return
    assert order is None or len(order) == len(found)
    again, same = parsed(found.text)
    assert again.text == found.text
    assert same is None


@given(st.text(max_size=60))
def test_parsed_of_any_text(text: str) -> None:
    """What is no JSON is a ValueError."""
    with contextlib.suppress(ValueError):
        parsed(text)


def _whole() -> bytes:
    policies = [Policy("garbage-a", circuit_breaker()), Policy("garbage-b", bulkhead(2))]
    try:
        entries = [form.Entry("policy", each.name, ABOUT, *of(each)) for each in policies]
    finally:
        for each in policies:
            registry.remove(each.name)
    return form.departed(entries, {"folded": [], "rows": 2})


WHOLE = _whole()
change = st.tuples(st.integers(0, len(WHOLE) - 1), st.binary(min_size=1, max_size=9))
numbers = st.tuples(
    st.integers(0, len(WHOLE) // 8 - 1).map(lambda n: n * 8),
    st.integers(-(2**63), 2**63 - 1).map(lambda n: struct.pack("q", n))
    | st.integers(-64, len(WHOLE) * 2).map(lambda n: struct.pack("q", n)),
)


@given(st.lists(change | numbers, max_size=6), st.integers(0, len(WHOLE)))
@settings(max_examples=100)
def test_places_of_a_damaged_page(changes: list[tuple[int, bytes]], cut: int) -> None:
    """Whatever was overwritten or cut off: no error, and no place that is not inside."""
    content = bytearray(WHOLE)
    for at, data in changes:
        content[at : at + len(data)] = data
    whole = memoryview(bytes(content[: len(WHOLE) - cut // 4]))
    view = whole[: len(whole) // 8 * 8]
    for place in form.places(view, HEADER, len(view), []):
        assert HEADER <= place.start <= place.stop <= len(view)
        with contextlib.suppress(ValueError):  # such as a count below zero
            place.take(bytes(view[place.start : place.stop]))
            assert len(place.row) == len(place.layout)


@given(st.lists(change | numbers, max_size=6), st.integers(0, 3 * len(WHOLE)))
@settings(max_examples=60)
def test_a_directory_with_a_damaged_page(
    tmp: Path, changes: list[tuple[int, bytes]], cut: int
) -> None:
    """Reading and folding raise nothing; a page of the departed that is not whole is kept."""
    content = bytearray(WHOLE)
    for at, data in changes:
        content[at : at + len(data)] = data
    damaged = bytes(content[: max(0, len(WHOLE) - cut // 4)])
    for path in tmp.iterdir():
        path.unlink()
    (tmp / "1-dead.page").write_bytes(WHOLE)
    (tmp / "departed.page").write_bytes(damaged)
    (tmp / "2-damaged.page").write_bytes(damaged)
    directory = Directory(tmp)
    directory.read()
    directory.fold()
    _pages, entries = directory.read()
    found = {entry.name for entry in entries}
    assert {"garbage-a", "garbage-b"} <= found
    if not any(entry.row for entry in entries if entry.name not in ("garbage-a", "garbage-b")):
        assert len([entry for entry in entries if entry.name == "garbage-a"]) == 1


@pytest.fixture(scope="module")
def tmp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One directory for all examples."""
    path = tmp_path_factory.mktemp("garbage")
    path.chmod(0o700)
    return path
