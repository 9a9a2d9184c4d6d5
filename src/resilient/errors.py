"""The exceptions that resilient itself raises."""

from __future__ import annotations


class ResilientError(Exception):
    """Base of every exception that resilient itself raises.

    Attributes:
        policy: the name of the policy that raised it.
        guard: the kind of the guard that raised it, such as ``"bulkhead"``, or ``"policy"`` if the
            policy refused the call at its entry.
    """

    policy: str
    guard: str

    def __init__(self, message: str, *, policy: str = "", guard: str = "policy") -> None:
        super().__init__(message)
        self.policy = policy
        self.guard = guard

    def __reduce__(self) -> tuple[object, ...]:
        state = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
        return _rebuild, (type(self), self.args[0], state)


def _rebuild(kind: type[ResilientError], message: str, state: dict[str, object]) -> ResilientError:
    error = kind.__new__(kind, message)
    error.args = (message,)
    error.__dict__.update(state)
    return error


class RefusedError(ResilientError):
    """A guard refused the call: the protected function did not run.

    Attributes:
        retry_after: seconds after which the guard may admit a new call, or None if that
            can't be known.
        key: the key whose guard refused it; ``""`` without one.
    """

    retry_after: float | None
    key: str = ""
    _core: object = None  # of the policy that refused; not kept by pickle or copy

    def __init__(
        self,
        message: str,
        *,
        policy: str = "",
        guard: str = "policy",
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message, policy=policy, guard=guard)
        self.retry_after = retry_after


class CircuitOpenError(RefusedError):
    """The circuit is open, or closed with a ramp, or the policy is forced open."""


class BulkheadFullError(RefusedError):
    """All slots of the bulkhead are taken and its queue is full, or the wait was too long."""


class RateLimitedError(RefusedError):
    """The rate limit lets no more calls begin for now."""


class ConcurrencyLimitedError(RefusedError):
    """As many calls run as the concurrency limit lets run by now."""


class ThrottledError(RefusedError):
    """The throttle refuses a share of the calls, and this is one of them."""


class WorkersBusyError(RefusedError):
    """No worker thread was free for a ``timeout(..., sync="thread")``."""


class FlagOffError(RefusedError):
    """The flag of a kill switch is off."""


class ReentrantCallError(RefusedError):
    """A finalizer or signal handler called a policy from inside that policy's bookkeeping."""


class CallTimeoutError(ResilientError, TimeoutError):
    """The call took longer than a timeout allowed.

    Attributes:
        timeout: the limit that ran out, in seconds.
    """

    timeout: float
    _deadline: object = None  # the `Deadline` that expired; not kept by pickle or copy

    def __init__(
        self, message: str, *, policy: str = "", guard: str = "timeout", timeout: float = 0.0
    ) -> None:
        super().__init__(message, policy=policy, guard=guard)
        self.timeout = timeout


class StoreError(ResilientError):
    """The store of flips could not be reached, or gave an answer that no store gives."""


class ThreadBoundWarning(UserWarning):
    """A wrapped object keeps state for each thread, so its calls can't run on a worker thread."""


class DeclarationWarning(UserWarning):
    """A guard or policy is declared in a way in which it does less than a reader would expect."""


class OrderWarning(UserWarning):
    """The order of a policy's guards makes one of them do less than a reader would expect."""
