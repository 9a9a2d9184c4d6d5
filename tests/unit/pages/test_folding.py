"""What a dead process has counted is taken over exactly once, whatever happens meanwhile."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from tests.kit.hosts import Host, calls, good, key
from tests.kit.waiting import until
from tests.kit.workers import python_path

READ = """
from pathlib import Path
from resilient.pages.directory import Directory, living
from resilient.pages.merge import summed
from tests.unit.pages.steps import each_line, killed_at
def total(path, name="shop"):
    pages, entries = Directory(Path(path)).read()
    for page in pages: entries += living(page)
    rows = [e.row for e in summed(entries) if e.name == name]
    return sum(row[0] + row[3] for row in rows)     # quick successes, and others
"""
QUIET = """
here._records.stop.set(); here._records.bell.ring()
for each in threading.enumerate(): each.name == "resilient-pages" and each.join()
"""
DEAD = """
def dead(number, calls):
    for _ in range(number):
        pid = os.fork()
        if pid == 0:
            p = Policy("shop", bulkhead(3))
            for _ in range(calls): p.call(int)
            os._exit(0)
        os.waitpid(pid, 0)
"""


def test_a_folder_killed_at_any_line(host: Host) -> None:
    """However far it has come: nothing is lost, nothing is doubled, and the next one ends it."""
    host.pages.mkdir(0o700)
    worker = host.start(
        READ + DEAD, PYTHONPATH=python_path(), RESILIENT_RUNTIME_DIR=str(host.pages)
    )
    worker.do("dead(2, 5); Directory(Path(os.environ['RESILIENT_RUNTIME_DIR'])).fold(); dead(3, 7)")
    found = worker.do(
        """
import shutil, itertools
source = os.environ["RESILIENT_RUNTIME_DIR"]
number = itertools.count()
def fresh():
    global path
    path = f"{source}-{next(number)}"
    shutil.copytree(source, path)
def check():
    seen = [total(path), total(path)]
    Directory(Path(path)).fold()
    seen += [total(path), len(os.listdir(path))]
    shutil.rmtree(path)
    fresh()
    return seen
fresh()
each_line(("pages/directory.py",), lambda: Directory(Path(path)).fold(), check)
"""
    )
    assert len(found) > 40
    assert {tuple(each) for each in found} == {(31, 31, 31, 1)}


ADDING = ("writer.py:add", "writer.py:_put", "writer.py:_hide", "writer.py:_room")


@pytest.mark.parametrize(
    ("act", "files", "step"),
    [
        ("held.force_open(); show()", ("pages/writer.py", "pages/publisher.py"), 4),
        ("view = held.with_(bulkhead(1), fallback(value=1)); show()", ("writer.py:add",), 1),
        ("drop(); twice()", ADDING, 2),
        ("drop(); twice()", ("pages/publisher.py",), 6),
        ("new = Policy('new', circuit_breaker()); here.refresh()", ADDING, 2),
    ],
    ids=["event", "layout", "dropped", "dropped, records", "attached"],
)
def test_an_owner_killed_at_any_line(
    host: Host, act: str, files: tuple[str, ...], step: int
) -> None:
    """It moves records about, and dies: its calls are there once."""
    worker = host.start(READ, PYTHONPATH=python_path())
    found = worker.do(
        f"""
def show():
    here._records.told.add("shop")
    here.refresh()
def drop():
    global held
    resilient.registry.remove("shop")
    held = None
    gc.collect()
    here.refresh()
def act():
    global held
    import sys
    trace = sys.gettrace()
    sys.settrace(None)
    held = Policy("shop", circuit_breaker(), bulkhead(5))
    for _ in range(9): held.call(int)
    here._records.stop.set(); here._records.bell.ring()
    for each in threading.enumerate(): each.name == "resilient-pages" and each.join()
    sys.settrace(trace)
    {act}
def twice():
    global held
    held = Policy("shop", circuit_breaker(), bulkhead(5))
    held.call(int)
    drop()
def check():
    found = total({str(host.pages)!r})
    for path in Path({str(host.pages)!r}).iterdir(): path.unlink()
    return found
each_line({files!r}, act, check, step={step})
"""
    )
    assert len(found) > 7
    assert set(found) <= ({9, 10} if "twice" in act else {9})


def test_a_reading_in_the_middle_of_a_move(host: Host) -> None:
    """Who has found out where records lie reads all again, if one was moved before it got there."""
    worker = host.start(
        """
