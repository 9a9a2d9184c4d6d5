"""A page that somebody cuts short: no reader dies of it, and its owner begins another."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from resilient.pages.reader import Reader
from tests.kit.hosts import Host, Process, calls
from tests.kit.waiting import until

CALLS = """
from resilient import Policy, bulkhead, flag
shop, gone = Policy("shop", bulkhead(2)), [Policy("gone", bulkhead(2))]
for _ in range(5): shop.call(int)
for _ in range(3):
    here.look()  # as a scrape does, before each count
    gone[0].call(int)
import gc, resilient
here.refresh(); gone.clear(); resilient.registry.remove("gone"); gc.collect(); here.refresh()
"""


def page_of(host: Host) -> Path:
    """Return the one page that there is."""
    (name,) = [each for each in host.names() if each.endswith(".page") and "departed" not in each]
    return host.pages / name


@pytest.mark.parametrize("size", [0, 8, 4096, 5000, 100_000])
def test_a_reader_outlives_a_page_that_shrinks(host: Host, tmp_path: Path, size: int) -> None:
    """What it read before stands, and it says that the page can't be read now."""
    host.start(CALLS)
    path = page_of(host)
    copy = tmp_path / "copy.page"
    copy.write_bytes(path.read_bytes())
    reader = Reader(copy)
    reader.read()
    before = [entry.row for entry in reader.entries]
    assert before
    os.truncate(copy, size)
    for _ in range(2):
        try:
            reader.read()
        except ValueError as error:
            assert "short" in str(error) or "page" in str(error)
        assert [entry.row for entry in reader.entries] == before


def test_readers_of_a_page_that_shrinks_again_and_again(host: Host, tmp_path: Path) -> None:
    """Whatever the moment, nobody dies, and no wrong number is read."""
    host.start(CALLS)
    path = page_of(host)
    whole = path.read_bytes()
    copy = tmp_path / "copy.page"
    copy.write_bytes(whole)
    reader, seen = Reader(copy), set[tuple[float, ...]]()
    for number in range(300):
        if number % 3 == 0:
            os.truncate(copy, (number * 997) % len(whole))
        elif number % 3 == 1:
            copy.write_bytes(whole)
        try:
            reader.read()
        except ValueError:
            continue
        seen |= {tuple(entry.row) for entry in reader.entries if entry.name == "shop"}
    assert len(seen) <= 2  # as it was, and without an owner


@pytest.mark.parametrize(
    "how",
    ["truncate(path, 0)", "truncate(path, 6000)", "truncate(path, 0); os.truncate(path, 262144)"],
)
def test_its_owner_begins_another(host: Host, how: str) -> None:
    """Within about a second; every count is there, also of a policy that is gone."""
    worker: Process = host.start(CALLS)
    before = page_of(host)
    worker.do(f"os.{how.replace('path', repr(str(before)))}".replace("; os", " or os"))
    until(lambda: page_of_another(host, before))
    worker.do("[shop.call(int) for _ in range(2)]")
    seen = worker.scrape()
    assert calls(seen, "shop") == 7
    assert calls(seen, "gone") == 3
    other = host.start("")
    assert calls(other.scrape(), "shop") == 7
    assert not before.exists()


def page_of_another(host: Host, before: Path) -> bool:
    """Tell whether the owner has begun another page."""
    names = {each for each in host.names() if each.endswith(".page")} - {"departed.page"}
    return bool(names) and before.name not in names


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere another signal may tell of it")
def test_the_limit_is_a_write_before_it_was_noticed(tmp_path: Path) -> None:
    """A call that counts on a page cut short a moment ago dies of it: only C could catch that."""
    code = f"""
import os
os.environ["RESILIENT_RUNTIME_DIR"] = {str(tmp_path / "pages")!r}
from resilient import Policy, bulkhead
from resilient.pages import sharing as here
shop = Policy("shop", bulkhead(2))
shop.call(int)
with here.here._lock:  # the thread can't notice meanwhile
    os.truncate(here.here._records.page.path, 0)
    shop.call(int)
"""
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True)
    assert done.returncode == -signal.SIGBUS, done
