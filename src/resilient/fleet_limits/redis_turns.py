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

from ..errors import StoreError
from ..flags.stores.address import Address
from ..flags.stores.redis_limits import Budget, pool
from ..flags.stores.redis_secrets import Secrets
from ..guards.rate_limit.asking import Request
from ..guards.rate_limit.fleet import Answer

_LATELY: Final = 30  # seconds for which a process that asked counts as one of the fleet
_JUMP: Final = 60  # seconds that a turn may lie ahead of any use: further, the clock was set back
_ANSWERED_WITHIN: Final = 0.5  # seconds; those who wait for it go on without it before
_MICRO: Final = 1_000_000

# Both begin and end alike: the time, and how many processes asked lately.
_BEGIN: Final = """
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])
local function whole(number) return string.format('%.0f', number) end
local said = {}
"""
_END: Final = f"""
redis.call('ZADD', KEYS[2], whole(now), ARGV[3])
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', whole(now - {_LATELY * _MICRO}))
redis.call('PEXPIRE', KEYS[2], {2 * _LATELY * 1000})
local known = redis.call('ZCARD', KEYS[2])
return {{whole(known), whole(following - now), unpack(said)}}
"""
# The generic cell rate algorithm: when the next call is due, in microseconds, and parts of one.
_SMOOTH: Final = f"""{_BEGIN}
local most, step, rest, parts, ahead = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5]),
  tonumber(ARGV[6]), tonumber(ARGV[7])
local last = now + tonumber(ARGV[2])
local there = redis.call('GET', KEYS[1]) or ''
local due, part = string.match(there, '^(%d+) (%d+)$')
due, part = tonumber(due), tonumber(part)
if not due or due < now or due - ahead > last + step + {_JUMP * _MICRO} then due, part = now, 0 end
if part >= parts then due, part = due + 1, 0 end
local function turn() return due - ahead + (part > 0 and 1 or 0) end
while #said < most and turn() <= last do
  said[#said + 1] = whole(math.max(0, turn() - now))
  due, part = due + step, part + rest
  if part >= parts then due, part = due + 1, part - parts end
end
if #said > 0 then
  local text = whole(due) .. ' ' .. whole(part)
  redis.call('SET', KEYS[1], text, 'PX', whole((due - now) / 1000 + 1000))
end
local following = turn()
{_END}"""
# A list of when the last calls were due, newest first.
_QUOTA: Final = f"""{_BEGIN}
local most, period, calls = tonumber(ARGV[1]), tonumber(ARGV[4]), tonumber(ARGV[5])
local last = now + tonumber(ARGV[2])
local newest = tonumber(redis.call('LINDEX', KEYS[1], 0))
if newest and newest > last + {_JUMP * _MICRO} then redis.call('DEL', KEYS[1]) end
local function turn()
  local first = tonumber(redis.call('LINDEX', KEYS[1], calls - 1))
  return first and math.max(now, first + period) or now
end
while #said < most and turn() <= last do
  local at = turn()
  redis.call('LPUSH', KEYS[1], whole(at))
  said[#said + 1] = whole(at - now)
end
for _ = 0, 2 * #said do
  if redis.call('LLEN', KEYS[1]) <= calls then break end
  if tonumber(redis.call('LINDEX', KEYS[1], -1)) + period > now then break end
  redis.call('RPOP', KEYS[1])
end
if #said > 0 then
  redis.call('PEXPIRE', KEYS[1], whole((last - now + period) / 1000 + 1000))
end
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

    def take(self, asked: Request) -> Answer:
        """Return the turns that it gives.

        Raises:
            StoreError: it does not answer, or not as it should.
        """
        period = ceil(asked.period * _MICRO)
        told: list[Any] = [asked.turns, floor(asked.within * _MICRO), self._me]
        if asked.quota:
            script, more = _QUOTA, [period, asked.max_calls]
        else:
            step, rest = divmod(period, asked.max_calls)
            ahead = (asked.burst - 1) * period // asked.max_calls
            script, more = _SMOOTH, [step, rest, asked.max_calls, ahead]
        keys = [f"{{{self._prefix}}}:{part}:{asked.key}" for part in ("turns", "askers")]
        self._budget.begin(_ANSWERED_WITHIN)
        try:
            said = self._redis.eval(script, len(keys), *keys, *told, *more)
            processes, following, *turns = (int(each) for each in said)
            return Answer(
                tuple(turn / _MICRO for turn in turns), following / _MICRO, max(1, processes)
            )
        except Exception as error:  # anything may come instead of an answer
            self.close()
            raise StoreError(self._secrets.told(error)) from error

    def close(self) -> None:
        """Never use the connection again."""
        self._redis.connection_pool.disconnect()