from pathlib import Path
import resilient.pages.reader as module
from resilient.pages.reader import Reader
p, q = Policy("shop", circuit_breaker()), Policy("other", circuit_breaker())
for _ in range(9): p.call(int)
q.call(int)
here.refresh()
(path,) = here.path.glob("*.page")
real, views = module.places, []
def places(*args):
    found = list(real(*args))
    if not views:
        for each in (p, q): views.append(each.with_(bulkhead(1), fallback(value=1))); views[-1].call(int)
        here.refresh()
    return found
module.places = places
"""
    )
    code = """
reader = Reader(path)
reader.read()
[sorted([e.name, e.row[0] + e.row[3]] for e in reader.entries if e.kind == "policy"), len(views)]
"""
    assert worker.do(code) == [[["other", 2], ["shop", 10]], 2]


def test_a_page_that_grows_while_it_is_read(host: Host) -> None:
    """Who has asked how long the page is reads again, if a record was moved past that end."""
    worker = host.start(
        """
import resilient.pages.reader as module
p = Policy("shop", circuit_breaker())
for _ in range(9): p.call(int)
here.refresh()
(path,) = here.path.glob("*.page")
real, views = module._header, []
def header(fd):
    found = real(fd)
    if not views:
        views.append(p.with_(bulkhead(1), fallback(value=1)))
        views[-1].call(int)
        here.refresh()
    return found
module._header = header
"""
    )
    code = """
reader = module.Reader(path)
reader.read()
[[e.name, e.row[0] + e.row[3]] for e in reader.entries if e.kind == "policy"]
"""
    assert worker.do(code) == [["shop", 10]]


def test_many_fold_at_once(host: Host) -> None:
    """Processes die all the time, two others fold all the time, and no call is lost or doubled."""
    worker, stop = host.start(DEAD), host.home / "stop"
    folders = [host.start(READ, PYTHONPATH=python_path()) for _ in range(2)]
    for each in folders:
        each.tell(
            f"""
seen = []
while not Path({str(stop)!r}).exists():
    if Path({str(host.pages)!r}).exists():
        Directory(Path({str(host.pages)!r})).fold()
        time.sleep(0.002)
        seen.append(total({str(host.pages)!r}))
[seen == sorted(seen), len(seen)]
"""
        )
    worker.do("dead(20, 5)")
    stop.touch()
    for each in folders:
        rising, times = each.hear()
        assert rising
        assert times > 0
    assert calls(worker.scrape(), "shop") == 100
    until(lambda: host.names() == {host.page_of(worker).name, "departed.page"})
    assert calls(worker.scrape(), "shop") == 100


@pytest.mark.parametrize("moment", ["_read_departed", "_read_pages", "_count_broken"])
def test_a_fold_in_the_middle_of_a_reading(host: Host, moment: str) -> None:
    """Who has read one part before a fold, and reads another after it, begins again."""
    worker = host.start(
        READ + DEAD, PYTHONPATH=python_path(), RESILIENT_RUNTIME_DIR=str(host.pages)
    )
    found = worker.do(
        f"""
path = Path(os.environ["RESILIENT_RUNTIME_DIR"])
real, folding = Directory.{moment}, []
def patched(self, **more):
    if not folding:
        folding.append(1)
        Directory(path).fold()
        folding.clear()
    return real(self, **more)
seen = []
dead(2, 5)
for _ in range(3):
    dead(1, 5)
    Directory.{moment} = patched
    seen.append(total(path))
    Directory.{moment} = real
seen
"""
    )
    assert found == [15, 20, 25]


def test_more_policies_than_the_departed_name(host: Host) -> None:
    """Beyond the most that are kept by name, they are added up in one, and none is lost."""
    code = """
