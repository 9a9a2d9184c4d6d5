"""requests: an adapter that guards every request that a session sends through it."""

# pyright: basic
from __future__ import annotations

from functools import update_wrapper
from typing import TYPE_CHECKING, Any, ClassVar, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ..deadline import check, enclosing, remaining
from ..knowledge.error_families import Family
from ..knowledge.repeats import once_over_http
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from ..policy.clients.client_policy import ClientPolicy
from .common import (
    FAILED_STATUSES,
    carry_prepared,
    cut_when_abandoned,
    methods_of,
    overran,
    shortened,
    shorter,
)
from .requests_errors import FAMILY
from .urllib3 import bind_pool, deadline_retry, look_at_deadline, socket_of, within

if TYPE_CHECKING:
    from ..policy.policy import Policy

_OWN: Final = (  # the caller's own errors, raised before anything reached the server
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidJSONError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.StreamConsumedError,
    requests.exceptions.TooManyRedirects,
    requests.exceptions.UnrewindableBodyError,
)


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the server.

    For ``ignore=`` of a guard: a bad URL, too many redirects, and `raise_for_status` errors for any
    status but 429, 500, 502, 503 and 504. `Policy.wrap`, `resilient.patch` and the adapter
    apply it by themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the server is not to blame.

    Example:
        >>> import requests
        >>> from resilient.integrations.requests import callers_fault
        >>> callers_fault(requests.exceptions.InvalidURL()), callers_fault(requests.Timeout())
        (True, False)
    """
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return False
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code not in FAILED_STATUSES
    return isinstance(error, _OWN)


def failed_response(response: object) -> bool:
    """Return whether a response is a failure of the server: 429, 500, 502, 503 or 504.

    For ``failed_result=`` of a guard; see `callers_fault`.

    Args:
        response: what a call returned. Anything but a `requests.Response` is not a failure.

    Returns:
        True if the server has failed, though it answered.

    Example:
        >>> import requests
        >>> from resilient.integrations.requests import failed_response
        >>> busy = requests.Response()
        >>> busy.status_code = 503
        >>> failed_response(busy), failed_response(None)
        (True, False)
    """
    return isinstance(response, requests.Response) and response.status_code in FAILED_STATUSES


JUDGE: Final = Judge(ignore=callers_fault, failed_result=failed_response)


class Adapter(HTTPAdapter):
    """An adapter that sends every request through a policy; mount it on a session.

    Without ``stream=True`` the guarded call reads the body. A refusal or timeout that it raises is
    a `requests.RequestException` as well.

    Args:
        policy: guards the requests. A fallback gets the arguments of
            `HTTPAdapter.send`, and must return a `requests.Response`.
        **options: the options of `HTTPAdapter`.

    Raises:
        TypeError: the policy's timeout does not say how to bound sync calls.

    Example:
        >>> import requests
        >>> from resilient import Policy, circuit_breaker, timeout
        >>> from resilient.integrations.requests import Adapter
        >>> stock = Policy("stock-api", circuit_breaker(), timeout(0.5, sync="thread"))
        >>> session = requests.Session()
        >>> session.mount("https://stock.example", Adapter(stock))
    """

    max_retries: Retry

    def __init__(self, policy: Policy, **options: Any) -> None:
        super().__init__(**options)
        self.max_retries = deadline_retry(self.max_retries)
        self._policy = policy
        self._guarded = ClientPolicy(
            policy, (JUDGE,), kin=FAMILY.error, once=once_over_http
        ).function("sync", self._send)

    def __getstate__(self) -> Any:
        raise TypeError(f"an adapter of the policy {self._policy.name} can't be pickled: mount one "
                        "in each process")  # fmt: skip

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request through the policy."""
        response: requests.Response = self._guarded(request, *args, **kwargs)
        return response

    def _send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        carry_prepared(request)
        return send_within(super().send, request, *args, **kwargs)


def send_within(
    send: Any, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
) -> requests.Response:
    """Send a request with time limits that end with the deadline, and read its body."""
    if remaining() is None:
        response: requests.Response = send(request, stream, timeout, *args, **kwargs)
    else:
        check()
        with shortened(requests.Timeout, requests.ConnectionError):
            # requests itself rejects a tuple of another length, with a better message.
            odd = isinstance(timeout, tuple) and len(timeout) != 2
            limits = timeout if odd else within(timeout)
            response = send(request, stream, limits, *args, **kwargs)
    _read(response, stream=stream)
    return response


