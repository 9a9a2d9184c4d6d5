"""The directory of the pages: private, bounded, and never a reason for a call to fail."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.kit.hosts import Host, Process, calls, key
from tests.kit.waiting import until

CALLS = "p = Policy('shop')\nfor _ in range(5): p.call(int)"
root_only = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def alone(worker: Process, most: int = 1) -> None:
    """Check that a process counts for itself, says so once, and does not suffer."""
    worker.do(CALLS)
    for _ in range(3):
        assert calls(worker.scrape(), "shop") == 5
    worker.do("for n in range(20): Policy(f'p{n}').call(int)\nhere.refresh()")
    seen = worker.scrape()
    assert {calls(seen, f"p{n}") for n in range(20)} == {1}
    assert 1 <= worker.host.warnings() <= most, worker.host.errors()


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o077])
def test_it_is_private(host: Host, umask: int) -> None:
    """The directory is for its user alone, and so is each file, whatever the umask is."""
    worker = host.start(f"os.umask({umask})\n{CALLS}")
    host.start(CALLS).kill()
    worker.scrape()
    until(lambda: host.names() == {host.page_of(worker).name, "departed.page"})
    assert stat.S_IMODE(host.pages.stat().st_mode) == 0o700
    modes = {stat.S_IMODE(path.stat().st_mode) for path in host.pages.iterdir()}
    assert modes == {0o600}


@pytest.mark.parametrize("umask", [0o000, 0o022])
def test_beside_a_store_of_sqlite(host: Host, umask: int) -> None:
    """It is in the directory of the store's state, which is private too, and is used."""
    store = host.home / "flags.db"
    environ = {"RESILIENT_STORE": f"sqlite:///{store}", "RESILIENT_RUNTIME_DIR": ""}
    worker, other = host.start(f"os.umask({umask})", **environ), host.start(**environ)
    worker.do(CALLS)
    other.do(CALLS)
    assert calls(worker.scrape(), "shop") == 10
    state = Path(f"{store}-state")
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert stat.S_IMODE((state / "pages").stat().st_mode) == 0o700
    assert len(list((state / "pages").iterdir())) == 2
    assert "can't be written" not in host.errors()


def test_off(host: Host) -> None:
    """Where it is off, nothing is written, also beside a store of SQLite."""
    store = host.home / "flags.db"
    environ = {"RESILIENT_STORE": f"sqlite:///{store}", "RESILIENT_RUNTIME_DIR": "off"}
    worker, other = host.start(CALLS, **environ), host.start(CALLS, **environ)
    assert calls(worker.scrape(), "shop") == calls(other.scrape(), "shop") == 5
    assert worker.do("here.sharing") is False
    assert not list(host.home.rglob("*.page"))
    assert not host.warnings()


def test_everybody_may_write_there(host: Host) -> None:
    """Such a directory is refused, with one warning; the process counts for itself."""
    host.pages.mkdir()
    host.pages.chmod(0o777)
    alone(host.start())
    assert not host.names()


@root_only
def test_somebody_elses(host: Host) -> None:
    """Another user's directory is refused, with one warning."""
    host.pages.mkdir(0o700)
    os.chown(host.pages, 65534, 65534)
    alone(host.start())
    assert not host.names()


@root_only
@pytest.mark.parametrize("mode", [0o555, 0])
def test_it_can_not_be_written(host: Host, mode: int) -> None:
    """A directory that this user may not write is no reason to fail."""
    host.pages.mkdir()
    host.pages.chmod(mode)
    os.chmod(host.home, 0o777)  # noqa: S103 - rights that are too wide are what is tested
    worker = host.start(
        f"""
Policy("warm", timeout(1, sync="thread")).call(int); scrape()  # to have imported what it takes
import resilient.pages.directory, resilient.pages.publisher, resilient.pages.writer, logging, inspect
os.setgid(65534); os.setuid(65534)
os.environ["RESILIENT_RUNTIME_DIR"] = {str(host.pages)!r}
""",
        RESILIENT_RUNTIME_DIR="off",
    )
    os.chown(host.pages, 65534, 65534)
    alone(worker)
    assert not host.names()


