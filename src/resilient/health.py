"""The state of this process, for readiness checks and for people.

A failing dependency is no reason to take the service off the load balancer: the fallback is there
for that, and all processes would go at once. So this reports an open circuit, which makes a process
unready only if a name in `unready_on` asks for it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Final

from .admin.registry import registry
from .engine.policy_state import PolicyState
from .flags.runtime import here
from .guards.facets import Stateful
from .http_endpoint import ASGI, WSGI, Answer, Endpoint

__all__ = ("asgi_app", "report", "wsgi_app")

_CUT_OFF: Final = ("open", "forced_open")


def report(*, unready_on: Iterable[str] = ()) -> dict[str, Any]:
    """Return the state of the policies and flags of this process, as plain data.

    Args:
        unready_on: names of policies without which this process can't do its work: it is unready
            while one of them is open or forced open. Default none.

    Returns:
        ``ready``, a bool; ``status``, ``"ok"`` if nothing is cut off, else ``"degraded"``;
        ``policies``, those that are not closed, each with ``state``, ``why``, ``retry_after`` in
        seconds or None, ``owner`` and ``impact``; ``flags_off``, the flags that are turned off.

    Raises:
        LookupError: no policy has such a name.

    Example:
        >>> from resilient import health
        >>> health.report()["ready"]
        True
    """
    needed = {registry.find(name).name for name in unready_on}
    policies = {core.name: _told(core) for core in registry.cores() if core.state != "closed"}
    cut_off = {name for name, told in policies.items() if told["state"] in _CUT_OFF}
    flags_off = sorted(f.name for f in here.flags.all() if f.default and not f.state)
    return {
        "ready": not needed & cut_off,
        "status": "degraded" if cut_off or flags_off else "ok",
        "policies": policies,
        "flags_off": flags_off,
    }


def _told(core: PolicyState) -> dict[str, Any]:
    core.expire()
    return core.locked(_seen, core, core.now())


def _seen(core: PolicyState, now: float) -> dict[str, Any]:
    breakers = [g for g in core.guards if isinstance(g, Stateful) and g.state]
    return {
        "state": core.state,
        "why": core.why,
        "retry_after": breakers[0].retry_after(now) if breakers else None,
        "owner": core.owner,
        "impact": core.impact,
    }


def wsgi_app(*, unready_on: Iterable[str] = ()) -> WSGI:
    """Return a WSGI application that answers readiness checks: 200 if ready, else 503.

    Args:
        unready_on: see `report`. Default none: a dependency's failure is not this service's.

    Returns:
        The application. It answers GET and HEAD on every path with the report as JSON.

    Raises:
        LookupError: no policy has such a name; make policies before the application.

    Example:
        >>> from resilient import health
        >>> app = health.wsgi_app()
    """
    return _endpoint(unready_on).wsgi


def asgi_app(*, unready_on: Iterable[str] = ()) -> ASGI:
    """Return an ASGI application that answers readiness checks: 200 if ready, else 503.

    Args:
        unready_on: see `report`. Default none: a dependency's failure is not this service's.

    Returns:
        The application. It answers GET and HEAD on every path with the report as JSON.

    Raises:
        LookupError: no policy has such a name; make policies before the application.

    Example:
        >>> from resilient import health
        >>> app = health.asgi_app()
    """
    return _endpoint(unready_on).asgi


def _endpoint(unready_on: Iterable[str]) -> Endpoint:
    names = tuple(unready_on)
    for name in names:
        registry.find(name)

    def answer(_: str) -> Answer:
        said = report(unready_on=[name for name in names if name in registry.names()])
        return 200 if said["ready"] else 503, "application/json", json.dumps(said).encode()

    return Endpoint(answer, quick=True)
