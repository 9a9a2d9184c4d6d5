"""The turns of all limits of a fleet, in Redis or Valkey, by its own clock.

One short script a request: it reads the server's time, so that no other clock counts, and gives the
turns that come within a time. Whole microseconds and their fractions are exact in its numbers. Why
no library: see docs/decisions/0021-fleet-limits.md.
"""

from __future__ import annotations

import os
import socket
from math import ceil, floor
from typing import Any, Final
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from redis.exceptions import ResponseError

from ..errors import StoreError
from ..flags.stores.address import Address
from ..flags.stores.redis_limits import Budget, pool
from ..flags.stores.redis_secrets import Secrets
from ..guards.rate_limit.asking import Request
from ..guards.rate_limit.fleet import Answer

_LATELY: Final = 30  # seconds for which a process that asked counts as one of the fleet
_BACK: Final = 1  # seconds by which the server's clock may seem to go back
_ANSWERED_WITHIN: Final = 0.5  # seconds; those who wait for it go on without it before
_MICRO: Final = 1_000_000

# Both begin and end alike: the time, by how much it was set back, and how many processes asked.
_BEGIN: Final = f"""
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local most, last, spent = tonumber(ARGV[1]), now + tonumber(ARGV[2]), tonumber(ARGV[3])
local function whole(number) return string.format('%.0f', number) end
local left = redis.call('PTTL', KEYS[1])
local function keep(micros)
  redis.call('PEXPIRE', KEYS[1], whole(math.max(left, micros / 1000 + 1000)))
end
local seen, back, said = redis.call('ZRANGE', KEYS[2], -1, -1, 'WITHSCORES'), 0, {{}}
if seen[2] and tonumber(seen[2]) > now + {_BACK * _MICRO} then back = tonumber(seen[2]) - now end
"""
_END: Final = f"""
if back > 0 then redis.call('DEL', KEYS[2]) end
redis.call('ZADD', KEYS[2], whole(now), ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now - {_LATELY * _MICRO}))
redis.call('PEXPIRE', KEYS[2], {2 * _LATELY * 1000})
local known = redis.call('ZCARD', KEYS[2])
return {{whole(known), whole(following - now), unpack(said)}}
"""
# The generic cell rate algorithm: when the next call is due, in microseconds, and parts of one.
_SMOOTH: Final = f"""{_BEGIN}
local step, rest, parts, ahead = tonumber(ARGV[5]), tonumber(ARGV[6]), tonumber(ARGV[7]),
  tonumber(ARGV[8])
local due, part = string.match(redis.call('GET', KEYS[1]) or '', '^(%d+) (%d+)$')
due, part = tonumber(due), tonumber(part)
if due then due = due - back end
if not due or due < now then due, part = now, 0 end
if part >= parts then due, part = due + 1, 0 end
local function book()
  due, part = due + step, part + rest
  if part >= parts then due, part = due + 1, part - parts end
end
local function turn() return due - ahead + (part > 0 and 1 or 0) end
for _ = 1, spent do
  if turn() > last then break end  -- more than that holds nobody
  book()
end
while #said < most and turn() <= last do
  said[#said + 1] = whole(math.max(0, turn() - now))
  book()
end
if #said + spent > 0 or back > 0 then
  redis.call('SET', KEYS[1], whole(due) .. ' ' .. whole(part))
  keep(due - now)
end
local following = turn()
{_END}"""
# A list of when the last calls were due, newest first. A clock that was set back empties it.
_QUOTA: Final = f"""{_BEGIN}
local period, calls = tonumber(ARGV[5]), tonumber(ARGV[6])
if back > 0 then redis.call('DEL', KEYS[1]) end
local function turn()
  local first = tonumber(redis.call('LINDEX', KEYS[1], calls - 1))
  return first and math.max(now, first + period) or now
end
for _ = 1, spent do
  if turn() > last then break end
  local newest = tonumber(redis.call('LINDEX', KEYS[1], 0)) or now
  redis.call('LPUSH', KEYS[1], whole(math.max(now, newest)))
end
while #said < most and turn() <= last do
  local at = turn()
  redis.call('LPUSH', KEYS[1], whole(at))
  said[#said + 1] = whole(at - now)
end
for _ = 0, 2 * (#said + spent) do
  if redis.call('LLEN', KEYS[1]) <= calls then break end
  if tonumber(redis.call('LINDEX', KEYS[1], -1)) + period > now then break end
  redis.call('RPOP', KEYS[1])
end
if #said + spent > 0 then keep(math.max(now, last) - now + period) end
local following = turn()
{_END}"""


class RedisTurns:
    """The turns that one Redis gives."""

    def __init__(self, url: str) -> None:
        address = Address(url)
        self.url: str = url
        self._secrets: Final = Secrets(url, address)
        self._prefix = address.prefix
        self._budget = Budget()
        options = {k: v for k, v in address.options.items() if k != "prefix"}
        plain = urlunsplit(urlsplit(url)._replace(query=urlencode(options)))
        self._redis: Any = redis.Redis(connection_pool=pool(plain, self._budget))
        self._me = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"

    def take(self, requests: list[Request]) -> list[Answer | StoreError]:
        """Return what it answers to each request, in one round trip.

        Raises:
            StoreError: it does not answer, or not as it should.
        """
        self._budget.begin(_ANSWERED_WITHIN)
        try:
            pipe = self._redis.pipeline(transaction=False)
            for asked in requests:
                pipe.eval(*self._call(asked))
            return [self._answer(said) for said in pipe.execute(raise_on_error=False)]
        except Exception as error:  # anything may come instead of an answer
            self.close()
            raise StoreError(self._secrets.told(error)) from error

    def _call(self, asked: Request) -> list[Any]:
        """Return the script of a request, its keys and its arguments."""
        period = ceil(asked.period * _MICRO)
        told: list[Any] = [asked.turns, floor(asked.within * _MICRO), asked.spent, self._me]
        if asked.quota:
            script, more = _QUOTA, [period, asked.max_calls]
        else:
            step, rest = divmod(period, asked.max_calls)
            ahead = (asked.burst - 1) * period // asked.max_calls
            script, more = _SMOOTH, [step, rest, asked.max_calls, ahead]
        kind, key = "quota" if asked.quota else "turns", asked.key
        if asked.view:
            key += f":{asked.max_calls}/{asked.period!r}/{asked.burst}"
        keys = [f"{{{self._prefix}}}:{part}:{key}" for part in (kind, f"{kind}-askers")]
        return [script, len(keys), *keys, *told, *more]

    def _answer(self, said: Any) -> Answer | StoreError:
        if isinstance(said, ResponseError):  # of this limit alone
            return StoreError(self._secrets.told(said))
        processes, following, *turns = (int(each) for each in said)
        return Answer(tuple(turn / _MICRO for turn in turns), following / _MICRO, max(1, processes))

    def close(self) -> None:
        """Never use the connection again."""
        self._redis.connection_pool.disconnect()
