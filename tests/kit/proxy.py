"""A proxy for one TCP server that can be told to misbehave; see `Proxy.mode`."""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
import time
from typing import Any

GARBAGE = {
    "html": b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/html\r\n\r\n<html>no</html>\r\n",
    "huge": b"$99999999999\r\n" + b"x" * 100,
    "huge list": b"*2147483647\r\n",
    "wrong type": b":7\r\n",
    "list": b"*1\r\n$2\r\nno\r\n",
    "nothing": b"$-1\r\n",
    "not utf-8": b"*4\r\n$2\r\n\xff\xfe\r\n$1\r\n\xff\r\n$1\r\n\xff\r\n$1\r\n\xff\r\n",
    "not flips": b"*6\r\n$1\r\n1\r\n$1\r\n1\r\n$1\r\na\r\n$1\r\n9\r\n$1\r\n0\r\n:3\r\n",
    "nested": b"*1\r\n" * 5000,
    "READONLY": b"-READONLY You can't write against a read only replica.\r\n",
    "LOADING": b"-LOADING Redis is loading the dataset in memory\r\n",
    "OOM": b"-OOM command not allowed when used memory > 'maxmemory'.\r\n",
    "NOAUTH": b"-NOAUTH Authentication required.\r\n",
}


class Proxy:
    """Passes bytes on, until `mode` says otherwise.

    Modes: ``pass``; ``delay`` (number: seconds before each reply); ``drip`` (number: seconds
    between bytes); ``cut`` (number: bytes of reply, then the end); ``reset``; ``blackhole``;
    ``endless`` (a reply without an end, fast); and the words of GARBAGE, each answered for every
    request.
    """

    def __init__(self, port: int) -> None:
        self.mode, self.number = "pass", 0.0
        self.accepted = 0
        self._target = port
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._server.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._closed = False
        self._sockets: list[socket.socket] = []
        threading.Thread(target=self._accept, daemon=True).start()

    def set(self, mode: str, number: float = 0.0) -> None:
        """Behave otherwise from now on, also on open connections."""
        self.mode, self.number = mode, number

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._server.accept()
                self.accepted += 1
                self._sockets.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with contextlib.suppress(OSError), client:
            upstream: Any = None
            with contextlib.suppress(OSError):
                upstream = socket.create_connection(("127.0.0.1", self._target), 2)
                self._sockets.append(upstream)
                args = (upstream, client)
                threading.Thread(target=self._back, args=args, daemon=True).start()
            while data := client.recv(65536):
                mode = self.mode
                if mode == "reset":
                    linger = struct.pack("ii", 1, 0)
                    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    return
                if mode in GARBAGE:
                    client.sendall(GARBAGE[mode] * max(1, data.count(b"\r\n*") + 1))
                elif mode == "endless":
                    client.sendall(b"$99999999\r\n")
                    while not self._closed and self.mode == "endless":
                        client.sendall(b"x" * 65536)
                elif upstream is None:
                    return
                elif mode != "blackhole":
                    upstream.sendall(data)

    def _back(self, upstream: socket.socket, client: socket.socket) -> None:
        with contextlib.suppress(OSError), upstream:
            while data := upstream.recv(65536):
                mode, number = self.mode, self.number
                if mode == "delay":
                    time.sleep(number)
                    client.sendall(data)
                elif mode == "drip":
                    for place in range(len(data)):
                        client.sendall(data[place : place + 1])
                        time.sleep(number)
                elif mode == "cut":
                    client.sendall(data[: int(number)])
                    client.shutdown(socket.SHUT_RDWR)
                    return
                else:
                    client.sendall(data)
            client.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """End it, with every connection."""
        self._closed = True
        for sock in [self._server, *self._sockets]:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
            sock.close()
