"""/metrics for a service of any framework: ours, and what prometheus_client has besides."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, Final

from .exposition import render
from .scraping import Scraper

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_MULTIPROCESS: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_END: Final = b"# EOF\n"

Message = MutableMapping[str, Any]
WSGI = Callable[[dict[str, Any], Callable[..., Any]], Iterable[bytes]]
ASGI = Callable[
    [Message, Callable[[], Awaitable[Message]], Callable[[Message], Awaitable[None]]],
    Awaitable[None],
]


class _Quiet(threading.local):
    on: bool = False


quiet: Final = _Quiet()  # while on, our collector on a registry of prometheus_client yields nothing


class Endpoint:
    """Answers scrapes."""

    def __init__(self, registry: CollectorRegistry | None, limit: int) -> None:
        self._registry = registry
        self._scraper = Scraper(limit)

    def body(self, accept: str) -> tuple[bytes, str]:
        """Return what is to be served, and its content type."""
        openmetrics = "application/openmetrics-text" in accept
        text = render(self._scraper.scrape(), openmetrics=openmetrics).encode()
        others = self._others(openmetrics=openmetrics)
        if not openmetrics:
            return text + others, TEXT
        return text + others.removesuffix(_END) + _END, OPEN

    def _others(self, *, openmetrics: bool) -> bytes:
        """Return what prometheus_client has, where the application has imported it."""
        registry, client = self._registry, sys.modules.get("prometheus_client")
        if client is None:
            return b""
        if registry is None and any(name in os.environ for name in _MULTIPROCESS):
            module: Any = importlib.import_module("prometheus_client.multiprocess")
            registry = client.CollectorRegistry()
            module.MultiProcessCollector(registry)
        form = "openmetrics.exposition" if openmetrics else "exposition"
        writer: Any = importlib.import_module(f"prometheus_client.{form}")
        quiet.on = True
        try:
            text: bytes = writer.generate_latest(client.REGISTRY if registry is None else registry)
        finally:
            quiet.on = False
        return text

    # -- frameworks ---------------------------------------------

    def wsgi(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        """Answer a request of WSGI."""
        if environ.get("REQUEST_METHOD") not in ("GET", "HEAD"):
            start_response("405 Method Not Allowed", [("Allow", "GET, HEAD")])
            return [b""]
        body, kind = self.body(environ.get("HTTP_ACCEPT", ""))
        head = environ.get("REQUEST_METHOD") == "HEAD"
        start_response("200 OK", [("Content-Type", kind), ("Content-Length", str(len(body)))])
        return [b"" if head else body]

    async def asgi(
        self,
        scope: Message,
        receive: Callable[[], Awaitable[Message]],
        send: Callable[[Message], Awaitable[None]],
    ) -> None:
        """Answer a request of ASGI; the work is done in a thread, and stops no other request."""
        if scope["type"] == "lifespan":
            await _lifespan(receive, send)
            return
        if scope["type"] != "http":
            raise ValueError(f"metrics are served over http; got {scope['type']!r}")
        if scope["method"] not in ("GET", "HEAD"):
            headers = [(b"allow", b"GET, HEAD")]
            await send({"type": "http.response.start", "status": 405, "headers": headers})
            await send({"type": "http.response.body", "body": b""})
            return
        from anyio.to_thread import run_sync

        accept = ",".join(v.decode("latin-1") for k, v in scope["headers"] if k == b"accept")
        body, kind = await run_sync(self.body, accept)
        headers = [
            (b"content-type", kind.encode()),
            (b"content-length", str(len(body)).encode()),
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({
            "type": "http.response.body", "body": b"" if scope["method"] == "HEAD" else body
        })  # fmt: skip


async def _lifespan(
    receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
