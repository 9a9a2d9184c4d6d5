"""What it costs that a call's counts are shared with other processes."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from resilient import Policy, registry
from resilient.engine.counters import QUICK
from resilient.pages.format import Entry
from resilient.pages.writer import Page
from resilient.telemetry.policy_samples import row_of

from .model import Side, require
from .ours import abare, bare, counted, whole


@functools.cache
def _page() -> Page:
    directory = tempfile.mkdtemp(prefix="resilient-bench-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Page(Path(directory), {"pid": os.getpid(), "id": "bench"}, time.monotonic())


def _shared(policy: Policy) -> Callable[[int], None]:
    """Give a policy cells in a page; return what makes sure at the end that they were written."""
    core = registry.find(policy.name)
    found, row = row_of(core)
    slot = _page().add(Entry("policy", core.name, {}, found, row))
    core.shared_row, core.layout = slot.cells, found
    right = counted(policy)

    def ended(calls: int) -> None:
        right(calls)
        require(slot.cells[QUICK] + slot.cells[QUICK + 3] == calls, "the page has other counts")

    return ended


def cooperative() -> Side:
    """Return the whole policy for a sync call, its counts in a page."""
    policy = whole("shared-sync", "cooperative")
    return Side(policy(bare), ended=_shared(policy))


async def asynchronous() -> Side:
    """Return the whole policy for an async call, its counts in a page."""
    policy = whole("shared-async")
    return Side(policy(abare), ended=_shared(policy))