import resilient.pages.merge as sums, resilient.pages.format as form
sums.MOST = form.MOST = 10
ps = [Policy(f"p{n:02}") for n in range(25)]
for n, p in enumerate(ps): [p.call(int) for _ in range(n + 1)]
here.refresh()
"""
    reader = host.start("import resilient.pages.merge as sums\nsums.MOST = 10")
    for _ in range(2):
        host.start(code).kill()
        reader.scrape()
        until(lambda: "departed.page" in host.names() and len(host.names()) <= 2)
        seen = reader.scrape()
    ours = {
        name: n for name, n in seen.items() if name.startswith("calls_total") and "success" in name
    }
    assert sum(ours.values()) == 2 * sum(range(1, 26))
    assert len(ours) == 10
    assert reader.scrape() | ours == reader.scrape()


def test_what_a_process_shows_of_itself_outlives_it(host: Host) -> None:
    """Counters of listeners and flags are kept, as those of policies are."""
    worker = host.start(
        """
f = flag("shop", default=True, impact="nothing")
flags.off("shop", reason="a test")
bool(f)
def broken(event): raise ValueError("a test")
resilient.registry.subscribe(broken)
Policy("p").force_open(); Policy("q").call(int); here.refresh()
"""
    )
    reader = host.start()
    names = [key("listener_errors_total"), key("flag_off_calls_total", flag="shop"),
             key("flag_changes_total", flag="shop")]  # fmt: skip
    assert [reader.scrape().get(name) for name in names] == [1, 1, 1]
    worker.kill()
    assert [reader.scrape().get(name) for name in names] == [1, 1, 1]
    assert key("flag_enabled", flag="shop") not in reader.scrape()


def test_the_thread_folds_without_a_scrape(host: Host) -> None:
    """Where nobody scrapes, dead pages are taken in all the same."""
    keeper = host.start(
        "import resilient.pages.sharing as module\nmodule._FOLDING = module.EVERY = 0.05"
    )
    keeper.do("Policy('shop').call(int)")
    host.start("Policy('shop').call(int)").kill()
    until(lambda: host.names() == {host.page_of(keeper).name, "departed.page"})
    assert good(host.seen_from_outside()["policy", "shop"]) == 2


def test_a_lock_does_not_outlive_its_folder(host: Host) -> None:
    """A child forked while its parent folds does not hold the directory when the parent is killed."""
    folder = host.start(
        """
import resilient.pages.directory as directory
armed = []
def fold(self):
    if armed:
        fork()
        os.kill(os.getpid(), signal.SIGKILL)
directory.Directory._fold = fold
Policy("shop").call(int)
"""
    )
    reader = host.start()
    host.start("Policy('shop').call(int)").kill()
    folder.tell("armed.append(1)\nwhile True: scrape()")
    child = host.accept()
    folder.gone()
    assert child.do("1") == 1
    assert calls(reader.scrape(), "shop") == 2
    until(lambda: not [name for name in host.names() if name.startswith(f"{folder.pid}-")])
    assert calls(reader.scrape(), "shop") == 2


def test_a_page_that_can_not_be_read_is_not_taken_in(host: Host) -> None:
    """What can't be read this time is neither folded as it was last time, nor removed."""
    worker, reader = host.start("p = Policy('shop'); p.call(int)"), host.start()
    assert calls(reader.scrape(), "shop") == 1
    reader.do(QUIET)
    worker.do("p.call(int)")
    page = host.page_of(worker)
    worker.kill()
    found = reader.do(
        """
import os
real = os.pread
def no_pread(*args): raise OSError(12, "no memory")
os.pread = no_pread
seen = [scrape()]
here._others.fold()
seen += [scrape()]
os.pread = real
seen
"""
    )
    assert [calls(each, "shop") for each in found] == [1, 1]
    assert page.exists()
    assert calls(reader.scrape(), "shop") == 2
    reader.do("here._others.fold()")
    assert not page.exists()
    assert calls(reader.scrape(), "shop") == 2
    assert os.listdir(host.pages)


@pytest.mark.parametrize("end", ["", "time.sleep(0.2)", "time.sleep(0.2); os.kill(os.getpid(), 9)"])
def test_processes_that_live_for_moments(host: Host, end: str) -> None:
    """A page of each is not left behind, though none lives until dead pages are looked for."""
    code = f"import os, time\nfrom resilient import Policy\nPolicy('shop').call(int)\n{end}"
    environ = {**os.environ, "RESILIENT_RUNTIME_DIR": str(host.pages)}
    for _ in range(40):
        subprocess.run([sys.executable, "-c", code], env=environ, check=not end.endswith("9)"))
    assert len(host.names()) <= 20
    assert good(host.seen_from_outside()["policy", "shop"]) == 40
