"""Run a gRPC server of bytes, of service kit.Kit, on the loopback: grpc_app.py PORT."""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

Context = grpc.ServicerContext


def echo(request: bytes, context: Context) -> bytes:
    """Give back the request."""
    return request


def sleep(request: bytes, context: Context) -> bytes:
    """Answer after so many seconds, or not at all where the caller has left."""
    left = threading.Event()
    context.add_callback(left.set)
    left.wait(float(request))
    return b"slept"


def fail(request: bytes, context: Context) -> bytes:
    """Fail with the status of this name, as b"UNAVAILABLE"."""
    context.abort(grpc.StatusCode[request.decode()], "asked to fail")
    raise AssertionError("not reached")


def metadata(request: bytes, context: Context) -> bytes:
    """Give back, as JSON, the metadata as pairs, and the seconds left (null without a deadline)."""
    pairs = [
        [key, value.hex() if isinstance(value, bytes) else value]
        for key, value in context.invocation_metadata()
    ]
    remaining = context.time_remaining()
    endless = remaining is None or remaining > 1e8
    said = {"metadata": pairs, "time_remaining": None if endless else remaining}
    return json.dumps(said).encode()


def count(request: bytes, context: Context) -> Iterator[bytes]:
    """Give b"0", b"1" and so on; the request is how many, and after a blank the pause in seconds."""
    words = [*request.split(), b"0"]
    left = threading.Event()
    context.add_callback(left.set)
    for number in range(int(words[0])):
        if number:
            left.wait(float(words[1]))
        yield str(number).encode()


def add(requests: Iterator[bytes], context: Context) -> bytes:
    """Return the sum of the numbers."""
    return str(sum(int(each) for each in requests)).encode()


def chat(requests: Iterator[bytes], context: Context) -> Iterator[bytes]:
    """Give back each request."""
    yield from requests


HANDLERS = {
    "Echo": grpc.unary_unary_rpc_method_handler(echo),
    "Sleep": grpc.unary_unary_rpc_method_handler(sleep),
    "Fail": grpc.unary_unary_rpc_method_handler(fail),
    "Metadata": grpc.unary_unary_rpc_method_handler(metadata),
    "Count": grpc.unary_stream_rpc_method_handler(count),
    "Sum": grpc.stream_unary_rpc_method_handler(add),
    "Chat": grpc.stream_stream_rpc_method_handler(chat),
}


def main(port: str) -> None:
    """Serve until killed."""
    options = [("grpc.so_reuseport", 0)]  # a port that another has is an error
    server = grpc.server(ThreadPoolExecutor(64), options=options)
    handler = grpc.method_handlers_generic_handler("kit.Kit", HANDLERS)
    server.add_generic_rpc_handlers((handler,))
    server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main(sys.argv[1])
