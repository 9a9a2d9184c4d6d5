"""Run the demo: ``python -m demo``. Ends by itself, with 0 if the protected service did well."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import signal
import time
from pathlib import Path
from typing import Final

from rich.console import Console

from . import control, measure, picture, report
from .progress import Progress
from .schedule import FULL_LENGTH

SPARE: Final = 14.0  # seconds that starting up, waiting for the last and drawing may take


def options() -> argparse.Namespace:
    """Return what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m demo", description=__doc__)
    parser.add_argument(
        "--seconds", type=float, default=FULL_LENGTH, help="length of the load (default 24)"
    )
    parser.add_argument(
        "--rate", type=float, default=150.0, help="customers a second of each service"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("demo-output"), help="folder for picture and logs"
    )
    given = parser.parse_args()
    if not 4.0 <= given.seconds <= 600.0:
        parser.error("--seconds is at least 4: the policy's timeout of 0.3 s needs its time")
    if not 1.0 <= given.rate <= 1000.0:
        parser.error("--rate is from 1 to 1000")
    return given


async def measured(seconds: float, rate: float, folder: Path, console: Console) -> measure.Run:
    """Run the outage, but not for ever."""
    async with asyncio.timeout(seconds + SPARE - 4.0):
        return await control.outage(seconds, rate, folder, Progress(console))


def main() -> int:
    """Run, report, draw; return the exit code."""
    began, given = time.monotonic(), options()
    faulthandler.dump_traceback_later(given.seconds + SPARE, exit=True)
    console = Console()
    if not console.is_terminal:
        console = Console(width=100)
    folder: Path = given.output.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    report.opening(console, given.seconds, given.rate)
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # clean up as after an interrupt
    try:
        run = asyncio.run(measured(given.seconds, given.rate, folder, console))
    except TimeoutError:
        console.print("The demo was not done in time, and has given up.", style="bold red")
        return 2
    except KeyboardInterrupt:
        console.print("Interrupted.")
        return 130
    report.closing(console, run)
    picture.save(run, folder / "demo.png")
    faults = measure.faults(run)
    where = given.output / "demo.png"
    report.verdict(console, faults, where, time.monotonic() - began)
    return 1 if faults else 0


if __name__ == "__main__":
    raise SystemExit(main())
