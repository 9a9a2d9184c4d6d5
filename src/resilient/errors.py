"""Every exception that resilient raises of its own."""

from __future__ import annotations


class ResilientError(Exception):
    """Base of every exception that resilient raises of its own.

    Attributes:
        policy: the name of the policy that raised it.
        guard: the kind of the guard that decided it, such as ``"bulkhead"``, or ``"policy"``
            where the decision was made at the policy's entry.
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
    """A guard did not let the call run: the protected function was not entered.

    Attributes:
        retry_after: seconds after which a new call may be let through, or None where that
            can't be known.
    """

    retry_after: float | None
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
    """The circuit is open, or the policy is forced open."""


class BulkheadFullError(RefusedError):
    """All slots of the bulkhead are taken and its line is full, or the wait in it was too long."""


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
    _deadline: object = None  # the `Deadline` that was up; not kept by pickle or copy

    def __init__(
        self, message: str, *, policy: str = "", guard: str = "timeout", timeout: float = 0.0
    ) -> None:
        super().__init__(message, policy=policy, guard=guard)
        self.timeout = timeout


class StoreError(ResilientError):
    """The store of flips could not be reached, or did not answer as a store should."""


class ThreadBoundWarning(UserWarning):
    """A wrapped object keeps state for each thread, so its calls can not be moved to a worker."""


class DeclarationWarning(UserWarning):
    """A guard or policy is declared where, or as, it does less than its reader would expect."""


class OrderWarning(UserWarning):
    """The order of a policy's guards makes one of them do less than its reader would expect."""