@pytest.mark.parametrize(
    "what",
    [
        "file",
        "fifo",
        "under a file",
        "dangling",
        "too long",
    ],
)
def test_it_is_no_directory(host: Host, what: str) -> None:
    """What is no directory, and can't become one, is no reason to fail or to wait."""
    path = host.pages
    if what == "file":
        path.write_text("x")
    elif what == "fifo":
        os.mkfifo(path)
    elif what == "dangling":
        path.symlink_to(host.home / "nowhere" / "at all")
    elif what == "under a file":
        path.write_text("x")
        path = path / "pages"
    else:
        path = path / ("x" * 300)
    alone(host.start(RESILIENT_RUNTIME_DIR=str(path)))


def test_it_vanishes(host: Host) -> None:
    """A process whose page was removed says so at most once, and opens another one."""
    import shutil

    worker, other = host.start(CALLS), host.start(CALLS)
    worker.do("Policy('gone').call(int); resilient.registry.remove('gone'); gc.collect()")
    assert calls(worker.scrape(), "shop") == 10
    shutil.rmtree(host.pages)
    worker.do("p.call(int)")
    for _ in range(3):
        assert calls(worker.scrape(), "shop") in (6, 11)
    other.do("p.call(int); here.refresh()")
    late = host.start(CALLS)
    for each in (worker, other, late):
        seen = each.scrape()
        assert (calls(seen, "shop"), calls(seen, "gone")) == (17, 1)
    assert host.warnings() <= 2
    other.kill()
    assert [calls(each.scrape(), "shop") for each in (worker, late)] == [17, 17]


def test_it_vanishes_for_good(host: Host) -> None:
    """Where it can't be made again, each process counts on for itself, and a call never fails."""
    import shutil

    worker = host.start(CALLS)
    worker.scrape()
    worker.stopped()  # it is to see what comes of it, and nothing between
    shutil.rmtree(host.pages)
    host.pages.write_text("in its place")
    os.kill(worker.pid, signal.SIGCONT)
    for number in range(6, 9):
        worker.do("p.call(int); here.refresh()")
        assert calls(worker.scrape(), "shop") == number
    worker.do("q = Policy('late'); q.call(int)")
    assert calls(worker.scrape(), "late") == 1
    assert host.warnings() <= 2, host.errors()


def test_nothing_stays_but_the_living_and_the_departed(host: Host) -> None:
    """Also what a process left that died while it made its page, and what a folder left."""
    worker = host.start(CALLS)
    for step in ("fcntl.flock", "os.rename"):
        dead = host.start(
            f"""
import resilient.pages.writer as page
def die(*args): os.kill(os.getpid(), signal.SIGKILL)
class Dies:
    def __init__(self, module): self.module = module
    def __getattr__(self, name):
        return die if f"{{self.module.__name__}}.{{name}}" in {(step, f"posix.{step[3:]}")!r} else getattr(self.module, name)
page.os, page.fcntl = Dies(page.os), Dies(page.fcntl)
"""
        )
        dead.end("Policy('shop').call(int)")
    (host.pages / "departed.page.new").write_bytes(b"half of it")
    assert len([name for name in host.names() if name.endswith(".new")]) == 3
    for path in host.pages.glob("*.new"):
        os.utime(path, (1, 1))
    host.start(CALLS).kill()
    for _ in range(2):
        assert calls(worker.scrape(), "shop") == 10
        until(lambda: host.names() == {host.page_of(worker).name, "departed.page"})


def test_it_does_not_grow_with_policies_that_come_and_go(host: Host) -> None:
    """The places of policies that are gone are used again."""
    worker = host.start(
        """
def made():
    @bulkhead(5)
    def short(): ...
    short()
for _ in range(20): made(); gc.collect(); here.refresh()
"""
    )
    size = "(lambda page: page._whole[2])(here._records.page)"
    before = worker.do(size)
    worker.do("for _ in range(100): made(); gc.collect(); here.refresh()")
    assert worker.do(size) - before < 5000
    found = [
        n
        for name, n in worker.scrape().items()
        if name.startswith("calls_total") and "success" in name
    ]
    assert sum(found) == 120


