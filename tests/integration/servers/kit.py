"""What the tests of servers' edges share: names, and ASGI applications driven by hand."""

from __future__ import annotations

import asyncio
import itertools
from typing import Any

from resilient import BulkheadFullError, CallTimeoutError, CircuitOpenError, Policy, RefusedError

_numbers = itertools.count(1)

# Header, and the longest and the shortest that is left then; None for no limit.
VALUES: list[tuple[str, float | None]] = [
    ("2", 2.0), ("0.5", 0.5), (" 1.5 ", 1.5), ("1e1", 10.0), ("+3", 3.0), ("0", 0.0), ("-0", 0.0),
    ("", None), ("soon", None), ("-1", None), ("nan", None), ("inf", None), ("-inf", None),
    ("1e999", None), ("2,3", None), ("0x10", None), ("2s", None), ("1 2", None), ("\u00b2", None),
    ("9" * 5000, None),
]  # fmt: skip

REFUSALS: list[tuple[float | None, str]] = [
    (None, "1"), (0.0, "1"), (0.2, "1"), (1.0, "1"), (1.2, "2"), (59.01, "60"), (-3.0, "1"),
]  # fmt: skip

ERRORS: dict[str, Exception] = {
    "refused": CircuitOpenError("stock: no", policy="stock", retry_after=2.5),
    "full": BulkheadFullError("stock: no", policy="stock"),
    "late": CallTimeoutError("stock: late", policy="stock", timeout=1.0),
    "other": LookupError("secret of the view"),
    "timeout": TimeoutError("not ours"),
}


def new_policy(*guards: Any) -> Policy:
    """Return a policy with a name that no other test uses."""
    return Policy(f"edge-{next(_numbers)}", *guards)


def refusal(wait: float | None) -> RefusedError:
    """Return a refusal."""
    return RefusedError("stock: no", policy="stock", retry_after=wait)


def near(left: float | None, wanted: float | None) -> bool:
    """Tell whether what is left is a bit less than what was wanted."""
    if left is None or wanted is None:
        return left is wanted
    return wanted - 3.0 <= left <= wanted  # so much later on a busy machine


def scope_of(
    headers: dict[str, str] | list[tuple[bytes, bytes]] | None = None,
    kind: str = "http",
    **more: Any,
) -> dict[str, Any]:
    """Return the scope of a request."""
    pairs = headers if isinstance(headers, list) else [
        (key.encode("latin-1"), value.encode("latin-1")) for key, value in (headers or {}).items()
    ]  # fmt: skip
    return {
        "type": kind, "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "path": "/",
        "raw_path": b"/", "query_string": b"", "root_path": "", "scheme": "http", "headers": pairs,
        "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), **more,
    }  # fmt: skip


async def drive(app: Any, scope: dict[str, Any]) -> list[dict[str, Any]]:
    """Run an ASGI application for one request, and return what it sent."""
    sent: list[dict[str, Any]] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive, send)
    return sent


def get(app: Any, headers: Any = None, **more: Any) -> list[dict[str, Any]]:
    """Do the same from a plain test."""
    return asyncio.run(drive(app, scope_of(headers, **more)))


def status_of(sent: list[dict[str, Any]]) -> tuple[int, dict[str, str], bytes]:
    """Return status, headers and body."""
    head = sent[0]
    fields = {key.decode(): value.decode() for key, value in head["headers"]}
    return head["status"], fields, b"".join(each.get("body", b"") for each in sent[1:])
