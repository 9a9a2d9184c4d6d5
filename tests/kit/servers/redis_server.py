"""A redis-server that keeps nothing."""

from __future__ import annotations

import shutil
import socket

from tests.kit.servers.process import HOST, ServerProcess, needed


def redis_program() -> str | None:
    """Return where redis-server is, None where there is none."""
    return shutil.which("redis-server")


class RedisServer(ServerProcess):
    """A Redis of the tests' own."""

    name = "redis"

    def __init__(self, *options: str) -> None:
        self._options = options
        self._program = needed(
            redis_program(), "there is no redis-server on PATH", "RESILIENT_NEED_REDIS"
        )
        super().__init__()

    @property
    def url(self) -> str:
        """The address, for redis.from_url."""
        return f"redis://{self.address}/0"

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [
            self._program, *self._options, "--port", str(self.port), "--bind", HOST, "--save", "",
            "--appendonly", "no", "--dir", str(self.directory), "--daemonize", "no",
        ]  # fmt: skip

    def answers(self) -> bool:
        """Say whether it answers a PING, be it by asking for a password."""
        return self.send("PING").startswith((b"+PONG", b"-NOAUTH"))

    def clear(self) -> None:
        """Empty it."""
        assert self.send("FLUSHALL").startswith(b"+OK")

    def send(self, *words: str | bytes) -> bytes:
        """Send a command on a connection of its own, and return the beginning of the answer."""
        return send(self.port, *words)


def send(port: int, *words: str | bytes) -> bytes:
    """Send a command to a Redis, and return the beginning of the answer."""
    parts = [word.encode() if isinstance(word, str) else word for word in words]
    sent = b"*%d\r\n" % len(parts)
    sent += b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)
    with socket.create_connection((HOST, port), 2) as sock:
        sock.sendall(sent)
        return sock.recv(65536)
