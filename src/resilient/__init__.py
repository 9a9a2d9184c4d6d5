"""Guards for calls to what can fail: circuit breaker, timeout, bulkhead, fallback, kill switch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from . import flags, integrations, startup
from .admin.activity import from_environment, set_active
from .deadline import check, on_abandon, remaining
from .engine.blocks import Block
from .errors import (
    BulkheadFullError,
    CallTimeoutError,
    CircuitOpenError,
    ConcurrencyLimitedError,
    DeclarationWarning,
    FlagOffError,
    OrderWarning,
    RateLimitedError,
    ReentrantCallError,
    RefusedError,
    ResilientError,
    StoreError,
    ThreadBoundWarning,
    ThrottledError,
    WorkersBusyError,
)
from .events import Event
from .flag_handle import Flag
from .flags import configure, flag
from .guards.window import calls
from .outcomes import Result
from .policy.decorators import bulkhead, circuit_breaker, fallback, kill_switch, timeout
from .policy.lookup import explain, policy_of, registry
from .policy.policy import Policy
from .prometheus import import_hook
from .state_types import compiled as _core

if TYPE_CHECKING:
    from .admin.settings import load_settings
    from .engine.loops import Attempt
    from .policy.clients.explanation import Explained, Explanation
    from .policy.collapse_decorator import collapse
    from .policy.concurrency_limit_decorator import concurrency_limit
    from .policy.hedge_decorator import hedge
    from .policy.keyed import KeyedPolicy
    from .policy.last_good_decorator import last_good
    from .policy.patching import Patch, patch
    from .policy.rate_limit_decorator import rate_limit
    from .policy.retry_decorator import retry
    from .policy.throttle_decorator import throttle
    from .priority_levels import priority

startup.install()


def _register_metrics() -> None:
    from . import metrics

    metrics.register()


import_hook.install(_register_metrics)
from_environment()

__version__ = "0.1.0"

compiled: Final[bool] = _core is not None
"""Whether the compiled core runs here; else its twin in Python does, which costs a call more."""

_LATER: Final = {  # what most programs never ask for is loaded when it is asked for
    "Attempt": "engine.loops",
    "Explained": "policy.clients.explanation",
    "Explanation": "policy.clients.explanation",
    "KeyedPolicy": "policy.keyed",
    "Patch": "policy.patching",
    "collapse": "policy.collapse_decorator",
    "concurrency_limit": "policy.concurrency_limit_decorator",
    "hedge": "policy.hedge_decorator",
    "last_good": "policy.last_good_decorator",
    "load_settings": "admin.settings",
    "patch": "policy.patching",
    "priority": "priority_levels",
    "rate_limit": "policy.rate_limit_decorator",
    "retry": "policy.retry_decorator",
    "throttle": "policy.throttle_decorator",
}

__all__ = (
    "Attempt",
    "Block",
    "BulkheadFullError",
    "CallTimeoutError",
    "CircuitOpenError",
    "ConcurrencyLimitedError",
    "DeclarationWarning",
    "Event",
    "Explained",
    "Explanation",
    "Flag",
    "FlagOffError",
    "KeyedPolicy",
    "OrderWarning",
    "Patch",
    "Policy",
    "RateLimitedError",
    "ReentrantCallError",
    "RefusedError",
    "ResilientError",
    "Result",
    "StoreError",
    "ThreadBoundWarning",
    "ThrottledError",
    "WorkersBusyError",
    "bulkhead",
    "calls",
    "check",
    "circuit_breaker",
    "collapse",
    "compiled",
    "concurrency_limit",
    "configure",
    "explain",
    "fallback",
    "flag",
    "flags",
    "hedge",
    "integrations",
    "kill_switch",
    "last_good",
    "load_settings",
    "on_abandon",
    "patch",
    "policy_of",
    "priority",
    "rate_limit",
    "registry",
    "remaining",
    "retry",
    "set_active",
    "throttle",
    "timeout",
)


def __getattr__(name: str) -> Any:
    if name == "simulate":  # a package, which its import makes an attribute
        return import_module(f".{name}", __name__)
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}", name=name)
    found = getattr(import_module(f".{_LATER[name]}", __name__), name)
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
