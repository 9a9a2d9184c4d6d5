"""boto3 and botocore: their errors by code, and time limits that end with the deadline."""

# pyright: basic
from __future__ import annotations

from typing import Any, ClassVar, Final

import botocore.exceptions as errors

from ..deadline import check, enclosing, remaining
from ..knowledge.error_families import Family
from ..outcomes import Judge
from ..policy.clients.adapter import ClientAdapter
from .common import FAILED_STATUSES
from .urllib3 import DeadlineTimeout, bind_pools

_OWN: Final = (  # these errors are raised before anything is sent
    errors.ParamValidationError,
    errors.ValidationError,
    errors.UnknownServiceError,
    errors.NoCredentialsError,
    errors.PaginationError,
    errors.OperationNotPageableError,
)
# AWS reports these with status 400.
_THROTTLED: Final = frozenset({
    "BandwidthLimitExceeded", "EC2ThrottledException", "LimitExceededException",
    "PriorRequestNotComplete", "ProvisionedThroughputExceededException", "RequestLimitExceeded",
    "RequestThrottled", "RequestThrottledException", "RequestTimeout", "RequestTimeoutException",
    "SlowDown", "ThrottledException", "Throttling", "ThrottlingException",
    "TooManyRequestsException", "TransactionInProgressException",
})  # fmt: skip


def callers_fault(error: Exception) -> bool:
    """Return whether an error is the caller's own doing, not a failure of the service.

    For ``ignore=`` of a guard: a missing key, a denied access, what was found wrong
    before it was sent. `Policy.wrap` and `resilient.patch` apply it by
    themselves.

    Args:
        error: what a call raised.

    Returns:
        True if the service is not to blame.

    Example:
        >>> import botocore.exceptions as errors
        >>> from resilient.integrations.boto3 import callers_fault
        >>> callers_fault(errors.NoCredentialsError())
        True
    """
    if not isinstance(error, errors.ClientError):
        return isinstance(error, _OWN)
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    code = error.response.get("Error", {}).get("Code", "")
    return code not in _THROTTLED and 400 <= status < 500 and status not in FAILED_STATUSES


_PARTS: Final = ("botocore.paginate", "botocore.response", "botocore.waiter")


class _Shape:
    """The attributes of the library's errors that their handlers read."""

    fmt: ClassVar[str] = "{msg}"

    @property
    def kwargs(self) -> dict[str, Any]:
        """The fields of the message."""
        return {"msg": str(self)}


class Boto3Client(ClientAdapter):
    """What `Policy.wrap` knows of a boto3 or botocore client."""

    judge: ClassVar[Judge | None] = Judge(ignore=callers_fault)
    family: ClassVar[Family | None] = Family("botocore", errors.BotoCoreError, _Shape)
    timeouts: ClassVar[tuple[type[Exception], ...]] = (errors.HTTPClientError,)

    _FREE: ClassVar[frozenset[str]] = frozenset(
        {"can_paginate", "generate_presigned_post", "generate_presigned_url", "get_paginator",
         "get_waiter"}
    )  # fmt: skip

    def asks_again(self, client: Any) -> str:
        about = getattr(client.meta.config, "retries", None) or {}
        total = about.get("total_max_attempts", about.get("max_attempts", 4) + 1)
        return f"{total - 1} times (Config(retries=...))" if total > 1 else ""

    def free(self, cls: type, name: str) -> bool:
        return name in self._FREE or (cls.__name__ == "Paginator" and name == "paginate")

    _PARTS: ClassVar[tuple[str, ...]] = (
        "botocore.paginate",
        "botocore.waiter",
        "botocore.response",
    )

    def is_part(self, value: Any) -> bool | None:
        return type(value).__module__ in self._PARTS or None

    def is_data(self, cls: type) -> bool:
        return cls.__module__.startswith("botocore.") and cls.__module__ != "botocore.client"

    def prepare(self, client: Any) -> None:
        events = getattr(getattr(client, "meta", None), "events", None)
        if events is None:
            return
        events.register("before-send", _in_time, unique_id="resilient-deadline")
        endpoint = client._endpoint
        if not isinstance(endpoint._event_emitter, _Emitter):
            endpoint._event_emitter = _Emitter(endpoint._event_emitter)
        manager = getattr(endpoint.http_session, "_manager", None)
        options = getattr(manager, "connection_pool_kw", {})
        if "timeout" in options and not isinstance(options["timeout"], DeadlineTimeout):
            options["timeout"] = DeadlineTimeout.of(options["timeout"])
            bind_pools(manager)


def _in_time(**_: Any) -> None:
    check()  # before each attempt: botocore retries by itself


class _Emitter:
    """An endpoint's events, without retries whose pause would end after the deadline."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def emit(self, name: str, **event: Any) -> Any:
        responses = self._inner.emit(name, **event)
        found, left = enclosing(), remaining()
        if found is not None and left is not None and name.startswith("needs-retry."):
            pause = next((pause for _, pause in responses if pause is not None), None)
            if pause not in (None, False) and float(pause) >= left:
                raise found.error()
        return responses

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


ADAPTER: Final = Boto3Client()