def test_a_thousand_flags(host: Host) -> None:
    """There is room for what a process shows of itself, and policies are kept up beside it."""
    worker = host.start(
        """
fs = [flag(f"a-flag-of-the-shop-with-a-name-of-some-length-{n}", impact="nothing") for n in range(1000)]
p, never = Policy("shop"), Policy("never-called")
p.call(int)
here.refresh()
"""
    )
    seen = host.start().scrape()
    assert calls(seen, "shop") == 1
    assert calls(seen, "never-called") == 0
    assert len([name for name in seen if name.startswith("flag_enabled")]) == 1000
    worker.do("for f in fs: bool(f)\nhere.refresh()")
    assert not host.warnings(), host.errors()


FULL = """
import resilient.pages.writer as page
page.LARGEST = page.SEGMENT = 64 * 1024
ps = [Policy(f"p{n:03}", circuit_breaker()) for n in range(200)]
for p in ps: p.call(int)
"""


def test_a_full_page(host: Host) -> None:
    """Those that find no room are in their own process's scrape; one warning; the rest goes on."""
    worker = host.start(FULL)
    seen = worker.scrape()
    assert {calls(seen, f"p{n:03}") for n in range(200)} == {1}
    worker.do("for p in ps: p.call(int)\nps[0].force_open(); here.refresh()")
    seen = worker.scrape()
    assert {calls(seen, f"p{n:03}") for n in range(200)} == {2}
    assert host.warnings() == 1, host.errors()
    outside = host.start().scrape()
    assert (
        50
        < len([name for name in outside if name.startswith("calls_total") and "success" in name])
        < 200
    )
    assert outside[key("override_active", kind="forced_open", policy="p000")] == 1


def test_policies_dropped_from_a_full_page(host: Host) -> None:
    """They leave what they counted, and room for others."""
    worker = host.start(FULL)
    before = worker.scrape()
    worker.do(
        "for p in ps[:50]: resilient.registry.remove(p.name)\ndel ps[:50], p; gc.collect(); here.refresh()"
    )
    after = worker.scrape()
    assert {calls(after, f"p{n:03}") for n in range(200)} == {1}
    assert host.warnings() == 1, host.errors()
    assert calls(before, "p000") == calls(host.start().scrape(), "p000") == 1


@root_only
@pytest.mark.parametrize("size", ["8k", "300k"])
def test_a_full_disk(host: Host, size: str) -> None:
    """No call fails and nobody dies where the disk has no room: for the page, for more, to fold."""
    host.pages.mkdir(0o700)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", str(host.pages)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("may not mount")
    code = "ps = [Policy(f'p{n:03}', circuit_breaker()) for n in range(100)]"
    try:
        first, second = host.start(code), host.start(code)
        for _ in range(2):
            for worker in (first, second):
                worker.do("for p in ps: p.call(int)\nhere.refresh()")
                seen = worker.scrape()
        assert {calls(seen, f"p{n:03}") for n in range(100)} == {4 if size == "300k" else 2}
        first.kill()
        for _ in range(2):
            assert second.scrape() | seen == second.scrape() | seen
        assert calls(second.scrape(), "p000") == (4 if size == "300k" else 2)
        assert host.warnings() <= 4, host.errors()
    finally:
        host.close()
        subprocess.run(["umount", "-l", str(host.pages)], check=True)


def test_few_files_stay_open(host: Host) -> None:
    """A scrape of many pages holds no files of theirs open, nor do the children of who did it."""
    pages = host.start("for _ in range(8): fork()", PYTHONPATH="")
    others = [host.accept() for _ in range(8)]
    for each in others:
        each.do(CALLS)
    reader = host.start(CALLS)
    open_now = "len(os.listdir('/proc/self/fd'))"
    before = reader.do(open_now)
    assert calls(reader.scrape(), "shop") == 45
    assert reader.do(open_now) <= before + 2
    child = reader.fork()
    child.do("p.call(int); scrape()")
    grandchild = child.fork()
    grandchild.do("p.call(int); scrape()")
    assert grandchild.do(open_now) <= before + 8
    assert pages.alive
    assert child.do("len(resilient.events.bus._listeners)") == 1
    assert sys.executable


