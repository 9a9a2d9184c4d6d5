"""urllib3, under requests and botocore: time limits that end with the deadline."""

# pyright: basic
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from urllib3.util import Timeout

from ..deadline import check, remaining
from .common import shorter


def within(timeout: Any) -> Timeout:
    """Return the time limits of requests or urllib3, ended by the deadline."""
    if isinstance(timeout, Timeout):
        usual = timeout
    else:  # urllib3 refuses what is no number
        connect, read = timeout if isinstance(timeout, tuple) else (timeout, timeout)
        usual = Timeout(connect=connect, read=read)
    return Timeout(
        connect=_shorter(usual._connect), read=_shorter(usual._read), total=shorter(None)
    )


def _shorter(seconds: Any) -> float | None:
    return shorter(seconds if isinstance(seconds, (int, float)) else None)


def socket_of(raw: Any) -> Any:
    """Return the socket of a response that is not yet read, None of one that is."""
    return getattr(getattr(raw, "_connection", None), "sock", None)


def look_at_deadline(raw: Any) -> None:
    """Have a response look at the deadline after each piece of its body that arrives."""
    if remaining() is None or not hasattr(raw, "read1"):
        return
    inner = raw.stream

    def stream(amt: int = 65536, decode_content: bool | None = None) -> Iterator[bytes]:
        vars(raw).pop("stream", None)  # a response that holds this function is a cycle
        if raw.chunked and raw.supports_chunked_reads():
            for chunk in inner(amt, decode_content=decode_content):
                check()
                yield chunk
            return
        while True:
            chunk = raw.read1(amt, decode_content=decode_content)
            # At the end this one closes what http.client holds of the connection.
            chunk = chunk or raw.read(amt, decode_content=decode_content)
            check()
            if not chunk:
                return
            yield chunk

    raw.stream = stream


class DeadlineTimeout(Timeout):
    """Time limits of a pool, ended by the deadline for each request that is sent under one."""

    @classmethod
    def of(cls, usual: Any) -> DeadlineTimeout:
        """Return the same limits, for a pool."""
        if isinstance(usual, Timeout):
            return cls(connect=usual._connect, read=usual._read, total=usual.total)
        return cls(connect=usual, read=usual)

    def clone(self) -> Timeout:
        return super().clone() if remaining() is None else within(self)
