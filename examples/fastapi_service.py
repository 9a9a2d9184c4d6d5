"""A FastAPI service whose home page lives on without its recommendations.

    pip install 'resilient-guards[cli,httpx]' fastapi uvicorn
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export RECS_URL=http://127.0.0.1:9000             # the dependency; GET /picks/7 is a JSON list,
                                                      # GET /stock/heat a JSON number
    uvicorn --app-dir examples fastapi_service:app --port 8000

What to try:

    curl localhost:8000/home/7                        # the top 100, while nobody is at port 9000
    curl -i localhost:8000/stock/heat                 # 502: this one has no fallback
    curl -L localhost:8000/metrics | grep recs
    resilient flags off recs --reason "a try"         # elsewhere, with the same RESILIENT_STORE
    resilient policies force-open stock --reason "a try"
    curl -i localhost:8000/stock/heat                 # 503, with Retry-After
"""

from __future__ import annotations

import os

import httpx
from fastapi import FastAPI, HTTPException

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
shop = httpx.AsyncClient(base_url=os.environ.get("RECS_URL", "http://127.0.0.1:9000"))


async def top_100(user: int) -> list[str]:
    """Answer what everybody likes."""
    return ["the top 100"]


recs = Policy(
    "recs", kill_switch(RECS, answer=top_100), fallback(top_100), circuit_breaker(), bulkhead(20),
    timeout(0.3), owner="team-recs", tier=3, impact=IMPACT,
)  # fmt: skip
stock = Policy("stock", circuit_breaker(), timeout(0.5), owner="team-stock", tier=2)
load_settings()  # options from the file RESILIENT_SETTINGS, and from the environment


@recs
async def picks(user: int) -> list[str]:
    """Ask for what a user will like. The function that talks is guarded, not the route."""
    answer = await shop.get(f"/picks/{user}")
    return list(answer.raise_for_status().json())


@stock
async def in_stock(movie: str) -> int:
    """Ask how many there are."""
    answer = await shop.get(f"/stock/{movie}")
    return int(answer.raise_for_status().json())


app = FastAPI()
app.add_middleware(Middleware, at_most=10.0, at_least=0.05)  # deadlines; 503 and 504
app.mount("/metrics", metrics.asgi_app())
app.mount("/ready", health.asgi_app())  # it asks no dependency: an open circuit is no reason


@app.get("/home/{user}")
async def home(user: int) -> dict[str, list[str]]:
    return {"picks": await picks(user)}


@app.get("/stock/{movie}")
async def left(movie: str) -> int:
    try:
        return await in_stock(movie)
    except httpx.HTTPError as error:  # a real failure; a refusal passes, and is the middleware's
        raise HTTPException(502, "the stock can't be asked") from error
