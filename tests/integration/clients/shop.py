"""A WSGI service on three dependencies, each guarded by one line; for `freeze_trial.py`."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any

import httpx
import redis
import sqlalchemy as sa

from resilient import Policy, RefusedError, bulkhead, circuit_breaker, timeout


def guards() -> tuple[Any, ...]:
    return circuit_breaker(recovery_timeout=1.0), bulkhead(8), timeout(0.3, sync="thread")


cache: Any = redis.Redis.from_url(os.environ["SHOP_REDIS"])
database: Any = sa.create_engine(os.environ["SHOP_SQL"], pool_size=8)
api: Any = httpx.Client(base_url=os.environ["SHOP_API"], timeout=30)

if not os.environ.get("SHOP_BARE"):
    cache = Policy("cache", *guards()).wrap(cache)
    database = Policy("database", *guards()).wrap(database)
    api = Policy("api", *guards()).wrap(api)


def ask_database() -> Any:
    with database.connect() as connection:
        return connection.execute(sa.text("SELECT 1")).scalar()


ASK: dict[str, Callable[[], Any]] = {
    "/redis": lambda: cache.incr("hits"),
    "/postgres": ask_database,
    "/http": lambda: api.get("/json").status_code,
}


def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer with what the dependency of the path says, or with what a customer sees else."""
    try:
        body = f"full {ASK[environ['PATH_INFO']]()}"
    except (RefusedError, TimeoutError, OSError, sa.exc.SQLAlchemyError, redis.RedisError,
            httpx.HTTPError) as error:  # fmt: skip
        body = f"degraded {type(error).__name__}"
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [body.encode()]
