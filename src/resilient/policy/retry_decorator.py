"""`retry`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal

from .. import validation
from ..guards.retry.retry import Retry
from ..outcomes import OnError, OnResult
from .decoration import is_decorated
from .retry_loops import loop

if TYPE_CHECKING:
    from datetime import timedelta


@validation.keywords
def retry(
    *given: Any,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
    attempts: int = 3,
    timeout: float | timedelta | None = None,
    wait_initial: float | timedelta = 0.1,
    wait_max: float | timedelta = 5.0,
    retry_after: Callable[[Any], float | None] | None = None,
    hold: bool = False,
    idempotent: bool = False,
    budget: float | None = 0.1,
    nested: Literal["share", "apart", "never"] = "share",
) -> Retry:
    """Ask again after a failure, and never too often.

    Guards inside it see each attempt, those outside it and the caller see one call. When there is
    no other attempt, the last error is raised as it is, with a note that says why. It never asks
    again after a refusal of its own policy, after a cancellation, for a stream that has given an
    item, or with less time left than a wait and an attempt take.

    Args:
        *given: nothing: ``retry`` is always written with ``on=``.
        on: exception types, or a predicate of the exception, to ask again after. Required, but
            with ``failed_result``: after an error that stays, another attempt only adds load. An
            error that a known client's library calls the caller's own doing, such as a 404, is not
            tried again unless a predicate says so.
        ignore: exception types, or a predicate, to leave out of those. Default none.
        failed_result: a predicate of the value; if True, it is asked again. The last value is
            returned as it is. Default none.
        attempts: how many there are at most, the first too. Default 3: more seldom help, and cost.
        timeout: no other attempt is asked for so many seconds after the first. It cuts off none:
            that is what a `timeout` is for. Default None: only the time limits round it count.
        wait_initial: the longest wait before the second attempt, in seconds; it doubles for each
            further one. The wait is drawn from nothing up to that, so that callers do not come
            back in step. Default 0.1.
        wait_max: no wait is longer, in seconds, whatever a server asks for. Default 5.
        retry_after: a plain function of the error, or of the failed value, that returns the seconds
            that the server asks to wait, or None. Default: what `Retry-After`, gRPC's pushback and
            ``retry_after`` of a refusal say. All retries of the policy keep to it.
        hold: have first attempts wait as well for the time that a server told; who has less time
            left is refused at once. Default False: only further attempts wait.
        idempotent: say that every method of a client that the policy wraps may be repeated. Default
            False: through `Policy.wrap` only HTTP methods that are idempotent are, and only with a
            body that can be sent again. A decorated function is yours to say, by decorating it.
        budget: how many extra attempts each call pays for. Default 0.1: at most a tenth more load,
            and 10 at once, and one in 10 seconds if there are no calls. None: no limit. A view
            of a policy keeps the policy's.
        nested: what an attempt inside an attempt of another policy is: paid by the budgets of both
            (``"share"``), by this one's alone (``"apart"``), or not made (``"never"``). Default
            ``"share"``, since attempts multiply.

    Returns:
        The guard.

    Raises:
        ValueError: an option is out of its range.
        TypeError: an option is of a wrong type, or ``on`` is missing.

    Example:
        >>> from resilient import retry
        >>> answers = iter([ConnectionError("reset"), "shoes"])
        >>> @retry(on=ConnectionError, wait_initial=0.001)
        ... def find():
        ...     answer = next(answers)
        ...     if isinstance(answer, Exception):
        ...         raise answer
        ...     return answer
        >>> find()
        'shoes'
    """
    if given:
        what = (
            "@retry needs its options" if is_decorated(given[0]) else "retry takes options by name"
        )
        raise TypeError(f"{what}, such as retry(on=ConnectionError, attempts=3); got {given[0]!r}")
    return Retry(
        on=on,
        ignore=ignore,
        failed_result=failed_result,
        attempts=attempts,
        timeout=timeout,
        wait_initial=wait_initial,
        wait_max=wait_max,
        retry_after=retry_after,
        hold=hold,
        idempotent=idempotent,
        budget=budget,
        nested=nested,
    )


Retry._loop = staticmethod(loop)