def test_a_fold_that_fails(host: Host) -> None:
    """Where the dead can't be taken in, they are shown, and so is what the living do."""
    other = host.start("p = Policy('shop'); p.call(int)")
    worker = host.start("Policy('mine').call(int)")
    worker.scrape()
    worker.do(
        """
import resilient.pages.directory as directory
def write(self, *args): raise OSError(28, "no space left on device")
directory.Directory._write = write
"""
    )
    other.do("directory = __import__('resilient.pages.directory', fromlist=['x'])")
    other.do(
        "directory.Directory._write = lambda *_: (_ for _ in ()).throw(OSError(28, 'no space'))"
    )
    host.start("Policy('shop').call(int)").kill()
    for number in range(2, 5):
        assert [calls(each.scrape(), "shop") for each in (worker, other)] == [number, number]
        other.do("p.call(int)")
    assert host.warnings() <= 2


@pytest.mark.parametrize("used_again", [True, False])
def test_files_that_somebody_else_closes(host: Host, used_again: bool) -> None:
    """An application that closes all that it does not know: all is counted, and counted once."""
    worker, other = host.start(CALLS), host.start(CALLS)
    other.do("from resilient.pages.directory import Directory")
    worker.do(
        f"""
page = here._records.page
with here._lock:  # the thread of the pages sees it later than the others
    for fd in (page._fd, page._lock): os.close(fd)
    mine = [open({str(host.home)!r} + f"/mine-{{n}}", "w+b") for n in range(4 * {used_again})]
    gone = open("/dev/null")
"""
    )
    other.do("Directory(here.path, here._records.page.name).fold()")
    assert calls(other.scrape(), "shop") == 10
    worker.do("p.call(int); here.refresh()")
    assert [calls(each.scrape(), "shop") for each in (worker, other, worker)] == [11] * 3
    assert worker.do("[os.fstat(each.fileno()).st_size for each in [*mine, gone]]") == [0] * (
        4 * used_again + 1
    )


def test_a_process_that_executes_another_program(host: Host) -> None:
    """Its page is folded, though its process id and the time of its start are those of a living one."""
    worker, other = host.start(CALLS), host.start(CALLS)
    page = host.page_of(worker)
    worker.tell(
        "here._records.page.beat(time.monotonic() - 60); os.execv('/bin/sleep', ['sleep', '60'])"
    )
    other.do("from resilient.pages.directory import Directory")
    until(
        lambda: (
            other.do("Directory(here.path, here._records.page.name).fold()") or not page.exists()
        )
    )
    assert calls(other.scrape(), "shop") == 10
    worker.kill()


def test_no_thread_to_be_had(host: Host) -> None:
    """A process that can't start a thread counts all the same, and leaves nothing behind."""
    worker = host.start(
        """
real = threading.Thread.start
def start(self):
    if self.name == "resilient-pages": raise RuntimeError("can't start new thread")
    real(self)
threading.Thread.start = start
"""
    )
    worker.do(CALLS)
    seen = worker.scrape()
    assert calls(seen, "shop") == 5
    assert seen[key("processes")] == 1
    assert (host.names(), worker.do("here.sharing")) == (set(), False)
    worker.do("threading.Thread.start = real\nPolicy('more').call(int)")


def test_a_store_that_is_chosen_late(host: Host) -> None:
    """What was counted before is shared as well; with yet another store, the page stays where it is."""
    found: list[Any] = []
    off = {"RESILIENT_RUNTIME_DIR": ""}
    stores = [f"sqlite:///{host.home}/{name}.db" for name in "ab"]
    worker = host.start(CALLS, **off)
    for store in stores:
        other = host.start(CALLS, RESILIENT_STORE=store, **off)
        worker.do(f"flags.configure(store={store!r})\nfor _ in range(5): p.call(int)")
        seen = other.scrape()
        found.append((calls(seen, "shop"), calls(worker.scrape(), "shop")))
    assert found == [(15, 15), (5, 20)]
