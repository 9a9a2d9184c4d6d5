"""A Celery worker that sends mail, and waits while the relay is away.

    pip install 'resilient-guards[cli,httpx]' 'celery[redis]'
    export RESILIENT_STORE=sqlite:////tmp/shop.db     # where flags are flipped
    export CELERY_BROKER=redis://127.0.0.1:6379/0
    export RELAY_URL=http://127.0.0.1:9000            # the dependency: POST /send
    celery --workdir examples -A celery_worker worker --concurrency 2
    python examples/celery_worker.py 8000             # /metrics of all processes of the worker

What to try, from another terminal:

    celery --workdir examples -A celery_worker call celery_worker.send --args '["hello"]'
    curl localhost:8000/metrics | grep mail
    resilient flags off mail --reason "a try"         # "kept for later"; the relay hears nothing
    resilient policies force-open mail --reason "a try"    # tasks wait for the release
"""

from __future__ import annotations

import os
import sys
from wsgiref.simple_server import make_server

import httpx
from celery import Celery, Task

from resilient import Policy, RefusedError, circuit_breaker, flag, kill_switch, metrics, timeout

BROKER = os.environ.get("CELERY_BROKER", "redis://127.0.0.1:6379/0")
IMPACT = "Mail arrives late."
MAIL = flag("mail", owner="team-mail", impact=IMPACT)
app = Celery("celery_worker", broker=BROKER, backend=BROKER)
relay = httpx.Client(base_url=os.environ.get("RELAY_URL", "http://127.0.0.1:9000"))


def keep(text: str) -> str:
    """Keep a mail for later: here the outbox of your database would take it."""
    return "kept for later"


mail = Policy(
    "mail", kill_switch(MAIL, answer=keep), circuit_breaker(failure_threshold=3),
    timeout(5.0, sync="cooperative"), owner="team-mail", tier=2, impact=IMPACT,
)  # fmt: skip


@mail
def deliver(text: str) -> str:
    """Hand a mail to the relay. What talks is guarded, not the task."""
    relay.post("/send", json=text, timeout=5.0).raise_for_status()
    return "sent"


@app.task(bind=True, max_retries=3)
def send(self: Task, text: str) -> str:
    """Send a mail; later, where that can't be done now."""
    try:
        return deliver(text)
    except RefusedError as refusal:  # it was not tried: later, when the circuit lets calls in
        if self.request.retries == self.max_retries:
            return keep(text)
        raise self.retry(countdown=min(refusal.retry_after or 10, 60), exc=refusal) from refusal
    except httpx.HTTPError:  # it was tried, and failed: the fallback of a task is yours to say
        return keep(text)


if __name__ == "__main__":
    # A worker serves no HTTP. Any process of the host shows the counts of all.
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    make_server("127.0.0.1", port, metrics.wsgi_app()).serve_forever()
