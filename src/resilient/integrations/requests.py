"""requests: an adapter that guards every request that a session sends through it."""

# pyright: basic
from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any, ClassVar, Final

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ..clients.guarding import Guarding
from ..clients.knowledge import Knowledge
from ..deadline import check, remaining
from ..outcomes import Judge
from .common import FAILED_STATUSES, cut_when_abandoned, shortened
from .urllib3 import deadline_retry, look_at_deadline, socket_of, within

if TYPE_CHECKING:
    from ..policy import Policy

_OWN: Final = (  # what the caller got wrong; none of it reached the server
    requests.exceptions.InvalidHeader,
    requests.exceptions.InvalidJSONError,
    requests.exceptions.InvalidSchema,
    requests.exceptions.InvalidURL,
    requests.exceptions.MissingSchema,
    requests.exceptions.StreamConsumedError,
    requests.exceptions.TooManyRedirects,
    requests.exceptions.UnrewindableBodyError,
)


def callers_own(error: Exception) -> bool:
    """Tell whether an error is no failure of the server: a bad URL, a status of the caller's."""
    if isinstance(error, requests.exceptions.JSONDecodeError):
        return False
    if isinstance(error, requests.HTTPError) and error.response is not None:
        return error.response.status_code not in FAILED_STATUSES
    return isinstance(error, _OWN)


def failed(response: object) -> bool:
    """Tell whether a response is a failure of the server: 429, 500, 502, 503 or 504."""
    return isinstance(response, requests.Response) and response.status_code in FAILED_STATUSES


JUDGE: Final = Judge(ignore=callers_own, failed_result=failed)


class Adapter(HTTPAdapter):
    """An adapter that sends every request through a policy; mount it on a session.

    Without ``stream=True`` the body is read within the guarded call.

    Args:
        policy: what guards the requests. A fallback gets the arguments of `HTTPAdapter.send`, and
            has to return a `requests.Response`.
        **options: those of `HTTPAdapter`.

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
        self._guarded = Guarding(policy, (JUDGE,)).function("sync", self._send)

    def __getstate__(self) -> Any:
        raise TypeError(f"an adapter of the policy {self._policy.name} can't be pickled: mount one "
                        "in each process")  # fmt: skip

    def send(self, request: Any, *args: Any, **kwargs: Any) -> requests.Response:
        """Send a request through the policy."""
        response: requests.Response = self._guarded(request, *args, **kwargs)
        return response

    def _send(
        self, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
    ) -> requests.Response:
        return send_within(super().send, request, stream, timeout, *args, **kwargs)


def send_within(
    send: Any, request: Any, stream: bool = False, timeout: Any = None, *args: Any, **kwargs: Any
) -> requests.Response:
    """Send a request with time limits that end with the deadline, and read its body."""
    if remaining() is None:
        response: requests.Response = send(request, stream, timeout, *args, **kwargs)
    else:
        check()
        with shortened(requests.Timeout, requests.ConnectionError):
            # A tuple of another length is left to requests, which says what is wrong with it.
            odd = isinstance(timeout, tuple) and len(timeout) != 2
            limits = timeout if odd else within(timeout)
            response = send(request, stream, limits, *args, **kwargs)
    cut_when_abandoned(response.raw, socket_of)
    if not stream:
        look_at_deadline(response.raw)
        with shortened(requests.Timeout, requests.ConnectionError):
            response.content  # noqa: B018 - it reads the body, and keeps it
    return response


class RequestsKnowledge(Knowledge):
    """What `Policy.wrap` knows of a `requests.Session`."""

    judge: ClassVar[Judge | None] = JUDGE

    _FREE: ClassVar[frozenset[str]] = frozenset({
        "get_adapter", "get_redirect_target", "merge_environment_settings", "mount",
        "prepare_request", "rebuild_auth", "rebuild_method", "rebuild_proxies",
        "should_strip_auth", "__enter__",
    })  # fmt: skip

    def free(self, cls: type, name: str) -> bool:
        return name in self._FREE

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("requests") and not issubclass(cls, requests.Session)

    def prepare(self, client: Any) -> None:
        for adapter in client.adapters.values() if isinstance(client, requests.Session) else ():
            if type(adapter) is HTTPAdapter and "send" not in vars(adapter):
                _bind(adapter)


def _bind(adapter: Any) -> None:
    """Have a session's own adapter keep to the deadline."""
    inner = adapter.send

    @wraps(inner)
    def send(*args: Any, **kwargs: Any) -> requests.Response:
        return send_within(inner, *args, **kwargs)

    adapter.send = send
    adapter.max_retries = deadline_retry(adapter.max_retries)


KNOWLEDGE: Final = RequestsKnowledge()
