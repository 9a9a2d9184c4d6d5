"""A process that calls as often as its limit lets it: ``caller.py <threads>``.

It says ``ready`` when its first call has been answered, begins at a line of input with the time to
end, and then prints when each of its calls began, and how long calls waited, as JSON. The clock is
the machine's, the same in all processes.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time

from resilient import Policy, RateLimitedError, rate_limit

LIMIT = json.loads(os.environ["CALLER_LIMIT"])
maps = Policy("maps", rate_limit(**LIMIT, scope="fleet"))
began: list[float] = []
waits: list[float] = []


def call(until: float) -> None:
    """Call until then, and no more often than the limit says."""
    while (before := time.monotonic()) < until:
        result = maps.try_call(time.monotonic)
        if result.error is None:
            began.append(result.value)
            waits.append(result.value - before)
        else:
            waits.append(time.monotonic() - before)
            assert isinstance(result.error, RateLimitedError)
            time.sleep(min(0.02, max(0.0005, result.error.retry_after or 0.0)))


maps.try_call(time.monotonic)
print("ready", flush=True)
end = float(sys.stdin.readline())
threads = [threading.Thread(target=call, args=(end,)) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(json.dumps([began, waits]), flush=True)
