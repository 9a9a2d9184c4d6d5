"""What our errors are to grpc's own handlers: errors of its own, with a code and details."""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast

import grpc
import grpc.aio

from ..errors import BulkheadFullError, CallTimeoutError, WorkersBusyError
from ..knowledge.error_families import Family


class _Shape:
    """What handlers of grpc's errors read of one, and interceptors of a call that has failed."""

    def code(self) -> grpc.StatusCode:
        """Return the status that a server would have answered with."""
        if isinstance(self, CallTimeoutError):
            return grpc.StatusCode.DEADLINE_EXCEEDED
        full = isinstance(self, (BulkheadFullError, WorkersBusyError))
        return grpc.StatusCode.RESOURCE_EXHAUSTED if full else grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        """Return why."""
        return str(self)

    debug_error_string = details

    def initial_metadata(self) -> Any:
        """Return what came before the answer: nothing."""
        return ()

    trailing_metadata = initial_metadata


class _SyncShape(_Shape, grpc.Call, grpc.Future):
    """The same, and the call that has ended so, as grpc's own error is."""

    def cancel(self) -> bool:
        return False

    cancelled = running = is_active = cancel

    def done(self) -> bool:
        return True

    def time_remaining(self) -> None:
        return None

    def add_callback(self, callback: Callable[[], None]) -> bool:
        return False  # it has ended, and will not be called

    def result(self, timeout: float | None = None) -> Any:
        raise cast("Exception", self)

    def exception(self, timeout: float | None = None) -> Any:
        return self

    def traceback(self, timeout: float | None = None) -> Any:
        return cast("Exception", self).__traceback__

    def add_done_callback(self, fn: Callable[[Any], None]) -> None:
        fn(self)


class _AioShape(_Shape):
    """The same, with the metadata of aio."""

    def initial_metadata(self) -> Any:
        return grpc.aio.Metadata()

    trailing_metadata = initial_metadata


FAMILY: Final = Family("grpc", grpc.RpcError, _SyncShape)
AIO_FAMILY: Final = Family("grpc.aio", grpc.aio.AioRpcError, _AioShape)
