"""What is never to be shown of the address of a Redis: taken out of errors and their texts."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

from .address import Address

_DEEPEST: Final = 20  # errors behind one another


class Secrets:
    """The passwords in an address."""

    def __init__(self, url: str, address: Address) -> None:
        self._shown: str = address.shown
        self._said: list[str] = _secrets_of(url, address)

    def told(self, error: BaseException) -> str:
        """Return what is wrong at the address, also for people; the error itself is masked too."""
        self._mask(error)
        text = self.masked(f"{type(error).__name__}: {error}")
        return f"{self._shown}: {''.join(c if c.isprintable() else ' ' for c in text)[:300]}"

    def _mask(self, error: BaseException | None) -> None:
        """Take out of an error, and those behind it, what a server has sent back of a password."""
        for _ in range(_DEEPEST):
            if error is None:
                return
            with suppress(Exception):
                error.args = tuple(
                    self.masked(each) if isinstance(each, str) else each for each in error.args
                )
            error = error.__cause__ or error.__context__

    def masked(self, text: str) -> str:
        """Return a text without them."""
        for secret in self._said:
            text = text.replace(secret, "***")
        return text


def _secrets_of(url: str, address: Address) -> list[str]:
    """Return what a URL says that is never to be shown, in all the ways in which it may appear."""
    parts = urlsplit(url)
    said = [parts.password, address.options.get("password"), address.options.get("ssl_password")]
    said += [parts.netloc.rpartition("@")[0]]
    found = {form for each in said if each for form in (each, unquote(each))}
    found |= {repr(each)[1:-1] for each in found}
    return sorted(found, key=len, reverse=True)
