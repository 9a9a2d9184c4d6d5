"""A process whose policies have keys and a shadow: each line of its input says which call to make."""

from __future__ import annotations

import sys

from resilient import Policy, bulkhead, circuit_breaker

shards = Policy("shards", circuit_breaker(), bulkhead(20))
per_shard = shards.keyed(lambda shard, *_: shard)
tried = Policy("tried", circuit_breaker(), bulkhead(20))
tried.shadow(circuit_breaker(failure_threshold=1))


def body(shard: str, *words: str) -> str:
    """Fail if that is asked for."""
    if "fail" in words:
        raise OSError("down")
    return shard


def called(name: str, *words: str) -> str:
    """Call a policy, or a shard; return what came of it."""
    policy = tried if name == "tried" else per_shard
    times = 1200 if "many" in words else 1
    try:
        return [policy.call(body, name, *words) for _ in range(times)][-1]
    except Exception as error:
        return type(error).__name__


def main() -> None:
    """Obey line after line."""
    print("ready", flush=True)
    for line in sys.stdin:
        print(called(*line.split()), flush=True)


if __name__ == "__main__":
    main()
