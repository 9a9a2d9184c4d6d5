"""A server of HTTP/1.1 that behaves and misbehaves: see http_app.py for its paths."""

from __future__ import annotations

import http.client
import json
import sys
from pathlib import Path
from typing import Any

from tests.kit.servers.process import HOST, ServerProcess


class HttpServer(ServerProcess):
    """An HTTP server in a process of its own, with keep-alive."""

    name = "http"

    @property
    def url(self) -> str:
        """The address, without a slash at its end."""
        return f"http://{self.address}"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-P", str(Path(__file__).with_name("http_app.py")), str(self.port)]

    def counts(self) -> dict[str, int]:
        """Return how many requests each path has had, without its query."""
        counts: dict[str, int] = self._ask("/counts")
        return counts

    def connections(self) -> int:
        """Return how many connections others have open to it."""
        return int(self._ask("/connections")["open"])

    def answers(self) -> bool:
        """Say whether it answers."""
        return isinstance(self._ask("/counts"), dict)

    def clear(self) -> None:
        """Set the counts to zero."""
        self._ask("/counts?clear=1")

    def _ask(self, path: str) -> Any:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=5)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            return json.loads(connection.getresponse().read())
        except http.client.HTTPException as error:
            raise ConnectionError(str(error)) from error
        finally:
            connection.close()
