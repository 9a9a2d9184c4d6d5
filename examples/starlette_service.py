"""A Starlette service whose home page lives on without its recommendations.

    pip install 'resilient-guards[cli,httpx]' starlette uvicorn
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export RECS_URL=http://127.0.0.1:9000             # the dependency; GET /picks/7 is a JSON list,
                                                      # GET /stock/heat a JSON number
    uvicorn --app-dir examples starlette_service:app --port 8000

What to try:

    curl localhost:8000/home/7                        # the top 100, while nobody is at port 9000
    curl -L localhost:8000/metrics | grep recs
    curl -L localhost:8000/ready                      # 200, with what is not well
    resilient flags off recs --reason "a try"         # elsewhere, with the same RESILIENT_STORE
    resilient policies force-open stock --reason "a try"
    curl -i localhost:8000/stock/heat                 # 503, with Retry-After
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Mount, Route

from resilient import (
    Policy,
    bulkhead,
    circuit_breaker,
    fallback,
    flag,
    health,
    kill_switch,
    load_settings,
    metrics,
    timeout,
)
from resilient.integrations.asgi import Middleware

IMPACT = "The home page shows the top 100 instead of personal picks."
RECS = flag("recs", owner="team-recs", impact=IMPACT)
# Two clients of one dependency, each behind a policy: what `wrap` returns is a client.
recs = Policy(
    "recs", kill_switch(RECS), circuit_breaker(), bulkhead(20), timeout(0.3),
    owner="team-recs", tier=3, impact=IMPACT,
)  # fmt: skip
stock = Policy("stock", circuit_breaker(), timeout(0.5), owner="team-stock", tier=2)
load_settings()  # options from the file RESILIENT_SETTINGS, and from the environment
shop = httpx.AsyncClient(base_url=os.environ.get("RECS_URL", "http://127.0.0.1:9000"))
recs_client, stock_client = recs.wrap(shop), stock.wrap(shop)


async def top_100(user: int) -> list[str]:
    """Answer what everybody likes."""
    return ["the top 100"]


@fallback(top_100)  # of the whole function: it answers also where the JSON is broken
async def picks(user: int) -> list[str]:
    """Ask for what a user will like."""
    return list((await recs_client.get(f"/picks/{user}")).raise_for_status().json())


async def home(request: Request) -> JSONResponse:
    return JSONResponse({"picks": await picks(request.path_params["user"])})


async def left(request: Request) -> JSONResponse:
    answer = await stock_client.get(f"/stock/{request.path_params['movie']}")
    return JSONResponse(answer.raise_for_status().json())


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    """Close the client when the service ends."""
    async with shop:
        yield


app = Starlette(
    routes=[
        Route("/home/{user:int}", home), Route("/stock/{movie}", left),
        Mount("/metrics", metrics.asgi_app()),
        Mount("/ready", health.asgi_app()),  # it asks no dependency
    ],
    lifespan=lifespan,
)  # fmt: skip
app.add_middleware(Middleware, at_most=10.0, at_least=0.05)  # deadlines; 503 and 504
