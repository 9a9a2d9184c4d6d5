"""`hedge`, as users write it: a decorator and a part of a policy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .. import validation
from ..guards.hedge.hedge import Hedge
from ..outcomes import OnError, OnResult
from .decoration import is_decorated

if TYPE_CHECKING:
    from datetime import timedelta


@validation.keywords
def hedge(
    delay: float | timedelta | None = None,
    *,
    quantile: float | None = None,
    idempotent: bool = False,
    share: float = 0.05,
    join_within: float | timedelta = 1.0,
    on: OnError | None = None,
    ignore: OnError | None = None,
    failed_result: OnResult | None = None,
) -> Hedge:
    """Ask a slow dependency a second time before it has answered, and take what comes first.

    The second copy begins after a delay, runs beside the first, and passes the guards inside as
    the first did. The first good answer is the caller's. In async code the other copy is
    cancelled and waited for; a sync one runs on, on its worker thread, with its slot. Dean and
    Barroso, *The Tail at Scale*, 2013.

    Args:
        delay: seconds after which a second copy begins.
        quantile: the same as a share of the attempts, 0.5 to 0.999: a second copy begins when so
            many of them would have ended, by what was measured. There is none before 20 good
            attempts. Give this or ``delay``.
        idempotent: True, which says that it does no harm if the dependency does twice what it was
            asked once. Required.
        share: how many second copies each call pays for. Default 0.05: at most a twentieth more
            load, and 10 at once, and one in 10 seconds if there are no calls. The budget of a
            `retry` in the policy pays for them, too.
        join_within: for how many seconds the caller of an async call waits for a cancelled copy to
            clean up. Default 1. A copy that takes longer is left to itself, with its slot.
        on: exception types, or a predicate of the exception, that are no answer: the other copy is
            waited for. Default: every Exception.
        ignore: exception types, or a predicate, that are an answer. Default none.
        failed_result: a predicate of the value; if True, it is no answer. Default none.

    Returns:
        The guard.

    Raises:
        ValueError: an option is out of its range, or ``idempotent`` is not True.
        TypeError: an option is of a wrong type, or there is neither delay nor quantile, or both.

    Example:
        >>> import time
        >>> from resilient import hedge
        >>> pauses = iter([5.0, 0.0])  # the first copy hangs
        >>> @hedge(0.01, idempotent=True)
        ... def find():
        ...     time.sleep(next(pauses))
        ...     return "shoes"
        >>> find()
        'shoes'
    """
    if is_decorated(delay):
        given: Any = delay
        raise TypeError(
            f"@hedge needs its options, such as hedge(0.2, idempotent=True); got {given!r}"
        )
    return Hedge(
        delay,
        quantile=quantile,
        idempotent=idempotent,
        share=share,
        join_within=join_within,
        on=on,
        ignore=ignore,
        failed_result=failed_result,
    )
