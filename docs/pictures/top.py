"""Draws `resilient top` for the README, from a real run: ``make picture``.

It starts the shop in trouble of ``examples/on_call.py``, looks twice, and writes ``top.svg``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.terminal_theme import MONOKAI

from resilient.cli.top_screen import drawn
from resilient.monitoring.page_samples import PagePoller
from resilient.monitoring.top_model import Screen

ROOT = Path(__file__).parents[2]
PICTURE = Path(__file__).with_name("top.svg")
COLUMNS = 100


def main() -> None:
    """Run the shop, look, and draw."""
    with tempfile.TemporaryDirectory() as directory:
        shop = subprocess.Popen(  # noqa: S603
            [sys.executable, str(ROOT / "examples" / "on_call.py"), "16"],
            env={**os.environ, "RESILIENT_RUNTIME_DIR": directory},
            stderr=subprocess.DEVNULL,
        )
        try:
            time.sleep(8)
            watch = PagePoller(Path(directory))
            before = watch.look()
            time.sleep(5)
            screen = Screen(before, watch.look())
        finally:
            shop.wait()
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(drawn(screen, COLUMNS, rows=None))
        PICTURE.write_text(
            console.export_svg(title="resilient top", theme=MONOKAI), encoding="utf-8"
        )


if __name__ == "__main__":
    main()
