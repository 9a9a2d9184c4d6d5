"""grpcio: client interceptors, sync and aio; each call carries the deadline as gRPC's own.

gRPC bounds its calls itself, so ``sync="thread"`` needs no thread here: the time limit of the
policy, or what is left of an enclosing one, becomes the call's ``timeout``, which gRPC sends as
metadata to the server.
"""

# pyright: basic
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar, Final

import grpc
import grpc.aio

from ..deadline import raise_if_up
from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from ..policy.clients.client_policy import ClientPolicy
from ..policy.clients.lasting import Lasting
from .grpc_aio import AsyncStreamStream, AsyncStreamUnary, AsyncUnaryStream, AsyncUnaryUnary
from .grpc_calls import JUDGE, SyncDetails, callers_fault, in_time
from .grpc_errors import FAMILY

if TYPE_CHECKING:
    from ..policy.policy import Policy

__all__ = ("ADAPTER", "GrpcClient", "Interceptor", "aio_interceptors", "callers_fault")


class Interceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Sends every call of a channel through a policy; for ``grpc.intercept_channel``.

    The policy guards a call with a streamed answer until the stream ends, and
    ``stub.Method.future(...)`` until it is done; no fallback answers these. A refusal or timeout
    that it raises is a `grpc.RpcError` as well, with a code and details.

    Args:
        policy: guards the calls. A fallback gets the request, and returns a response.

    Example:
        >>> import grpc
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.grpc import Interceptor
        >>> users = Policy("users-grpc", circuit_breaker(), timeout(0.5, sync="cooperative"))
        >>> channel = grpc.insecure_channel("127.0.0.1:50051")
        >>> guarded = grpc.intercept_channel(channel, Interceptor(users))
        >>> channel.close()
    """

    def __init__(self, policy: Policy) -> None:
        self._guarding = ClientPolicy(policy, (JUDGE,), inline=True, kin=FAMILY.error)
        self._unary = self._guarding.function("sync", _unary, skip=2)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        """Guard a call with one request and one response."""
        if ".future." in getattr(continuation, "__qualname__", ""):
            return self._future(continuation, details, request)
        return _outcome(self._unary(continuation, details, request))

    def intercept_stream_unary(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        """Guard a call with a stream of requests and one response."""
        return self.intercept_unary_unary(continuation, details, request_iterator)

    def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        """Guard a call with one request and a stream of responses."""
        return self._stream(continuation, details, request)

    def intercept_stream_stream(
        self, continuation: Any, details: Any, request_iterator: Any
    ) -> Any:
        """Guard a call with a stream of requests and one of responses."""
        return self._stream(continuation, details, request_iterator)

    def _future(self, continuation: Any, details: Any, request: Any) -> Any:
        lasting = self._guarding.lasting()
        call = _begun(lasting, continuation, details, request)
        call.add_done_callback(lambda done: lasting.end(_error_of(done)))
        return call

    def _stream(self, continuation: Any, details: Any, request: Any) -> _Stream:
        lasting = self._guarding.lasting()
        return _Stream(lasting, _begun(lasting, continuation, details, request))


def _begun(lasting: Lasting, continuation: Any, details: Any, request: Any) -> Any:
    try:
        with lasting.within():
            return continuation(in_time(SyncDetails, details), request)
    except BaseException as error:
        lasting.end(error)
        raise


def _error_of(call: Any) -> BaseException | None:
    try:
        error: BaseException | None = call.exception()
    except grpc.FutureCancelledError:
        return GeneratorExit()  # the caller's own doing
    return error


def _unary(continuation: Any, details: Any, request: Any) -> Any:
    outcome = continuation(in_time(SyncDetails, details), request)
    error = outcome.exception()
    if error is not None:
        if getattr(error, "code", lambda: None)() == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise_if_up()
        raise error
    return outcome


def _outcome(answer: Any) -> Any:
    """Return a call's result, or a fallback's response, in the form that grpc requires."""
    return answer if hasattr(answer, "add_done_callback") else _Answer(answer)


class _Answer:
    """A fallback's response, in the form of a finished call."""

    def __init__(self, response: Any) -> None:
        self._response = response

    def result(self, timeout: float | None = None) -> Any:
        return self._response

    def exception(self, timeout: float | None = None) -> None:
        return None

    def traceback(self, timeout: float | None = None) -> None:
        return None

    def code(self) -> Any:
        return grpc.StatusCode.OK

    def details(self) -> str:
        return "answered by a fallback"

    def initial_metadata(self) -> tuple[Any, ...]:
        return ()

    trailing_metadata = initial_metadata

    def done(self) -> bool:
        return True

    def cancelled(self) -> bool:
        return False

    def add_done_callback(self, fn: Callable[[Any], object]) -> None:
        fn(self)


class _Stream:
    """A stream of responses that reports how it ended; otherwise it acts as grpc's call."""

    def __init__(self, lasting: Lasting, call: Any) -> None:
        self._lasting = lasting
        self._call = call

    @property  # type: ignore[misc]
    def __class__(self) -> Any:  # for isinstance(stream, grpc.Call)
        return self._call.__class__

    def __iter__(self) -> _Stream:
        return self

    def __next__(self) -> Any:
        try:
            return next(self._call)
        except StopIteration:
            self._lasting.end(None)
            raise
        except BaseException as error:
            told = self._lasting.end(error)
            if told is not None and told is not error:
                raise told from error
            raise

    def cancel(self) -> Any:
        """End the stream."""
        self._lasting.end(GeneratorExit())
        return self._call.cancel()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._call, name)


def aio_interceptors(policy: Policy) -> list[Any]:
    """Return the interceptors that send every call of an aio channel through a policy.

    Args:
        policy: guards the calls. A fallback gets the request, and returns a response.

    Returns:
        One for each of gRPC's four kinds of call, for ``grpc.aio.insecure_channel(...,
        interceptors=...)``.

    Example:
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.grpc import aio_interceptors
        >>> orders = Policy("orders-grpc", circuit_breaker(), timeout(0.5))
        >>> len(aio_interceptors(orders))
        4
    """
    kinds = AsyncUnaryUnary, AsyncUnaryStream, AsyncStreamUnary, AsyncStreamStream
    return [kind(policy) for kind in kinds]


class GrpcClient(ClientAdapter):
    """What `Policy.wrap` and `resilient.patch` know of a channel and its calls."""

    judge: ClassVar[Judge | None] = JUDGE
    family: ClassVar[Family | None] = FAMILY


ADAPTER: Final = GrpcClient()
