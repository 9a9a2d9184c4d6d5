"""Our errors as errors of a client's own library too, so that handlers of the library catch them.

Such a class is made when its first error is raised, with the name of ours. Of the library's
classes it derives from the base of its errors alone, so from none that the library retries.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from types import new_class
from typing import Any, Final, cast

from ..errors import ResilientError, _rebuild

_PLAIN: Final = "_resilient_plain"  # names our class from which it was made

Fill = Callable[[Any, Any, tuple[Any, ...], Mapping[str, Any]], None]


class Family:
    """A library's errors, for ours to join.

    Args:
        name: the library's import name.
        base: the base class of the library's errors.
        shape: a class with the attributes that handlers read of such an error. Default none.
        fill: called with an error, the function, and the arguments of the call, from which it
            sets the error's attributes. Default none.
    """

    __slots__ = ("_fill", "_kinds", "_shape", "base", "name")

    def __init__(
        self,
        name: str,
        base: type[Exception],
        shape: type | None = None,
        fill: Fill | None = None,
    ) -> None:
        self.name: str = name
        self.base: type[Exception] = base
        self._shape = shape
        self._fill = fill
        self._kinds: dict[type[ResilientError], type[ResilientError]] = {}
        _families[name] = self

    def kind(self, plain: type[ResilientError]) -> type[ResilientError]:
        """Return the family's class for a class of ours."""
        found = self._kinds.get(plain)
        if found is None:
            try:
                found = self._made(plain)
            except TypeError:  # no class can derive from both
                found = plain
            self._kinds[plain] = found
        return found

    def _made(self, plain: type[ResilientError]) -> type[ResilientError]:
        bases: tuple[type, ...] = (plain, self.base)
        if self._shape is not None:
            bases = (self._shape, *bases)
        family = self.name

        def reduced(self: ResilientError) -> tuple[object, ...]:
            state = {k: v for k, v in self.__dict__.items() if not k.startswith("_")}
            return _rebuilt, (family, plain, self.args[0], state)

        namespace = {
            "__module__": plain.__module__, "__qualname__": plain.__qualname__,
            "__doc__": plain.__doc__, "__str__": plain.__str__, "__repr__": plain.__repr__,
            "__reduce__": reduced, _PLAIN: plain,
        }  # fmt: skip
        # new_class() finds a metaclass for both bases: a library's base may be an abstract class.
        made = new_class(plain.__name__, bases, exec_body=lambda body: body.update(namespace))
        return cast("type[ResilientError]", made)

    def error(
        self,
        error: Exception,
        fn: Any = None,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Exception:
        """Return an error of ours as one of the family's; return any other unchanged."""
        if not isinstance(error, ResilientError) or isinstance(error, self.base):
            return error
        plain: type[ResilientError] = getattr(type(error), _PLAIN, type(error))
        kind = self.kind(plain)
        if kind is plain:
            return error
        made = _rebuild(kind, str(error), error.__dict__)
        cause = error.__cause__
        if cause is None and not error.__suppress_context__:
            cause = error.__context__
        made.__cause__ = cause  # else a traceback would show the plain error as its cause
        made.__traceback__ = error.__traceback__
        if self._fill is not None:
            self._fill(made, fn, args, kwargs or {})
        return made


_families: Final[dict[str, Family]] = {}
_MODULES: Final = {"botocore": "boto3", "grpc.aio": "grpc"}  # integrations under another name


def _rebuilt(
    name: str, plain: type[ResilientError], message: str, state: dict[str, object]
) -> ResilientError:
    """Return a copied or unpickled error: of the plain class if the family is unknown."""
    family = _families.get(name)
    if family is None and name in sys.modules:
        try:
            import_module(f"{__name__.partition('.')[0]}.integrations.{_MODULES.get(name, name)}")
        except ImportError:
            pass
        family = _families.get(name)
    return _rebuild(plain if family is None else family.kind(plain), message, state)