def _read(response: requests.Response, *, stream: bool) -> None:
    """Read a body within the deadline, unless it is streamed."""
    cut_when_abandoned(response.raw, socket_of)
    if not stream:
        look_at_deadline(response.raw)
        with shortened(requests.Timeout, requests.ConnectionError):
            response.content  # noqa: B018 - it reads the body, and keeps it


class RequestsClient(ClientAdapter):
    """What `Policy.wrap` knows of a `requests.Session`."""

    speaks_http: ClassVar[bool] = True
    judge: ClassVar[Judge | None] = JUDGE
    family: ClassVar[Family | None] = FAMILY

    _FREE: ClassVar[frozenset[str]] = frozenset({
        "get_adapter", "get_redirect_target", "merge_environment_settings", "mount",
        "prepare_request", "rebuild_auth", "rebuild_method", "rebuild_proxies",
        "should_strip_auth", "__enter__",
    })  # fmt: skip

    def asks_again(self, client: Any) -> str:
        totals = [getattr(each.max_retries, "total", 0) for each in client.adapters.values()]
        most = max((each for each in totals if isinstance(each, int)), default=0)
        return f"{most} times (HTTPAdapter's max_retries)" if most else ""

    def free(self, cls: type, name: str) -> bool:
        return name in self._FREE

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("requests") and not issubclass(cls, requests.Session)

    def prepare(self, client: Any) -> None:
        if not isinstance(client, requests.Session):
            return
        for adapter in client.adapters.values():
            _bind(adapter)
        if "get_adapter" in vars(client):
            return

        # The session calls this for each request: so later adapters are bound, too.
        def get_adapter(*args: Any, **kwargs: Any) -> Any:
            adapter = method("get_adapter")(*args, **kwargs)
            _bind(adapter)
            return adapter

        method = methods_of(client)
        client.get_adapter = update_wrapper(get_adapter, type(client).get_adapter)  # type: ignore[method-assign]


_PARTS: Final = ("stream", "timeout", "verify", "cert", "proxies")


def _bind(adapter: Any) -> None:
    """Make an adapter of a session keep to the deadline."""
    plain = hasattr(adapter, "__dict__") and hasattr(type(adapter), "send")  # not a mock
    if isinstance(adapter, Adapter) or not plain:
        return
    if hasattr(vars(adapter).get("send"), "_resilient"):
        return
    pooled, method, kind = isinstance(adapter, HTTPAdapter), methods_of(adapter), type(adapter)

    def send(request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        inner = method("send")
        given = dict(zip(_PARTS, args, strict=False)) | kwargs
        deadline = enclosing()
        if deadline is None:
            return inner(request, *args, **kwargs)  # type: ignore[no-any-return]
        check()
        if not pooled:  # otherwise the pool shortens it
            given["timeout"] = _shorter(given.get("timeout"))
        try:
            with shortened(requests.Timeout, requests.ConnectionError):
                response: requests.Response = inner(request, **given)
            _read(response, stream=bool(given.get("stream")))
        finally:
            overran(deadline, kind)
        return response

    adapter.send = update_wrapper(send, vars(adapter).get("send", kind.send))
    vars(adapter.send)["_resilient"] = True
    if pooled:
        adapter.max_retries = deadline_retry(adapter.max_retries)
        _bind_pools(adapter)


def _bind_pools(adapter: Any) -> None:
    """Make an adapter's pools keep to the deadline, whatever code gets them."""
    method, kind = methods_of(adapter), type(adapter)
    for name in ("get_connection_with_tls_context", "get_connection"):
        original = vars(adapter).get(name, getattr(kind, name, None))
        if original is None:
            continue

        def get(*args: Any, name: str = name, **kwargs: Any) -> Any:
            return bind_pool(method(name)(*args, **kwargs))

        setattr(adapter, name, update_wrapper(get, original))


def _shorter(timeout: Any) -> Any:
    """Return time limits, in the form that requests uses, shortened to the deadline."""
    if isinstance(timeout, tuple):
        return tuple(_shorter(each) for each in timeout)
    given = timeout is None or isinstance(timeout, (int, float))
    return shorter(timeout) if given else timeout


ADAPTER: Final = RequestsClient()
