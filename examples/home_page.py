"""A service whose home page needs the fat client, and lives on without it.

Run it with ``python examples/home_page.py``: a backend on loopback is well, then frozen, then well
again, and the page says at each time what a customer sees, and after how long.
"""

from __future__ import annotations

import http.server
import json
import threading
import time
from typing import Any

from recommendations_client import NoSuchUserError, RecommendationsClient

from resilient import Policy, bulkhead, circuit_breaker, fallback, timeout

TOP_100 = ["Heat", "Alien", "Ran"]


def top_100(user: int) -> list[str]:
    """What the page shows in the place of personal picks."""
    return TOP_100


recs = Policy(
    "recommendations",
    circuit_breaker(failure_threshold=3, recovery_timeout=0.5),
    bulkhead(20),
    timeout(0.3, sync="thread"),
    owner="team-recs",
    tier=3,
    impact="The home page shows the top 100 instead of personal picks.",
)
picks = recs.with_(fallback(top_100))  # the same breaker and slots, and an answer for picks alone


def wrapped(url: str) -> RecommendationsClient:
    """Return the fat client, guarded: this is all that the service adds."""
    return recs.wrap(
        RecommendationsClient(url),
        per_call={"picks": picks},
        ignore=NoSuchUserError,
    )


def home_page(client: RecommendationsClient, user: int) -> list[str]:
    """Return what the customer sees."""
    try:
        return client.picks(user)
    except NoSuchUserError:
        return ["welcome"]


# -- the story ---------------------------------------------


class Backend(http.server.BaseHTTPRequestHandler):
    """The recommendations, as long as they are well."""

    well = threading.Event()

    def do_GET(self) -> None:
        self.well.wait(10)
        if self.path.startswith("/picks/0"):
            self.send_error(404)
            return
        answers: dict[str, Any] = {
            "picks": {"movies": [f"a pick for {self.path.rpartition('/')[2]}"]},
            "ratings": {"stars": 4.5},
            "similar": {"movies": ["Thief"], "next": 2 if self.path.endswith("=1") else None},
        }
        body = json.dumps(answers[self.path.split("/")[1]]).encode()
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


def look(client: RecommendationsClient, when: str, user: int) -> list[str]:
    """Print what a customer sees, and after how long."""
    began = time.monotonic()
    page = home_page(client, user)
    print(f"{when}: {page} after {time.monotonic() - began:.1f} s; the circuit is {recs.state}")
    return page


def main() -> None:
    """Tell the story."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Backend)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    client = wrapped(f"http://127.0.0.1:{server.server_address[1]}")
    Backend.well.set()
    look(client, "well", 1)
    look(client, "a user without a profile", 0)
    Backend.well.clear()
    for user in range(2, 6):
        look(client, "frozen", user)
    Backend.well.set()
    time.sleep(0.6)
    look(client, "well again", 6)
    client.close()
    server.shutdown()


if __name__ == "__main__":
    main()
