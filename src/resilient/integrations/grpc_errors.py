"""Our errors in grpc's form: with a code and details, for handlers of grpc's errors."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import grpc
import grpc.aio

from ..errors import BulkheadFullError, CallTimeoutError, WorkersBusyError
from ..knowledge.error_families import Family


class _Shape:
    """What handlers read of grpc's errors, and interceptors of a failed call."""

    def code(self) -> grpc.StatusCode:
        """Return the status of a server's corresponding answer."""
        if isinstance(self, CallTimeoutError):
            return grpc.StatusCode.DEADLINE_EXCEEDED
        full = isinstance(self, (BulkheadFullError, WorkersBusyError))
        return grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Return the reason."""
        return str(self)

    debug_error_string = details

    def initial_metadata(self) -> Any:
        """Return the metadata before the answer: none."""
        return ()

    trailing_metadata = initial_metadata


class _SyncShape(_Shape, grpc.Call, grpc.Future):
    """The same, and the failed call itself, as grpc's own errors are."""

    def cancel(self) -> bool:
        return False

    cancelled = running = is_active = cancel

    def done(self) -> bool:
        return True

    def time_remaining(self) -> None:
        return None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False  # it has ended: the callback will not run

    def result(self, timeout: float | None = None) -> Any:
        raise cast("Exception", self)

    def exception(self, timeout: float | None = None) -> Any:
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return cast("Exception", self).__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


class _AioShape(_Shape):
    """The same, with aio's type of metadata."""

    def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    trailing_metadata = initial_metadata


FAMILY: Final = Family("grpc", grpc.RpcError, _SyncShape)
AIO_FAMILY: Final = Family("grpc.aio", grpc.aio.AioRpcError, _AioShape)
