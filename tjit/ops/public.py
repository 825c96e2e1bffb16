"""Public functions: what the registry makes of them (methods, in-place forms, out=, NumPy's spellings)."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any, TypeVar, cast

from tjit.errors import DTypeError, TypeRuleError
from tjit.location import user_location
from tjit.ops.apply import assign, is_recording, refresh, state
from tjit.tensor import Tensor

__all__ = ["FUNCTIONS", "METHODS", "public"]

F = TypeVar("F", bound=Callable[..., Any])

FUNCTIONS: dict[str, Callable[..., Any]] = {}
METHODS: dict[str, Callable[..., Any]] = {}

_NUMPY_SPELLINGS = {"axis": "dim", "keepdims": "keepdim"}


def public(
    *, method: bool = True, function: bool = True, inplace: bool = False, aliases: tuple[str, ...] = ()
) -> Callable[[F], F]:
    """Register a function of the user's: `tjit.name`, `Tensor.name`, and with `inplace` the method `name_`.

    Every one of them takes `out=`; those with `dim` or `keepdim` also take NumPy's `axis` and `keepdims`.
    """

    def decorate(fn: F) -> F:
        names = inspect.signature(fn).parameters
        spellings = {np_name: name for np_name, name in _NUMPY_SPELLINGS.items() if name in names}
        if "x" in names and "input" not in names:
            spellings["input"] = "x"  # PyTorch's name of the first operand

        @functools.wraps(fn)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            if state.trace is not None and _has_numpy(args, kwargs):
                return _on_plain(wrapper, args, kwargs)
            if not kwargs:
                try:
                    return fn(*args)
                except AttributeError as error:
                    _check_tensor(fn.__name__, args, error)
                    raise
            for spelling, name in spellings.items():
                if spelling in kwargs:
                    kwargs[name] = kwargs.pop(spelling)
            if "out" not in kwargs or "out" in names:
                return fn(*args, **kwargs)
            out = kwargs.pop("out")
            result = fn(*args, **kwargs)
            return result if out is None else write_into(out, result)

        for name in (fn.__name__, *aliases):
            if function:
                FUNCTIONS[name] = wrapper
            if method:
                METHODS[name] = wrapper
            if inplace:
                METHODS[f"{name}_"] = _in_place(wrapper, f"{name}_")
        return cast(F, wrapper)

    return decorate


def _has_numpy(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether captured ndarrays are among the operands."""
    return any(map(_is_numpy, args)) or (bool(kwargs) and any(map(_is_numpy, kwargs.values())))


def _is_numpy(x: Any) -> bool:
    if issubclass(type(x), Tensor):
        return x._is_numpy
    return type(x) in (list, tuple) and any(map(_is_numpy, x))


def _on_plain(fn: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`fn` on what captured ndarrays stand for; an ndarray that it returns is the one that it was given."""
    from tjit.numpy_api.array import plain

    given: dict[int, Any] = {}

    def unwrapped(x: Any) -> Any:
        if type(x) in (list, tuple):
            return type(x)(map(unwrapped, x)) if _is_numpy(x) else x
        if not issubclass(type(x), Tensor):
            return x
        tensor = plain(x)
        given[id(tensor)] = x
        return tensor

    result = fn(*map(unwrapped, args), **{k: unwrapped(v) for k, v in kwargs.items()})
    return given.get(id(result), result) if isinstance(result, Tensor) else result


def _check_tensor(name: str, args: tuple[Any, ...], error: AttributeError) -> None:
    """A list or None in a tensor's place shows as an attribute that it lacks.

    Raises:
        DTypeError: the error is of this kind.
    """
    if args and args[0] is error.obj and not isinstance(error.obj, Tensor):
        kind = type(error.obj).__name__
        message = f"{name} takes a tensor, not {kind}"
        raise DTypeError(message, user_location(), hint="make one with tjit.tensor(...)") from None


def _in_place(fn: Callable[..., Any], name: str) -> Callable[..., Any]:
    def method(self: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        return write_into(self, fn(before_write(self, *args), *args, **kwargs))

    method.__name__ = name
    method.__doc__ = f"`{fn.__name__}` in place: writes the result into this tensor and returns it."
    return method


def before_write(target: Tensor, *others: Any) -> Tensor:
    """The target as an operand of what is written to it next: backward may need what it holds now."""
    if state.trace is not None or not is_recording((target, *others)):
        return target  # a trace keeps values
    if target._view is not None and target._seen != target._storage.version:
        refresh(target)
    old = Tensor(target.array.copy())
    old._grad_fn, old._index, old._requires_grad = target._grad_fn, target._index, target._requires_grad
    return old


def write_into(target: Tensor, result: Tensor) -> Tensor:
    """Write `result` into `target`'s memory, converting the dtype within or down a kind as PyTorch allows.

    Raises:
        TypeRuleError: the shapes differ, or the result's kind of dtype does not fit the target's.
    """
    from tjit.ops.elementwise import cast

    if tuple(result.shape) != tuple(target.shape):
        raise TypeRuleError(
            f"the result {result.type_} does not have the shape of the tensor written to, {target.type_}",
            user_location(),
        )
    kinds = ("bool", "int", "float")
    given, wanted = result.type_.dtype, target.type_.dtype  # the `dtype` of a captured ndarray is NumPy's
    if kinds.index(given.kind) > kinds.index(wanted.kind):
        raise TypeRuleError(
            f"result type {given} can't be cast to the type written to, {wanted}",
            user_location(),
            hint="convert one with .to(dtype), or use the out-of-place form",
        )
    return assign(target, cast(result, wanted))


def attach_methods() -> None:
    """Make every registered method an attribute of `Tensor`."""
    for name, fn in METHODS.items():
        if name not in Tensor.__dict__:
            setattr(Tensor, name, fn)
