"""The store of a fleet: Redis or Valkey.

Its keys are the truth; what is published is a hint that is worth a look. Each step that has to be
whole is one script. The follower alone comes here, so what matters is that nothing lasts: redis-py
waits and tries again by default, for seconds or for ever, so it is told not to, and each operation
has one deadline and one bound on what it reads, however slowly the other side drips.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from redis.exceptions import RedisError, ResponseError

from ... import checks
from ...errors import StoreError
from ..flips import Flip, flip_of
from .base import (
    ConflictError,
    Process,
    Reading,
    UnknownOutcomeError,
    entry_of,
    process_of,
    shown,
)
from .bounded import DEADLINE, Budget, pool

LONGEST_LOG: Final = 100_000

# A lever's field is "VERSION AT UNTIL JSON"; what the server decides stands before the JSON.
_FLIP: Final = """
local there = redis.call('HGET', KEYS[1], ARGV[1])
local version = 0
if there then
  version = tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0')
  if ARGV[3] ~= '' and string.find(there, ARGV[3], 1, true) then return {'made', there} end
end
if ARGV[2] ~= '' and tonumber(ARGV[2]) ~= version then
  return {'conflict', version > 0 and there or ''}
end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
local till = '-'
if ARGV[4] ~= '' then till = string.format('%.3f', ms / 1000 + tonumber(ARGV[4])) end
if last >= 1e15 then last = 0 end
local new = math.max(last + 1, ms)
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[6]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
local text = string.format('%.0f %.3f %s %s', new, ms / 1000, till, ARGV[5])
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', new))
redis.call('HSET', KEYS[1], ARGV[1], text)
redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[7], '*', 'lever', ARGV[1], 'flip', text)
redis.call('PUBLISH', KEYS[4], string.format('%.0f', new))
return {'made', text}
"""
# Several at once, all or none: each is a lever, its version, the request and the JSON.
_FLIP_ALL: Final = """
local made = {}
for i = 4, #ARGV, 4 do
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  if there and string.find(there, ARGV[i + 2], 1, true) then
    made[#made + 1] = there
  else
    local version = there and tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0') or 0
    if tonumber(ARGV[i + 1]) ~= version then
      return {'conflict', version > 0 and there or '', ARGV[i]}
    end
  end
end
if #made > 0 then return {'made', unpack(made)} end
local time = redis.call('TIME')
local ms = tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
if last >= 1e15 then last = 0 end
local till = '-'
if ARGV[3] ~= '' then till = string.format('%.3f', ms / 1000 + tonumber(ARGV[3])) end
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
for i = 4, #ARGV, 4 do
  last = math.max(last + 1, ms)
  local text = string.format('%.0f %.3f %s %s', last, ms / 1000, till, ARGV[i + 3])
  redis.call('HSET', KEYS[1], ARGV[i], text)
  redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*', 'lever', ARGV[i], 'flip', text)
  made[#made + 1] = text
end
redis.call('HSET', KEYS[2], 'version', string.format('%.0f', last))
redis.call('PUBLISH', KEYS[4], string.format('%.0f', last))
return {'made', unpack(made)}
"""
_RESTORE: Final = """
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[1]) == 1 then
  redis.call('HSET', KEYS[2], 'born', redis.call('TIME')[1])
end
local last = tonumber(redis.call('HGET', KEYS[2], 'version') or '0')
local written = 0
for i = 3, #ARGV, 3 do
  local there = redis.call('HGET', KEYS[1], ARGV[i])
  local new = tonumber(ARGV[i + 1])
  if not there or tonumber(string.match(there, '^(%d+) [%d.]+ %S+ {') or '0') < new then
    redis.call('HSET', KEYS[1], ARGV[i], ARGV[i + 2])
    redis.call('XADD', KEYS[3], 'MAXLEN', '~', ARGV[2], '*',
               'lever', ARGV[i], 'flip', ARGV[i + 2])
    last = math.max(last, new)
    written = written + 1
  end
end
if written > 0 then
  redis.call('HSET', KEYS[2], 'version', string.format('%.0f', last))
  redis.call('PUBLISH', KEYS[4], string.format('%.0f', last))
end
return written
"""
_READ: Final = """
local time = redis.call('TIME')
local life = redis.call('HGET', KEYS[2], 'incarnation') or ''
local last = redis.call('HGET', KEYS[2], 'version') or '0'
local born = redis.call('HGET', KEYS[2], 'born') or '0'
if life == ARGV[1] and last == ARGV[2] then return {time[1], time[2], life, last, born} end
return {time[1], time[2], life, last, born, redis.call('HGETALL', KEYS[1])}
"""
_BEAT: Final = """
local time = redis.call('TIME')
if redis.call('HSETNX', KEYS[2], 'incarnation', ARGV[4]) == 1 then
  redis.call('HSET', KEYS[2], 'born', time[1])
end
redis.call('HSET', KEYS[5], ARGV[1], time[1] .. '.' .. string.format('%06d', time[2]) .. ' '
           .. ARGV[2])
if ARGV[3] ~= '' then redis.call('HSET', KEYS[6], ARGV[1], ARGV[3]) end
return redis.call('HEXISTS', KEYS[6], ARGV[1])
"""
_PARTS: Final = ("levers", "meta", "log", "changes", "processes", "about")


class RedisStore:
    """Keeps flips in Redis; every process of the fleet that can reach it obeys them."""

    writable = True

    def __init__(self, url: str) -> None:
        self._shown = shown(url)
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query))
        prefix = checks.name_of("prefix", query.pop("prefix", "resilient"))
        self._budget = Budget()
        plain = urlunsplit(parts._replace(query=urlencode(query)))
        try:
            self._redis: Any = redis.Redis(connection_pool=pool(plain, self._budget))
        except (ValueError, TypeError) as error:
            kind = type(error).__name__  # its words may quote the password
            raise ValueError(f"store: {self._shown} can't be read as a URL ({kind})") from None
        self._keys = [f"{{{prefix}}}:{part}" for part in _PARTS]  # one slot of a cluster
        self._journal = f"{{{prefix}}}:journal"
        self._pubsub: Any = None

    # -- the levers ---------------------------------------------

    def read(self, incarnation: str, version: int) -> Reading:
        with self._reaching():
            said = self._run(_READ, incarnation, version)
            seconds, micros, life, last, born = (_text(each) for each in said[:5])
            flips = None
            if len(said) > 5:
                flips = _flips(said[5][1::2])
            now = int(seconds) + int(micros) / 1e6
            return Reading(
                incarnation=life, version=int(last), now=now, flips=flips, born=float(born)
            )

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        with self._reaching():
            self._redis.ping()  # what fails from here on may have been done
        with self._reaching(UnknownOutcomeError):
            how, there = self._run(
                _FLIP,
                flip.lever,
                "" if expected is None else expected,
                flip.request,
                "" if lasts is None else lasts,
                flip.as_json(),
                uuid4().hex,
                LONGEST_LOG,
            )
            if _text(how) == "conflict":
                raise ConflictError(_flip(there) if there else Flip(flip.lever, "released"))
            return _flip(there)

    def flip_all(self, flips: list[Flip], lasts: float | None, expected: list[int]) -> list[Flip]:
        told: list[Any] = [uuid4().hex, LONGEST_LOG, "" if lasts is None else lasts]
        for flip, at in zip(flips, expected, strict=True):
            told += [flip.lever, at, flip.request, flip.as_json()]
        with self._reaching():
            self._redis.ping()  # what fails from here on may have been done
        with self._reaching(UnknownOutcomeError):
            how, *there = self._run(_FLIP_ALL, *told)
            if _text(how) == "conflict":
                known, lever = there
                raise ConflictError(_flip(known) if known else Flip(_text(lever), "released"))
            return [_flip(each) for each in there]

    def restore(self, flips: list[Flip]) -> None:
        told: list[Any] = []
        for flip in flips:
            until = "-" if flip.until is None else f"{flip.until:.3f}"
            text = f"{flip.version} {flip.at:.3f} {until} {flip.as_json()}"
            told += [flip.lever, flip.version, text]
        with self._reaching():
            self._run(_RESTORE, uuid4().hex, LONGEST_LOG, *told)

    def log(self, lever: str | None, most: int) -> list[Flip]:
        # One lever's flips are picked out here: the stream has no index of them.
        with self._reaching(seconds=4 * DEADLINE):
            rows = self._redis.xrevrange(
                self._keys[2], count=most if lever is None else LONGEST_LOG
            )
            texts = [
                fields[b"flip"]
                for _, fields in rows
                if lever is None or _text(fields.get(b"lever", b"")) == lever
            ]
            return _flips(texts[:most])

    # -- the processes ---------------------------------------------

    def beat(self, process: Process, *, about: bool) -> None:
        who = {"host": process.host, "pid": process.pid, "program": process.program}
        told = json.dumps({**who, "about": process.about})
        with self._reaching():
            known = self._run(
                _BEAT, process.id, process.applied, told if about else "", uuid4().hex
            )
            if not known:
                self._run(_BEAT, process.id, process.applied, told, uuid4().hex)

    def processes(self) -> tuple[list[Process], float]:
        with self._reaching(seconds=2 * DEADLINE):
            pipe = self._redis.pipeline()
            pipe.time()
            pipe.hgetall(self._keys[4])
            pipe.hgetall(self._keys[5])
            (seconds, micros), beats, told = pipe.execute()
            found: list[Process] = []
            for name, beat in beats.items():
                try:
                    seen, applied = _text(beat).split(" ")
                    who = json.loads(told.get(name, b"{}"))
                    known = process_of(
                        _text(name), who, who["about"], applied=int(applied), seen=float(seen)
                    )
                except (ValueError, TypeError, KeyError, RecursionError):
                    continue
                if known is not None:
                    found.append(known)
            return found, seconds + micros / 1e6

    def leave(self, id: str) -> bool:
        with self._reaching():
            pipe = self._redis.pipeline()
            pipe.hdel(self._keys[4], id)
            pipe.hdel(self._keys[5], id)
            return bool(pipe.execute()[0])

    # -- the journal ---------------------------------------------

    def record(self, entries: list[dict[str, Any]], most: int) -> None:
        with self._reaching():
            pipe = self._redis.pipeline(transaction=False)
            for entry in entries:
                pipe.xadd(self._journal, {"entry": json.dumps(entry)}, maxlen=most)
            pipe.execute()

    def journal(self, since: float, most: int) -> list[dict[str, Any]]:
        with self._reaching(seconds=4 * DEADLINE):
            rows = self._redis.xrevrange(self._journal, count=most)
        found = [entry_of(fields.get(b"entry")) for _, fields in reversed(rows)]
        recent = [entry for entry in found if entry is not None and entry["at"] >= since]
        return sorted(recent, key=lambda entry: float(entry["at"]))

    # -- the connection ---------------------------------------------

    def hint(self, seconds: float) -> bool:
        try:
            self._budget.begin(seconds + DEADLINE)
            if self._pubsub is None:
                pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
                pubsub.subscribe(self._keys[3])
                self._pubsub = pubsub
                return True  # what was published before is not told again
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=left) is not None:
                    return True
        except Exception:  # whatever came instead of an answer
            self._drop()
            time.sleep(seconds)  # the next reading says what is wrong
        return False

    def close(self) -> None:
        self._drop()

    def _run(self, script: str, *arguments: object) -> Any:
        return self._redis.eval(script, len(self._keys), *self._keys, *arguments)

    @contextmanager
    def _reaching(
        self, unanswered: type[StoreError] = StoreError, seconds: float = DEADLINE
    ) -> Generator[None]:
        """Bound what is done inside, and let no connection be used again after a fault."""
        self._budget.begin(seconds)
        try:
            yield
        except StoreError:
            raise
        except ResponseError as error:  # an answer, and it is no
            self._drop()
            raise StoreError(f"{self._shown}: {_short(error)}") from error
        except (RedisError, OSError, ValueError, TypeError, KeyError, IndexError,
                AttributeError, RecursionError, MemoryError) as error:  # fmt: skip
            self._drop()
            raise unanswered(f"{self._shown}: {_short(error)}") from error

    def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        with suppress(Exception):
            if pubsub is not None:
                pubsub.close()
        with suppress(Exception):
            self._redis.connection_pool.disconnect()


def _short(error: BaseException) -> str:
    text = f"{type(error).__name__}: {error}"
    return "".join(c if c.isprintable() else " " for c in text)[:300]


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _flip(field: Any) -> Flip:
    version, at, until, text = _text(field).split(" ", 3)
    decided = {
        "version": int(version),
        "at": float(at),
        "until": None if until == "-" else float(until),
    }
    return flip_of({**json.loads(text), **decided})


def _flips(fields: list[Any]) -> list[Flip]:
    """Return the flips in some fields, without those that are none: they hold nobody else up."""
    found: list[Flip] = []
    for field in fields:
        try:
            found.append(_flip(field))
        except (ValueError, TypeError, AttributeError):
            continue
    return found
