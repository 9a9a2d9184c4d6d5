"""A service of gevent, with everything patched: who waits lets the other greenlets run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from resilient import compiled
from tests.kit.waiting import WAIT

SCENE = Path(__file__).with_name("scene.py")


@pytest.mark.parametrize("pure", [pytest.param("", id="as-it-is"), pytest.param("1", id="pure")])
@pytest.mark.parametrize("store", ["", "sqlite"])
def test_greenlets(pure: str, store: str, tmp_path: Path) -> None:
    """With the compiled core, whose locks know no greenlets, as without it."""
    environ = {
        **{name: v for name, v in os.environ.items() if not name.startswith("RESILIENT")},
        "RESILIENT_STORE": store and f"sqlite:///{tmp_path / 'flags.db'}",
        "RESILIENT_PURE": pure if compiled else "1",
    }
    done = subprocess.run(
        [sys.executable, "-W", "ignore", str(SCENE)], env=environ, capture_output=True, text=True,
        timeout=2 * WAIT, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout) == {
        "compiled": compiled and not pure,
        "line": [3, True],
        "thread_timeout": [[["CallTimeoutError"] * 3, "WorkersBusyError"], 0],
        "cooperative": ["in time", "CallTimeoutError"],
        "killed": [1, 0, 0, 0],
        "paced": True,
        "flipped": [True, False],
    }
