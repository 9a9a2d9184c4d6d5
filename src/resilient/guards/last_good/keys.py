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

_OBJECTS: Final = ("self", "cls")  # the first parameter of a method
_NONE: Final[Any] = inspect.Parameter.empty
_PLAIN: Final = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
_numbers: Final = count()


class Same:
    """An object as itself, whatever it says that it equals; alive for as long as this is."""

    __slots__ = ("_it",)

    def __init__(self, it: object) -> None:
        self._it = it

    def __eq__(self, other: object) -> bool:
        return type(other) is Same and other._it is self._it

    def __hash__(self) -> int:
        return id(self._it)


class Form:
    """The parameters of a function.

    Attributes:
        function: what the function is told apart by.
        is_method: its first parameter is the object whose method it is.
    """

    __slots__ = ("_known", "_most", "_named", "_signature", "fn", "function", "is_method")

    def __init__(self, fn: Callable[..., Any], function: object) -> None:
        self.function: object = function
        self.fn: Callable[[], Any] | None = None  # refers to it weakly
        self._signature: inspect.Signature | None = None
        # Names and defaults, where there is no *args and no **kwargs, and how many have a place.
        self._known: tuple[tuple[str, Any], ...] = ()
        self._most, self._named = -1, False
        self.is_method: bool = False
        try:
            self._signature = inspect.signature(fn)
        except (TypeError, ValueError):  # a builtin that does not tell
            return
        parameters = list(self._signature.parameters.values())
        self.is_method = bool(parameters) and (
            parameters[0].name in _OBJECTS and parameters[0].kind in _PLAIN
        )
        self._named = any(each.kind is each.VAR_KEYWORD for each in parameters)
        if not any(each.kind in (each.VAR_POSITIONAL, each.VAR_KEYWORD) for each in parameters):
            self._known = tuple((each.name, each.default) for each in parameters)
            self._most = sum(each.kind in _PLAIN for each in parameters)

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
        except TypeError:  # a decorator of its own passes other arguments on
            return _as_written(args, kwargs)
        bound.apply_defaults()
        values = tuple(bound.arguments.values())
        return (*values[:-1], *sorted(values[-1].items())) if self._named else values

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


_forms: Final[dict[int, Form]] = {}  # of living functions, by their identity


def key_of(asked: Asked) -> Any:
    """Return what a call is told apart by, if all of its arguments can be hashed.

    These are the function, the bound arguments without the object of a method, and their types: 1,
    1.0 and True are not the same. Of a wrapped client the object counts: its parts, such as two
    tables, have the same methods.
    """
    fn: Any = asked.fn
    args, kwargs = asked.args, asked.kwargs
    owner, is_method = None, False
    if asked.owner is not None:
        owner, is_method, args = Same(asked.owner), True, (asked.owner, *args)
        fn = _function(asked.owner, fn.__name__)
        if type(fn) is str:  # it made the method itself, and may make it anew each time
            values = _as_written(args[1:], kwargs)
            return fn, owner, values, _types(values)
    if type(fn) is not FunctionType:
        while isinstance(fn, functools.partial):
            fn, args, kwargs = fn.func, (*fn.args, *args), {**fn.keywords, **kwargs}
        home = _home(fn)
        if home is not None:
            fn, args, is_method = home, (fn.__self__, *args), True
    form = _form(fn)
    values = form.values(args, kwargs)
    if is_method or form.is_method:
        values = values[1:]
    return form.function, owner, values, _types(values)


def named_key(key: Callable[..., Any], asked: Asked) -> Any:
    """Return the name of a call's function, and what a function of its arguments returns."""
    return name_of(asked), key(*asked.args, **asked.kwargs)


def name_of(asked: Asked) -> str:
    """Return the name of a call's function, the same in other processes."""
    if asked.owner is not None:
        return f"{label(type(asked.owner))}.{asked.fn.__name__}"
    return label(asked.fn)


def _home(fn: Any) -> Any:
    """Return the function of a bound method; None for any other."""
    if isinstance(fn, MethodType):
        return fn.__func__
    if not isinstance(fn, BuiltinFunctionType):
        return None
    owner: object = fn.__self__
    if owner is None or isinstance(owner, (ModuleType, type)):
        return None
    return getattr(type(owner), fn.__name__, None)


def _form(fn: Any) -> Form:
    place = id(fn)
    found = _forms.get(place)
    if found is not None and found.fn is not None and found.fn() is fn:
        return found
    try:
        fn_ref = weakref.ref(fn, lambda _: _forms.pop(place, None))
    except TypeError:  # it can't be referred to weakly
        return Form(fn, Same(fn))
    made = Form(fn, next(_numbers))
    made.fn = fn_ref
    _forms[place] = made
    return made


def _function(owner: object, name: str) -> Any:
    """Return the function in a class that is an object's method, its name where there is none."""
    for cls in type(owner).__mro__:
        found = vars(cls).get(name)
        if found is not None:
            return found if type(found) is FunctionType else name
    return name


def _as_written(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
    return (*args, *sorted(kwargs.items()))


def _types(values: Any) -> tuple[Any, ...]:
    types = tuple(map(type, values))
    if tuple in types:
        return tuple([_types(it) if type(it) is tuple else type(it) for it in values])
    return types
