"""A fat client, as another team ships it: its own threads, retries and cache, and no time limit.

Four services pull it in. Nobody of these services can change it.
"""

from __future__ import annotations

import json
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any


class NoSuchUserError(LookupError):
    """The user has no profile: an answer, and no failure."""


class Ratings:
    """A part of the client: what users said of movies."""

    def __init__(self, client: RecommendationsClient) -> None:
        self._client = client

    def of(self, movie: str) -> float:
        return float(self._client.ask(f"/ratings/{movie}")["stars"])


class RecommendationsClient:
    """Personal picks, by HTTP."""

    def __init__(self, url: str, *, retries: int = 2) -> None:
        self.url = url
        self.retries = retries
        self.ratings = Ratings(self)
        self.version = "7.3"
        self._cache: dict[str, Any] = {}
        self._pool = ThreadPoolExecutor(4, thread_name_prefix="recommendations")

    def ask(self, path: str) -> Any:
        """Ask the backend, again and again."""
        for attempt in range(self.retries + 1):
            try:
                with urllib.request.urlopen(self.url + path) as response:  # as long as it takes
                    return json.load(response)
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 404:
                    raise NoSuchUserError(path) from None
                last: Exception = error
            except OSError as error:
                last = error
            time.sleep(0.01 * 2**attempt)
        raise last

    def picks(self, user: int) -> list[str]:
        """Return what a user will like."""
        key = f"/picks/{user}"
        if key not in self._cache:
            self._cache[key] = self.ask(key)["movies"]
        return list(self._cache[key])

    def picks_of_all(self, users: list[int]) -> dict[int, list[str]]:
        """Return the picks of several users, side by side."""
        return dict(zip(users, self._pool.map(self.picks, users), strict=True))

    def similar(self, movie: str) -> Iterator[str]:
        """Yield what is like a movie, a page at a time."""
        page: int | None = 1
        while page is not None:
            answer = self.ask(f"/similar/{movie}?page={page}")
            yield from answer["movies"]
            page = answer["next"]

    def close(self) -> None:
        """End its threads."""
        self._pool.shutdown(wait=False)
