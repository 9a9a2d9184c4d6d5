"""The store of a fleet: Redis or Valkey.

Its keys are the truth; a published message is a hint to read them. Each step that must be atomic
is one script. Only the follower uses this store, so the risk is an operation without an end:
redis-py waits and retries by default, for seconds or for ever. That is turned off here, and each
operation has one deadline and one limit on what it reads, however slowly the server sends.
"""

from __future__ import annotations

import json
import time
from collections.abc import Generator
from contextlib import contextmanager, suppress
from typing import Any, Final, cast
from urllib.parse import urlencode, urlsplit, urlunsplit
from uuid import uuid4

import redis
from redis.exceptions import RedisError, ResponseError

from ...errors import StoreError
from ...validation import clean
from ..flip import Flip
from . import redis_rows as rows
from . import redis_scripts as scripts
from .address import Address, refuse
from .base import ConflictError, Process, Reading, UnknownOutcomeError
from .records import entry_of
from .redis_limits import DEADLINE, Budget, pool
from .redis_secrets import Secrets

LONGEST_LOG: Final = 100_000

_PARTS: Final = ("levers", "meta", "log", "changes", "processes", "about")


class RedisStore:
    """Keeps flips in Redis; every process of the fleet that can reach it obeys them."""

    writable = True

    def __init__(self, url: str) -> None:
        address = Address(url)
        prefix = address.prefix
        self._secrets: Final = Secrets(url, address)
        self._budget = Budget()
        parts, options = urlsplit(url), {k: v for k, v in address.options.items() if k != "prefix"}
        plain = urlunsplit(parts._replace(query=urlencode(options)))
        made, kind = None, ""
        try:
            made = redis.Redis(connection_pool=pool(plain, self._budget))
        except (ValueError, TypeError) as error:  # its text may quote the password
            kind = type(error).__name__
        if made is None:  # outside the handler, so that the error has no context
            refuse(f"redis-py can't read the value of one of its options ({kind})")
        self._redis: Any = made
        self._keys = [f"{{{prefix}}}:{part}" for part in _PARTS]  # braces: one slot of a cluster
        self._journal = f"{{{prefix}}}:journal"
        self._pubsub: Any = None

    # -- the levers ---------------------------------------------

    def read(self, incarnation: str, version: int) -> Reading:
        with self._reaching():
            said = self._read(incarnation, version)
            seconds, micros, life, last, born = (rows.shown(each) for each in said[:5])
            flips, unread = None, dict[str, str]()
            if len(said) > 5:
                flips, unread = rows.flips_of(said[5][::2], said[5][1::2])
            now = int(seconds) + int(micros) / 1e6
            return Reading(
                incarnation=life, version=rows.version_in(last, flips), now=now, flips=flips,
                born=rows.seconds_in(born), unread=unread,
            )  # fmt: skip

    def _read(self, incarnation: str, version: int) -> list[Any]:
        """Return the result of the script; without scripts, for a user who may only read."""
        try:
            said: list[Any] = self._run(scripts.READ, incarnation, version)
        except ResponseError:  # the user may not run scripts, or not a command in this one
            pipe = self._redis.pipeline(transaction=False)
            pipe.hmget(self._keys[1], "incarnation", "version", "born")  # first: it may rise
            pipe.hgetall(self._keys[0])
            pipe.time()
            about, levers, time_ = pipe.execute(raise_on_error=False)
            for each in (about, levers):
                if isinstance(each, Exception):
                    raise each from None
            if isinstance(time_, Exception):  # TIME may be forbidden too
                time_ = divmod(int(time.time() * 1e6), 10**6)
            life, last, born = (each or b"" for each in about)
            flat = [part for pair in levers.items() for part in pair]
            said = [*map(str, time_), life, last, born, flat]
        return said

    def flip(self, flip: Flip, lasts: float | None, expected: int | None) -> Flip:
        with self._reaching():
            self._redis.ping()  # an operation that fails after this may have been done
        with self._reaching(UnknownOutcomeError):
            how, there = self._flip(flip, lasts, expected)
            if how == "conflict" and there and rows.readable(flip.lever, there) is None:
                how, there = self._flip(flip, lasts, expected, spoilt=there)  # as if none
            known = rows.readable(flip.lever, there)
            if how == "conflict":
                raise ConflictError(known or Flip(flip.lever, "released"))
            return known or rows.flip_in(there)

    def _flip(
        self, flip: Flip, lasts: float | None, expected: int | None, *, spoilt: bytes = b"-"
    ) -> tuple[str, Any]:
        how, there = self._run(
            scripts.FLIP,
            flip.lever,
            "" if expected is None else expected,
            flip.request,
            "" if lasts is None else lasts,
            flip.as_json(),
            uuid4().hex,
            LONGEST_LOG,
            spoilt,
        )
        return rows.text_of(how), there

    def flip_all(self, flips: list[Flip], lasts: float | None, expected: list[int]) -> list[Flip]:
        spoilt: dict[str, bytes] = {}
        with self._reaching():
            self._redis.ping()  # an operation that fails after this may have been done
        with self._reaching(UnknownOutcomeError):
            for _ in range(len(flips) + 1):
                told: list[Any] = [uuid4().hex, LONGEST_LOG, "" if lasts is None else lasts]
                for flip, at in zip(flips, expected, strict=True):
                    row = spoilt.get(flip.lever, b"-")
                    told += [flip.lever, at, flip.request, flip.as_json(), row]
                how, *there = self._run(scripts.FLIP_ALL, *told)
                if rows.text_of(how) != "conflict":
                    return [rows.flip_in(each) for each in there]
                row, lever = there[0], rows.text_of(there[1])
                known = rows.readable(lever, row) if row else None
                if known is not None or not row or lever in spoilt:
                    raise ConflictError(known or Flip(lever, "released"))
                spoilt[lever] = row  # as if there were no record
            raise ConflictError(Flip(flips[0].lever, "released"))

    def restore(self, flips: list[Flip]) -> None:
        told: list[Any] = []
        for flip in flips:
            until = "-" if flip.until is None else f"{flip.until:.3f}"
            text = f"{flip.version} {flip.at:.3f} {until} {flip.as_json()}"
            told += [flip.lever, flip.version, text]
        with self._reaching():
            self._run(scripts.RESTORE, uuid4().hex, LONGEST_LOG, *told)

    def log(self, lever: str | None, most: int) -> list[Flip]:
        # One lever's flips are selected here: the stream has no index of them.
        with self._reaching(seconds=4 * DEADLINE):
            found = self._redis.xrevrange(
                self._keys[2], count=most if lever is None else LONGEST_LOG
            )
            kept = [
                (fields.get(b"lever", b""), fields.get(b"flip", b""))
                for _, fields in found
                if lever is None or fields.get(b"lever") == lever.encode()
            ][:most]
            return rows.flips_of([key for key, _ in kept], [text for _, text in kept])[0]

    # -- the processes ---------------------------------------------

    def beat(self, process: Process, *, about: bool) -> None:
        told = json.dumps({**process.who(), "about": process.about})
        with self._reaching():
            known = self._run(
                scripts.BEAT, process.id, process.applied, told if about else "", uuid4().hex
            )
            if not known:
                self._run(scripts.BEAT, process.id, process.applied, told, uuid4().hex)

    def processes(self) -> tuple[list[Process], float]:
        return self._processes()[:2]

    def unreadable(self) -> list[str]:
        """Describe in words what can't be read, or can't be written from here."""
        found = [*self.read("", -1).faults(), *self._processes()[2]]
        try:
            with self._reaching():
                self._redis.hdel(self._keys[4], "-")  # a field that never exists
        except StoreError as error:
            found.append(f"it can be read by this user, and not written: {error}")
        return found

    def _refused(self, *answers: Any) -> str:
        errors = [each for each in answers if isinstance(each, Exception)]
        return clean(self._secrets.masked(str(errors[0]))) if errors else "it is of another kind"

    def _processes(self) -> tuple[list[Process], float, list[str]]:
        with self._reaching(seconds=2 * DEADLINE):
            pipe = self._redis.pipeline(transaction=False)
            pipe.time()
            pipe.hgetall(self._keys[4])
            pipe.hgetall(self._keys[5])
            moment, beats, told = pipe.execute(raise_on_error=False)
            now = time.time()
            if not isinstance(moment, Exception):
                now = int(moment[0]) + int(moment[1]) / 1e6
        if not isinstance(beats, dict) or not isinstance(told, dict):  # the keys have another type
            return (
                [],
                now,
                [f"what it keeps of processes can't be read: {self._refused(beats, told)}"],
            )
        found, bad = list[Process](), list[str]()
        seen, abouts = cast("dict[bytes, bytes]", beats), cast("dict[bytes, bytes]", told)
        for name, beat in seen.items():
            known = rows.process_in(name, beat, abouts.get(name, b"{}"))
            if known is None:
                bad.append(f"process {rows.shown(name)[:50]} can't be read")
            else:
                found.append(known)
        return found, now, bad

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
            told = self._redis.xrevrange(self._journal, count=most)
        found = [entry_of(fields.get(b"entry")) for _, fields in reversed(told)]
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
                return True  # the server does not repeat what it published before
            until = time.monotonic() + seconds
            while (left := until - time.monotonic()) > 0:
                if self._pubsub.get_message(timeout=left) is not None:
                    return True
        except Exception:  # anything may come instead of an answer
            self._drop()
            time.sleep(seconds)  # the next reading reports the fault
        return False

    def close(self) -> None:
        self._drop()

    def _run(self, script: str, *arguments: object) -> Any:
        return self._redis.eval(script, len(self._keys), *self._keys, *arguments)

    @contextmanager
    def _reaching(
        self, unanswered: type[StoreError] = StoreError, seconds: float = DEADLINE
    ) -> Generator[None]:
        """Bound the operations of the body; after a fault, never use the connection again."""
        self._budget.begin(seconds)
        try:
            yield
        except StoreError:
            raise
        except ResponseError as error:  # the server answered, with an error
            self._drop()
            raise StoreError(self._secrets.told(error)) from error
        except (RedisError, OSError, ValueError, TypeError, KeyError, IndexError, AttributeError,
                OverflowError, RecursionError, MemoryError) as error:  # fmt: skip
            self._drop()
            raise unanswered(self._secrets.told(error)) from error

    def _drop(self) -> None:
        pubsub, self._pubsub = self._pubsub, None
        with suppress(Exception):
            if pubsub is not None:
                pubsub.close()
        with suppress(Exception):
            self._redis.connection_pool.disconnect()
