"""The order at a fork and at the end of a process: the same whatever was imported when."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from resilient import Policy, bulkhead
from resilient.process import EXIT, FORK, at_exit, at_fork
from resilient.prometheus.scrape import Scraper
from tests.kit.forks import in_both

WAIT = 30.0
# What is imported late, and may come in any order.
LATE = ("resilient.pages.sharing", "resilient.prometheus.scrape", "logging")

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


def run(script: str, *args: str, **environ: str) -> list[str]:
    """Run a script in a Python of its own to its end; return the lines that it printed."""
    kept = {name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")}
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *args],
        env={**kept, **environ},
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


TRACED = """
    import importlib, os, sys
    import resilient.events, resilient.process as process
    from resilient.events import bus

    def traced(place, step):
        def take():
            told.append(place)
            step()
        return take

    real, told = process.at_exit, []
    def at_exit(place, step):
        real(place, traced(place, step))
    process.at_exit = resilient.events.at_exit = at_exit
    for name in sys.argv[1:]:
        importlib.import_module(name)
        import resilient.fleet_limits.asker
        if name == "logging":  # events are kept back: the log has something to do at the end
            for n in range(200):
                bus.enqueue(resilient.Event("abandoned", guard="timeout", at=0.0, policy="p"))
            bus.deliver()
    for place, steps in process._at_fork.items():
        for moment, step in steps.items():
            steps[moment] = step and traced(place, step)
    if os.fork() == 0:
        print("child", *told, flush=True)
        os._exit(0)
    os.wait()
    print("parent", *told, flush=True)
    told.clear()
    class Follower:
        def stop(self):
            print("end", *told, "flags", flush=True)
    from resilient.flags.runtime import here
    here.follower = Follower()
"""


@pytest.mark.parametrize("order", list(itertools.permutations(LATE)), ids=" ".join)
def test_the_order_is_kept(order: tuple[str, ...]) -> None:
    """Whatever is imported first, steps are taken in the order that is written down."""
    child, parent, end = (line.split() for line in run(TRACED, *order))
    before = ["files", "imports", "flags", "policies"]
    assert before == [place for place in reversed(FORK) if place in before]
    assert parent == ["parent", *before, *reversed(before)]
    # That of OpenFeature is there only where somebody uses it.
    assert child == ["child", *before, *(place for place in FORK if place != "providers")]
    assert end == ["end", *EXIT]


def test_a_place_that_there_is_not() -> None:
    """A slip in the name of a place is an error, and so is a second part at one place."""
    with pytest.raises(ValueError, match=r"there is no place 'file'; there are registry, "):
        at_fork("file", before=int)
    with pytest.raises(ValueError, match=r"there is no place 'registry'; there are log, "):
        at_exit("registry", int)
    with pytest.raises(ValueError, match="the place 'policies' is taken"):
        at_fork("policies", before=int)


@pytest.mark.parametrize("moment", ["before", "in_parent", "in_child"])
def test_a_step_that_raises(moment: str) -> None:
    """It keeps none of the others from its turn: locks are given back, also in the child."""
    script = f"""
        import os, sys, threading
        import resilient.process as process
        from resilient import Policy, bulkhead
        raised = []
        sys.unraisablehook = lambda told: raised.append(type(told.exc_value).__name__)
        policy = Policy("p", bulkhead(1))
        policy.call(int)
        def fails():
            raise OSError("down")
        for place in ("registry", "pages"):
            process._at_fork.setdefault(place, {{}})["{moment}"] = fails
        def check(side):
            done = []
            thread = threading.Thread(target=lambda: done.append(policy.call(int, "7")), daemon=True)
            thread.start()
            thread.join(20)
            os.write(1, f"{{side}} {{done}} {{raised}}\\n".encode())  # both sides write
        if os.fork() == 0:
            check("child")
            os._exit(0)
        os.wait()
        check("parent")
    """
    both = str(["OSError", "OSError"])
    found = dict(line.split(" [7] ") for line in run(script))
    assert found == {
        "child": "[]" if moment == "in_parent" else both,
        "parent": "[]" if moment == "in_child" else both,
    }


def test_what_the_log_kept_back_is_told_before_logging_ends(tmp_path: Path) -> None:
    """Also where logging was imported after resilient, and page and follower end later."""
    script = """
        import resilient
        import logging, logging.handlers, sys
        from resilient.events import Event, bus
        to = logging.FileHandler(sys.argv[1])
        logging.getLogger("resilient").addHandler(logging.handlers.MemoryHandler(10_000, target=to))
        for n in range(300):
            bus.enqueue(Event("abandoned", guard="timeout", at=0.0, policy="p"))
        bus.deliver()
        import resilient.pages.sharing
    """
    run(script, str(tmp_path / "log"))
    assert "more like it" in (tmp_path / "log").read_text().splitlines()[-1]


def test_a_fork_amid_a_scrape() -> None:
    """A child scrapes though another thread of its parent was in the middle of one."""
    scraper = Scraper(1)
    with Policy("scraped-amid-a-fork", bulkhead(1)).block():
        scraper.scrape()
    began, ended = threading.Event(), threading.Event()

    def scrape() -> None:
        with scraper._lock:
            began.set()
            ended.wait(WAIT)

    thread = threading.Thread(target=scrape)
    thread.start()
    began.wait(WAIT)
    try:
        _, found = in_both(lambda fork: len(scraper.scrape()) if fork() else 0)
    finally:
        ended.set()
        thread.join()
    assert found > 0
