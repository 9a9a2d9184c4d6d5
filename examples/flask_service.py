"""A Flask service whose home page lives on without its recommendations.

    pip install 'resilient-guards[cli,httpx]' flask gunicorn
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export RECS_URL=http://127.0.0.1:9000             # the dependency; GET /picks/7 is a JSON list,
                                                      # GET /stock/heat a JSON number
    gunicorn --chdir examples --workers 2 --threads 8 --bind :8000 flask_service:app

What to try:

    curl localhost:8000/home/7                        # the top 100, while nobody is at port 9000
    curl localhost:8000/metrics | grep recs           # the counts of both workers
    curl localhost:8000/ready                         # 200, with what is not well
    resilient flags off recs --reason "a try"         # elsewhere, with the same RESILIENT_STORE
    resilient policies force-open stock --reason "a try"
    curl -i localhost:8000/stock/heat                 # 503, with Retry-After
"""

from __future__ import annotations

import os

import httpx
from flask import Flask, Response, jsonify
from werkzeug.middleware.dispatcher import DispatcherMiddleware

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
from resilient.integrations.flask import install

IMPACT = "The home page shows the top 100 instead of personal picks."
RECS = flag("recs", owner="team-recs", impact=IMPACT)


def top_100(user: int) -> list[str]:
    """Answer what everybody likes."""
    return ["the top 100"]


# Policies are made at the top of a module, not in create_app(): a policy is one per process.
recs = Policy(
    "recs", kill_switch(RECS, answer=top_100), fallback(top_100), circuit_breaker(), bulkhead(20),
    timeout(0.3, sync="thread"), owner="team-recs", tier=3, impact=IMPACT,
)  # fmt: skip
stock = Policy(
    "stock", circuit_breaker(), bulkhead(20), timeout(0.5, sync="thread"), owner="team-stock"
)
load_settings()  # options from the file RESILIENT_SETTINGS, and from the environment
shop = httpx.Client(base_url=os.environ.get("RECS_URL", "http://127.0.0.1:9000"))


@recs
def picks(user: int) -> list[str]:
    """Ask for what a user will like. The function that talks is guarded, not the view."""
    return list(shop.get(f"/picks/{user}").raise_for_status().json())


@stock
def in_stock(movie: str) -> int:
    """Ask how many there are."""
    return int(shop.get(f"/stock/{movie}").raise_for_status().json())


def create_app() -> Flask:
    app = Flask("shop")
    install(app, at_most=10.0, at_least=0.05)  # deadlines; 503 and 504

    @app.get("/home/<int:user>")
    def home(user: int) -> Response:
        return jsonify({"picks": picks(user)})

    @app.get("/stock/<movie>")
    def left(movie: str) -> Response:
        return jsonify(in_stock(movie))

    views = {"/metrics": metrics.wsgi_app(), "/ready": health.wsgi_app()}
    app.wsgi_app = DispatcherMiddleware(app.wsgi_app, views)  # type: ignore[method-assign]
    return app


app = create_app()
