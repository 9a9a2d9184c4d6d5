"""A gRPC server of bytes, with no .proto: see grpc_app.py for what each method does."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from tests.kit.servers.process import ServerProcess

SERVICE = "kit.Kit"
METHODS = {
    "Echo": "unary_unary",
    "Sleep": "unary_unary",
    "Fail": "unary_unary",
    "Metadata": "unary_unary",
    "Count": "unary_stream",
    "Sum": "stream_unary",
    "Chat": "stream_stream",
}


class GrpcServer(ServerProcess):
    """A server of grpcio."""

    name = "grpc"

    @property
    def target(self) -> str:
        """What grpc.insecure_channel and grpc.aio.insecure_channel take."""
        return self.address

    def command(self) -> list[str]:
        """Return the command that starts it."""
        return [sys.executable, "-P", str(Path(__file__).with_name("grpc_app.py")), str(self.port)]

    def method(self, channel: Any, name: str) -> Any:
        """Return the callable of a method on a channel, of either colour: bytes in, bytes out."""
        return getattr(channel, METHODS[name])(f"/{SERVICE}/{name}")

    def answers(self) -> bool:
        """Say whether it echoes."""
        import grpc

        try:
            with grpc.insecure_channel(self.target) as channel:
                return self.method(channel, "Echo")(b"there?", timeout=1) == b"there?"
        except grpc.RpcError:
            return False
