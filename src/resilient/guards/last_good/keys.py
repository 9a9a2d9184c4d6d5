"""What calls are told apart by: the function, and the values and types of its parameters."""

from __future__ import annotations

import functools
import inspect
import weakref
from collections.abc import Callable
from itertools import count
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, Final

from ...callables import label
from ..asked import Asked

_NONE: Final[Any] = inspect.Parameter.empty
_PLACED: Final = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_OBJECTS: Final = ("self", "cls")  # names of what a method gets first; see `_is_method`
_numbers: Final = count()


class Parameters:
    """The parameters of a function, but for the object of a method where it is bound."""

    __slots__ = ("_known", "_most", "_named", "_signature", "first")

    def __init__(self, fn: Callable[..., Any], *, bound: bool) -> None:
        self._signature: inspect.Signature | None = None
        # Names and defaults, where there is no *args and no **kwargs, and how many have a place.
        self._known: tuple[tuple[str, Any], ...] = ()
        self._most, self._named = -1, False
        self.first: str = ""  # the name of the first, which has a place
        try:  # of fn itself: what a decorator round it is given need not be what it wraps is given
            signature = inspect.signature(fn, follow_wrapped=False)
        except (TypeError, ValueError):  # a builtin that does not tell
            return
        parameters = list(signature.parameters.values())
        if bound and parameters and parameters[0].kind in _PLACED:
            parameters = parameters[1:]
        if parameters and parameters[0].kind in _PLACED:
            self.first = parameters[0].name
        self._signature = inspect.Signature(parameters)
        self._named = any(each.kind is each.VAR_KEYWORD for each in parameters)
        if not any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
            # No keyword names a parameter that has a place alone.
            self._known = tuple(
                ("" if each.kind is each.POSITIONAL_ONLY else each.name, each.default)
                for each in parameters
            )
            self._most = sum(each.kind in _PLACED for each in parameters)

    def values(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        """Return the values of all parameters in their order, however they were given."""
        if len(args) <= self._most:
            values = self._quickly(args, kwargs)
            if values is not None:
                return values
        if self._signature is None:
            return _as_written(args, kwargs)
        try:
            bound = self._signature.bind(*args, **kwargs)
        except TypeError:  # which the call will raise
            return _as_written(args, kwargs)
        bound.apply_defaults()
        values = tuple(bound.arguments.values())
        return (*values[:-1], tuple(sorted(values[-1].items()))) if self._named else values

    def _quickly(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...] | None:
        """Return what `inspect` would bind, at a tenth of its cost; None for what needs it."""
        if len(args) == len(self._known):
            return None if kwargs else args
        values, named = list(args), 0
        for name, default in self._known[len(args) :]:
            if name in kwargs:
                values.append(kwargs[name])
                named += 1
            elif default is _NONE:
                return None
            else:
                values.append(default)
        return tuple(values) if named == len(kwargs) else None


class Identity:
    """An object by its identity, whatever it says that it equals; with what is known of it.

    Attributes:
        number: its own, in this process.
        it: refers to it weakly.
        owners: whether a class that was asked has it as a method.
    """

    __slots__ = ("_bound", "_free", "it", "number", "owners")

    def __init__(self, it: Callable[[], Any]) -> None:
        self.number: int = next(_numbers)
        self.it: Callable[[], Any] = it
        self._free: Parameters | None = None
        self._bound: Parameters | None = None
        self.owners: weakref.WeakKeyDictionary[type, bool] = weakref.WeakKeyDictionary()

    def free(self, fn: Callable[..., Any]) -> Parameters:
        """Return the parameters of the function that it is."""
        if self._free is None:
            self._free = Parameters(fn, bound=False)
        return self._free

    def bound(self, fn: Callable[..., Any]) -> Parameters:
        """Return those of the method that it is."""
        if self._bound is None:
            self._bound = Parameters(fn, bound=True)
        return self._bound


_known: Final[dict[int, Identity]] = {}  # of living objects, by their id


def _identity(it: Any) -> Identity:
    """Return the identity of a living object.

    Raises:
        TypeError: it can't be referred to weakly, so that it would be taken for a later one.
    """
    place = id(it)
    found = _known.get(place)
    if found is not None and found.it() is it:
        return found
    made = _known[place] = Identity(weakref.ref(it, lambda _: _known.pop(place, None)))
    return made


def key_of(asked: Asked, key: Callable[..., Any] | None = None) -> Any:
    """Return what a call is told apart by, if all of it can be hashed.

    These are the function, and the bound arguments with their types (1, 1.0 and True are not the
    same), or what `key` returns of them. Of the object of a method its class counts; of a wrapped
    client the object itself.

    Raises:
        TypeError: there is nothing by which to tell the function, or the client, from others.
    """
    fn, args, kwargs, home = _taken_apart(asked)
    whose: Any = None
    if asked.owner is not None:
        whose = _identity(asked.owner).number
    elif home is not None:
        whose = home
    if type(fn) is str:  # a method that its client makes itself, and may make anew each time
        values = _as_written(args, kwargs)
        return fn, whose, *((key(*args, **kwargs),) if key else (values, types_of(values)))
    about = _identity(fn)
    if key is not None:
        return about.number, whose, key(*args, **kwargs)
    if whose is not None:
        values = about.bound(fn).values(args, kwargs)
    else:
        free = about.free(fn)
        if args and free.first in _OBJECTS and _is_method(about, fn, args[0]):
            whose, args = _class_of(args[0]), args[1:]
            free = about.bound(fn)
        values = free.values(args, kwargs)
    return about.number, whose, values, types_of(values)


def shared_key(asked: Asked, key: Callable[..., Any]) -> tuple[str, Any]:
    """Return the name of a call's function, the same in all processes, and what `key` returns."""
    fn, args, kwargs, _ = _taken_apart(asked)
    name = label(fn)
    if asked.owner is not None:
        name = f"{label(type(asked.owner))}.{asked.fn.__name__}"
    return name, key(*args, **kwargs)


def _taken_apart(asked: Asked) -> tuple[Any, tuple[Any, ...], dict[str, Any], type | None]:
    """Return a call's function, its arguments, and the class of the object that it is bound to.

    The function of a wrapped client's method is the one in its class, or else the method's name.
    """
    fn: Any = asked.fn
    args, kwargs = asked.args, asked.kwargs
    if asked.owner is not None:
        return _method(asked.owner, fn.__name__), args, kwargs, None
    if type(fn) is FunctionType:
        return fn, args, kwargs, None
    while isinstance(fn, functools.partial):
        fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
    if isinstance(fn, MethodType):
        return fn.__func__, args, kwargs, _class_of(fn.__self__)
    if isinstance(fn, BuiltinFunctionType):
        owner = fn.__self__
        if owner is not None and not isinstance(owner, (ModuleType, type)):
            found = getattr(type(owner), fn.__name__, None)
            if found is not None:
                return f"{label(type(owner))}.{fn.__name__}", args, kwargs, type(owner)
    return fn, args, kwargs, None


def _class_of(it: Any) -> type:
    return it if isinstance(it, type) else type(it)


def _is_method(about: Identity, fn: Any, it: Any) -> bool:
    """Return whether an object is the one whose method, or classmethod, a function is."""
    cls = _class_of(it)
    known = about.owners.get(cls)
    if known is None:
        name = getattr(fn, "__name__", "")
        known = about.owners[cls] = any(
            _leads_to(vars(base)[name], fn) for base in cls.__mro__ if name in vars(base)
        )
    return known


def _leads_to(found: Any, fn: Any) -> bool:
    """Return whether what a class has by a name is a function, perhaps in decorators."""
    if isinstance(found, staticmethod):
        return False
    seen = getattr(found, "__func__", found)
    for _ in range(50):  # a circle of decorators is nobody's method
        if seen is fn:
            return True
        seen = getattr(seen, "__wrapped__", None)
        if seen is None:
            return False
    return False


def _method(owner: object, name: str) -> Any:
    """Return the function in a class that is an object's method, its name where there is none."""
    for cls in type(owner).__mro__:
        found = vars(cls).get(name)
        if found is not None:
            return found if type(found) is FunctionType else name
    return name


def _as_written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return args, tuple(sorted(kwargs.items()))


def types_of(values: Any) -> tuple[Any, ...]:
    """Return the types of values, by which 1, 1.0 and True are not the same."""
    types = tuple(map(type, values))
    if tuple in types:
        return tuple([types_of(it) if type(it) is tuple else type(it) for it in values])
    return types
