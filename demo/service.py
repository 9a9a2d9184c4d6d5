"""The service: a home page with personal picks, unprotected or under a policy. Its own process."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import os
import resource
import sys
from typing import Final, NamedTuple

import httpx
from prometheus_client import start_http_server

import resilient

from .load import Crowd
from .measure import Move
from .recommendations import personal_picks, policy
from .schedule import FULL_LENGTH

CLIENT_TIMEOUT: Final = 10.0
PATIENCE: Final = 2.0  # seconds that the last customers may wait on after the load has ended


class Settings(NamedTuple):
    """What the service is told on its command line."""

    protected: bool
    url: str
    rate: float
    seconds: float
    log: str


def tell(message: dict[str, object]) -> None:
    """Tell the process that started this one."""
    print(json.dumps(message), flush=True)


async def serve(settings: Settings, orders: asyncio.StreamReader) -> None:
    """Get ready, wait for the starting moment, serve the crowd, and report all the while."""
    moves: list[Move] = []
    start = 0.0

    def moved(event: resilient.Event) -> None:
        at = event.at - start
        moves.append(Move(at, event.guard, event.kind, event.after, event.reason))

    resilient.registry.subscribe(moved)
    scale = settings.seconds / FULL_LENGTH  # breaker times are short, as the outage is
    recs = policy(2.0 * scale, 1.0 * scale) if settings.protected else None
    port = start_http_server(0, addr="127.0.0.1")[0].server_port if recs else 0
    # No limit of connections: neither service makes a customer wait for a free one.
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=100)
    async with httpx.AsyncClient(timeout=CLIENT_TIMEOUT, limits=limits) as client:
        picks = personal_picks(client, settings.url)
        tell({"ready": port})
        start = float(await orders.readline() or "inf")
        if start == math.inf:  # the parent has ended before it began
            return
        crowd = Crowd(recs(picks) if recs else picks, start)
        loading = asyncio.create_task(crowd.come(settings.rate, settings.seconds))
        while not loading.done():
            await asyncio.wait({loading}, timeout=0.2)
            tell({**crowd.report(), "moves": moves})
            moves.clear()
        loading.result()
        await crowd.leave(PATIENCE)
    tell({**crowd.report(), "moves": moves, "plan": str(recs) if recs else "", "done": True})
    await orders.read()  # stay, for /metrics


async def main(settings: Settings) -> None:
    """Run until standard input is closed."""
    orders = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    await serve(settings, orders)


def more_files() -> None:
    """Allow as many open files as there may be hanging connections."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


if __name__ == "__main__":
    given = Settings(*json.loads(sys.argv[1]))
    logging.basicConfig(filename=given.log, filemode="w", format="%(asctime)s %(message)s")
    more_files()
    try:
        asyncio.run(main(given))
    except BrokenPipeError:  # nobody listens any more
        os._exit(1)
