"""Guards for calls to what can fail: circuit breaker, timeout, bulkhead, fallback, kill switch."""

from . import flags, integrations, startup
from .admin.activity import from_environment, set_active
from .admin.settings import load_settings
from .deadline import check, on_abandon, remaining
from .engine.blocks import Block
from .errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    DeclarationWarning,
    FlagOffError,
    OrderWarning,
    ReentrantCallError,
    RefusedError,
    ResilientError,
    StoreError,
    ThreadBoundWarning,
    WorkersBusyError,
)
from .events import Event
from .flag_handle import Flag
from .flags import configure, flag
from .guards.window import calls
from .outcomes import Result
from .policy.clients.explanation import Explained, Explanation
from .policy.decorators import bulkhead, circuit_breaker, fallback, kill_switch, timeout
from .policy.lookup import explain, policy_of, registry
from .policy.patching import Patch, patch
from .policy.policy import Policy
from .prometheus import import_hook

startup.install()


def _register_metrics() -> None:
    from . import metrics

    metrics.register()


import_hook.install(_register_metrics)
from_environment()

__version__ = "0.1.0"

__all__ = (
    "Block",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "DeclarationWarning",
    "Event",
    "Explained",
    "Explanation",
    "Flag",
    "FlagOffError",
    "OrderWarning",
    "Patch",
    "Policy",
    "ReentrantCallError",
    "RefusedError",
    "ResilientError",
    "Result",
    "StoreError",
    "ThreadBoundWarning",
    "WorkersBusyError",
    "bulkhead",
    "calls",
    "check",
    "circuit_breaker",
    "configure",
    "explain",
    "fallback",
    "flag",
    "flags",
    "integrations",
    "kill_switch",
    "load_settings",
    "on_abandon",
    "patch",
    "policy_of",
    "registry",
    "remaining",
    "set_active",
    "timeout",
)
