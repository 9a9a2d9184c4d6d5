"""A proxy that carries a flip to Redis, and loses the answer."""

from __future__ import annotations

import contextlib
import socket
import threading

FLIP = b"'conflict'"  # stands in the script that records a flip, and in no other


class Silencer:
    """Listens at a port of its own; the answers to the first few flips are lost."""

    def __init__(self, port: int, lost: int) -> None:
        self._to = port
        self._left = lost
        self.silenced = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(0.2)
        self.port = int(self._listener.getsockname()[1])
        self._over = False
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while not self._over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                continue
            far = socket.create_connection(("127.0.0.1", self._to), 2)
            silent = threading.Event()
            self._sockets += [near, far]
            for ends in ((near, far, True), (far, near, False)):
                threading.Thread(target=self._carry, args=(*ends, silent), daemon=True).start()

    def _carry(
        self, source: socket.socket, sink: socket.socket, up: bool, silent: threading.Event
    ) -> None:
        source.settimeout(10)
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if up and FLIP in data and self._left:
                    self._left -= 1
                    self.silenced += 1
                    silent.set()
                if up or not silent.is_set():
                    sink.sendall(data)

    def close(self) -> None:
        """Close all there is."""
        self._over = True
        self._thread.join(2)
        for each in [self._listener, *self._sockets]:
            with contextlib.suppress(OSError):
                each.close()
