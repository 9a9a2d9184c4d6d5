"""Secrets in the address of a Redis: removal from errors and their texts."""

from __future__ import annotations

from contextlib import suppress
from typing import Final
from urllib.parse import unquote, urlsplit

from .address import Address

_DEEPEST: Final = 20  # errors in a chain of causes and contexts


class Secrets:
    """The passwords in an address."""

    def __init__(self, url: str, address: Address) -> None:
        self._shown: str = address.shown
        self._said: list[str] = _secrets_of(url, address)

    def told(self, error: BaseException) -> str:
        """Return a printable text of an error, without secrets; mask the error itself too."""
        self._mask(error)
        text = self.masked(f"{type(error).__name__}: {error}")
        return f"{self._shown}: {''.join(c if c.isprintable() else ' ' for c in text)[:300]}"

    def _mask(self, error: BaseException | None) -> None:
        """Remove from an error, and from its causes, what a server repeated of a password."""
        for _ in range(_DEEPEST):
            if error is None:
                return
            with suppress(Exception):
                error.args = tuple(
                    self.masked(each) if isinstance(each, str) else each for each in error.args
                )
            error = error.__cause__ or error.__context__

    def masked(self, text: str) -> str:
        """Return a text without the secrets."""
        for secret in self._said:
            text = text.replace(secret, "***")
        return text


def _secrets_of(url: str, address: Address) -> list[str]:
    """Return the secrets in a URL, in all the forms in which they may appear."""
    parts = urlsplit(url)
    said = [parts.password, address.options.get("password"), address.options.get("ssl_password")]
    said += [parts.netloc.rpartition("@")[0]]
    found = {form for each in said if each for form in (each, unquote(each))}
    found |= {repr(each)[1:-1] for each in found}
    return sorted(found, key=len, reverse=True)
