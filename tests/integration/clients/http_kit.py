"""What the HTTP server can do to a client, and how each of it counts."""

from __future__ import annotations

import pytest

# A path, how its call is to be counted, and whether it is the deadline that ends it.
ANSWERS = {
    "/json": "success",
    "/chunked?n=3": "success",
    "/gzip": "success",
    "/redirect?to=/json&n=2": "success",
    "/status/204": "success",
    "/status/400": "success",
    "/status/401": "success",
    "/status/404": "success",
    "/status/422": "success",
    "/status/501": "success",
    "/status/429?retry_after=2": "failure",
    "/status/500": "failure",
    "/status/502": "failure",
    "/status/503?retry_after=2": "failure",
    "/status/504": "failure",
    "/reset": "failure",
    "/close": "failure",
    "/garbage": "failure",
}
TIMEOUTS = ["/hang", "/hang-body", "/drip?seconds=3&bytes=30"]

timeouts = pytest.mark.parametrize("path", TIMEOUTS)
