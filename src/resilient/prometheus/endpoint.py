"""/metrics for a service of any framework: our metrics, and those of prometheus_client."""

from __future__ import annotations

import importlib
import os
import sys
import threading
from typing import TYPE_CHECKING, Any, Final

from ..http_endpoint import Answer
from ..pages.sharing import here
from .scrape import Scraper
from .text_format import render

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

TEXT: Final = "text/plain; version=0.0.4; charset=utf-8"
OPEN: Final = "application/openmetrics-text; version=1.0.0; charset=utf-8"
_MULTIPROCESS: Final = ("PROMETHEUS_MULTIPROC_DIR", "prometheus_multiproc_dir")
_END: Final = b"# EOF\n"


class _Quiet(threading.local):
    on: bool = False


quiet: Final = _Quiet()  # if on, our collector on a registry of prometheus_client yields nothing


class Metrics:
    """Answers scrapes."""

    def __init__(self, registry: CollectorRegistry | None, limit: int) -> None:
        self._registry = registry
        self._scraper = Scraper(limit)
        here.warmers.add(self)

    def warm(self) -> None:
        """Have the text of most policies at hand before the first scrape."""
        render(self._scraper.scrape())

    def body(self, accept: str) -> tuple[bytes, str]:
        """Return the body of the answer, and its content type."""
        openmetrics = "application/openmetrics-text" in accept
        text = render(self._scraper.scrape(), openmetrics=openmetrics).encode(errors="replace")
        others = self._others(openmetrics=openmetrics)
        if not openmetrics:
            return text + others, TEXT
        return text + others.removesuffix(_END) + _END, OPEN

    def answer(self, accept: str) -> Answer:
        """Answer a request."""
        body, kind = self.body(accept)
        return 200, kind, body

    def _others(self, *, openmetrics: bool) -> bytes:
        """Return the metrics of prometheus_client, if the application has imported it."""
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
