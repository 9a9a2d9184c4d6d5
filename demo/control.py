"""The processes of the demo: started, told what to do, killed, and cleaned up after."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import httpx

from .measure import Customer, Move, Run, Side, Waiting
from .progress import Progress
from .schedule import FULL_LENGTH, HANG, Mode, begun, phases
from .service import Settings

_HERE: Final = Path(__file__).resolve().parent.parent
_LINE: Final = 2**22  # the longest line that a child may write
_GIVES_UP: Final = 10.0  # seconds for a child to get ready


class Child:
    """A module of this package in a process of its own, which ends with this one."""

    def __init__(self, module: str, *args: str) -> None:
        self._command = (sys.executable, "-m", f"demo.{module}", *args)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> Any:
        """Start it and return what it says when it is ready."""
        pipe = asyncio.subprocess.PIPE
        self._process = await asyncio.create_subprocess_exec(
            *self._command, stdin=pipe, stdout=pipe, cwd=_HERE, limit=_LINE,
            start_new_session=True,  # an interrupt at the terminal is for the parent alone
        )  # fmt: skip
        async with asyncio.timeout(_GIVES_UP):
            return (await self.hear())["ready"]

    async def hear(self) -> dict[str, Any]:
        """Return the next thing it says."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{' '.join(self._command[1:3])} ended before its time")
        heard: dict[str, Any] = json.loads(line)
        return heard

    def say(self, line: str) -> None:
        """Tell it something."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(f"{line}\n".encode())

    async def kill(self) -> None:
        """End it at once, if it runs: its sockets close, its connections are reset."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()


class Upstream(Child):
    """An upstream, on a port that it keeps over its deaths."""

    def __init__(self, hang: float) -> None:
        self.port = free_port()
        super().__init__("upstream", str(self.port), str(hang))

    async def become(self, mode: Mode) -> None:
        """Change what it does."""
        if mode == "dead":
            await self.kill()
        elif self._process is None:
            await self.start()
        else:
            self.say(mode)


def free_port() -> int:
    """Return a free port below those that the system gives to outgoing connections.

    One of those could be taken while the upstream is dead, if only by a connection to itself.
    """
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                continue
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


async def outage(seconds: float, rate: float, folder: Path, progress: Progress) -> Run:
    """Run both services through the same outage at the same time."""
    run = Run(Side("unprotected"), Side("protected"), [], seconds)
    async with AsyncExitStack() as stack:
        hang = HANG * seconds / FULL_LENGTH
        upstreams = [Upstream(hang) for _ in run.sides]
        services = []
        for side, upstream in zip(run.sides, upstreams, strict=True):
            settings = Settings(
                side is run.protected, f"http://127.0.0.1:{upstream.port}", rate, seconds,
                str(folder / f"{side.name}.log"),
            )  # fmt: skip
            services.append(Child("service", json.dumps(settings)))
            stack.push_async_callback(upstream.kill)
            stack.push_async_callback(services[-1].kill)
        ports = await asyncio.gather(*(child.start() for child in (*upstreams, *services)))
        start = time.monotonic() + 0.2
        for service in services:
            service.say(repr(start))
        async with asyncio.TaskGroup() as group:
            for side, service in zip(run.sides, services, strict=True):
                group.create_task(listen(service, side))
            group.create_task(steer(upstreams, run, start))
            group.create_task(progress.show(run, start))
        run.protected.metrics = await scrape(ports[-1])
    return run


async def listen(service: Child, side: Side) -> None:
    """Take in what a service reports, until it is done."""
    done = False
    while not done:
        heard = await service.hear()
        side.customers += (Customer(*one) for one in heard["customers"])
        side.moves += (Move(*one) for one in heard["moves"])
        side.waiting.append(Waiting(*heard["waiting"]))
        side.plan = heard.get("plan", "")
        done = heard.get("done", False)


async def steer(upstreams: list[Upstream], run: Run, start: float) -> None:
    """Take both upstreams through the schedule, and note when each phase really began."""
    planned, starts = phases(run.seconds), list[float]()
    for phase in planned:
        await asyncio.sleep(max(0.0, start + phase.start - time.monotonic()))
        await asyncio.gather(*(upstream.become(phase.mode) for upstream in upstreams))
        starts.append(max(0.0, time.monotonic() - start) if starts else 0.0)
        run.phases = begun(planned, starts, run.seconds)
    await asyncio.sleep(max(0.0, start + run.seconds - time.monotonic()))


async def scrape(port: int) -> str:
    """Return what the service tells Prometheus."""
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"http://127.0.0.1:{port}/metrics")
        return answer.raise_for_status().text
