"""A gRPC server, and a service that lives on without it. No protoc: the messages are JSON.

    pip install 'resilient-guards[cli,grpc]'
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    python examples/grpc_service.py server 9000       # the dependency
    python examples/grpc_service.py home 8000 9000    # a page over HTTP, made with its answers

What to try:

    curl localhost:8000/home/7                        # stop the server, and ask again: the top 100
    curl localhost:8000/metrics | grep recs
    resilient flags off recs --reason "a try"         # elsewhere, with the same RESILIENT_STORE
    resilient policies force-open stock --reason "a try"
    curl -i localhost:8000/stock/heat                 # 503, with Retry-After
"""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIServer, make_server

import grpc

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
from resilient.integrations.grpc import Interceptor
from resilient.integrations.grpc_server import ServerInterceptor
from resilient.integrations.wsgi import Middleware

IMPACT = "The home page shows the top 100 instead of personal picks."
RECS = flag("recs", owner="team-recs", impact=IMPACT)


def top_100(request: str) -> list[str]:
    """Answer what everybody likes: a fallback of an interceptor gets the request."""
    return ["the top 100"]


recs = Policy(
    "recs", kill_switch(RECS, answer=top_100), fallback(top_100), circuit_breaker(), bulkhead(20),
    timeout(0.3, sync="cooperative"), owner="team-recs", tier=3, impact=IMPACT,
)  # fmt: skip
stock = Policy("stock", circuit_breaker(), timeout(0.5, sync="cooperative"), owner="team-stock")
load_settings()  # options from the file RESILIENT_SETTINGS, and from the environment


def dumps(said: Any) -> bytes:
    return json.dumps(said).encode()


def answer_picks(user: str, context: grpc.ServicerContext) -> list[str]:
    return [f"picked for {user}"]


def answer_stock(movie: str, context: grpc.ServicerContext) -> int:
    return 3


def server(port: int) -> None:
    """Serve recommendations and stock."""
    made = grpc.unary_unary_rpc_method_handler
    handlers = {
        "Picks": made(answer_picks, json.loads, dumps),
        "Stock": made(answer_stock, json.loads, dumps),
    }
    # It takes the priority of a call from its caller; the deadline is gRPC's own.
    served = grpc.server(ThreadPoolExecutor(8), interceptors=[ServerInterceptor()])
    served.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Shop", handlers),))
    served.add_insecure_port(f"127.0.0.1:{port}")
    served.start()
    served.wait_for_termination()


class Threads(ThreadingMixIn, WSGIServer):
    """A thread for each request."""

    daemon_threads = True


def home(port: int, of: int) -> None:
    """Serve the page, /metrics and /ready."""
    channel = grpc.insecure_channel(f"127.0.0.1:{of}")
    of_recs = grpc.intercept_channel(channel, Interceptor(recs))  # two policies, one channel
    of_stock = grpc.intercept_channel(channel, Interceptor(stock))
    picks = of_recs.unary_unary("/Shop/Picks", dumps, json.loads)
    left = of_stock.unary_unary("/Shop/Stock", dumps, json.loads)
    shown, ready = metrics.wsgi_app(), health.wsgi_app()

    def application(environ, start_response):
        what, _, which = environ["PATH_INFO"][1:].partition("/")
        if what in ("metrics", "ready"):
            return (shown if what == "metrics" else ready)(environ, start_response)
        answer = {"picks": picks(which)} if what == "home" else left(which)
        start_response("200 OK", [("Content-Type", "application/json")])
        return [dumps(answer)]

    guarded = Middleware(application, at_most=10.0, at_least=0.05)  # deadlines; 503 and 504
    make_server("127.0.0.1", port, guarded, server_class=Threads).serve_forever()


if __name__ == "__main__":
    what, *ports = sys.argv[1:]
    {"server": server, "home": home}[what](*map(int, ports))
