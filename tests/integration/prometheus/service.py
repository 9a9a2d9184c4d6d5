"""A WSGI service for gunicorn: each request asks every dependency, under a policy of its own.

No test imports it: what it declares, and how it cuts itself off, is for its own processes.

What is wrong with a dependency is written, while the service runs, to a file of its name in
APP_FAULTS: see `ask`. Only a process that can't hear its store is made in another way: see `deaf`.
"""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    kill_switch,
    metrics,
    registry,
    timeout,
)
from resilient.errors import StoreError
from resilient.flags.stores.sqlite import SQLiteStore

FAULTS = Path(os.environ.get("APP_FAULTS", "/nowhere"))
ANY = 9  # the tier of those whose errors wake nobody

RECS = flag("recs", owner="team-shop", impact="The page shows the top 100.")
FLAGS = [
    RECS,
    flag("old-look", owner="team-shop", impact="The page looks as last year."),
    flag("banner", owner="team-shop", impact="No banner."),
    flag("beta", owner="team-shop", impact="Nothing new is seen.", default=False),
    flag("stale", owner="team-shop", impact="No snow on the page.", review="2020-12-24"),
    flag("search-v2", owner="team-shop", impact="Search finds less."),
]


def instead(name: str) -> str:
    """Answer in the place of a dependency."""
    return "lesser"


def quick() -> Any:
    """Return a breaker that opens at the second failure in a row, and soon asks again."""
    return circuit_breaker(failure_rate=None, failure_threshold=2, recovery_timeout=0.2)


GUARDS: dict[str, tuple[int | None, tuple[Any, ...]]] = {
    "healthy": (
        1, (fallback(value="lesser"), circuit_breaker(), bulkhead(8), timeout(5, sync="thread")),
    ),
    "burning": (1, (bulkhead(8),)),
    "leaking": (3, ()),
    "degraded": (None, (fallback(instead), circuit_breaker(recovery_timeout=0.3))),
    "cut": (1, (fallback(instead), circuit_breaker(recovery_timeout=0.3))),
    "outage": (2, (circuit_breaker(recovery_timeout=0.1),)),
    "switched": (2, (kill_switch(RECS, answer=instead), circuit_breaker(recovery_timeout=0.3))),
    "flapping": (ANY, (quick(),)),
    "split": (ANY, (circuit_breaker(recovery_timeout=0.3),)),
    "hanging": (ANY, (bulkhead(4), timeout(0.03, sync="thread"))),
    "forced": (ANY, (circuit_breaker(),)),
    "timed": (ANY, (circuit_breaker(),)),
}  # fmt: skip
POLICIES = {
    name: Policy(name, *guards, owner=f"team-{name}", tier=tier, impact=f"No {name}, \U0001f600.")
    for name, (tier, guards) in GUARDS.items()
}
show = metrics.wsgi_app(max_policies=len(POLICIES))
calls: Counter[str] = Counter()


def fault(name: str) -> list[str]:
    """Return what is wrong with a dependency now."""
    try:
        return (FAULTS / name).read_text().split()
    except FileNotFoundError:
        return []


def ask(name: str) -> str:
    """Ask a dependency."""
    calls[name] += 1
    match fault(name):
        case ["down"]:
            raise ConnectionError("it is down")
        case ["down", pid] if pid == str(os.getpid()):
            raise ConnectionError("it is down for this process")
        case ["each", number] if calls[name] % int(number) == 0:
            raise ConnectionError("it is down for one in so many")
        case ["comes-and-goes"] if time.time() % 1 < 0.3:
            raise ConnectionError("it is down for a third of the time")
        case ["hangs"]:
            while fault(name):
                time.sleep(0.02)
    return "full"


def deaf(store: SQLiteStore, incarnation: str, version: int) -> Any:
    """Read the store, unless this process is cut off from it."""
    if (FAULTS / f"deaf-{os.getpid()}").exists():
        raise StoreError("no way there")
    return read(store, incarnation, version)


read = SQLiteStore.read
SQLiteStore.read = deaf
GUARDED: dict[str, Callable[[str], str]] = {name: each(ask) for name, each in POLICIES.items()}


def one_more(there: str) -> None:
    """Have a policy more than the metrics have room for, or no more."""
    if there == "yes":
        POLICIES["more"] = Policy("more")
        POLICIES["more"].call(str)
    elif POLICIES.pop("more", None) is not None:
        registry.remove("more")


def application(environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
    """Answer / by asking every dependency, /more/yes and /more/no, and /metrics."""
    path = environ["PATH_INFO"]
    if path == "/metrics":
        return show(environ, start)
    if path.startswith("/more/"):
        one_more(path.rpartition("/")[2])
    got = {}
    for name, guarded in GUARDED.items() if path == "/" else ():
        try:
            got[name] = guarded(name)
        except Exception as error:
            got[name] = type(error).__name__
    said = {"pid": os.getpid(), "got": got, "flags": {each.name: bool(each) for each in FLAGS}}
    body = json.dumps(said).encode()
    start("200 OK", [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
    return [body]
