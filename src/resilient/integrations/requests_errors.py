"""requests: our errors as errors of the library, with the request that they are about."""

# pyright: basic
from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any, ClassVar, Final

import requests

from ..knowledge.error_families import Family
from .http_library import asked


def _fill(error: Any, fn: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
    """Give an error its request, or the means to make one on demand."""
    prepared = (each for each in (*args, *kwargs.values()) if isinstance(each, _PREPARED))
    error._resilient_request = next(prepared, None)
    if error._resilient_request is None:
        error._resilient_asked = asked(fn, args, kwargs)


_PREPARED: Final = requests.PreparedRequest


class _Shape:
    """The attributes of the library's errors that their handlers read."""

    response: ClassVar[None] = None  # none came
    _resilient_request: Any = None
    _resilient_asked: Any = None

    @property
    def request(self) -> Any:
        """The request that was not sent, or not answered; None if it is not known."""
        if self._resilient_request is None and self._resilient_asked is not None:
            made, self._resilient_asked = self._resilient_asked, None
            with suppress(Exception):  # its URL or method may be invalid
                self._resilient_request = requests.Request(*made).prepare()
        return self._resilient_request

    @request.setter
    def request(self, request: Any) -> None:
        self._resilient_request = request


FAMILY: Final = Family("requests", requests.RequestException, _Shape, _fill)
