"""Python's own functions as rewritten code calls them: traced 0-d tensors and symbolic dims are numbers to them.

What a function makes of an eager tensor it makes of a traced one: `int(x)`, `float(x)` and `math.sqrt(x)` are numbers,
which have no gradient and promote as Python's do.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

from tjit.autograd.tape import no_grad
from tjit.capture import operators
from tjit.capture.trace import NumberTensor, Trace
from tjit.dtypes import DType, bool_, f64, i64
from tjit.ir.dims import DimExpr, maximum, minimum
from tjit.ops.apply import state
from tjit.ops.compare import where
from tjit.ops.conversion import cast
from tjit.ops.creation import as_tensor
from tjit.ops.numbers import Number, recorded
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor, Traced

__all__ = ["REPLACED", "is_unknown"]


def is_unknown(x: Any) -> bool:
    """Whether `x` is a number or tensor that is known only when the program runs."""
    return isinstance(x, (Tensor, DimExpr))


def number(x: Any, dtype: DType) -> Tensor:
    """The Python number that `x` is, of `dtype`, computed when the program runs."""
    assert isinstance(state.trace, Trace)
    with no_grad():
        tensor = as_tensor(x)
        one = tensor.reshape(()) if tensor.ndim else tensor
        return NumberTensor(Traced(state.trace.value_of(cast(one, dtype))))


def _int(x: Any) -> Any:
    return x if isinstance(x, DimExpr) else number(x, i64)


def _abs(x: Any) -> Any:
    return maximum(x, -x) if isinstance(x, DimExpr) else abs(x)


def _divmod(a: Any, b: Any) -> Any:
    return a // b, a % b


def _round(x: Any, ndigits: Any = None) -> Any:
    if isinstance(x, DimExpr):
        return x
    rounded = x.round(decimals=ndigits or 0)
    return number(rounded, i64) if ndigits is None and isinstance(x, NumberTensor) else rounded


def _pow(base: Any, exponent: Any, modulus: Any = None) -> Any:
    return base**exponent if modulus is None else base**exponent % modulus


def _isinstance(x: Any, kinds: Any) -> bool:
    return issubclass(_python_type(x), kinds) if _python_type(x) else isinstance(x, kinds)


def _known_isinstance(x: Any, kinds: Any) -> bool:
    """`isinstance(x, kinds)`; a lifted number has the type of what it stands for, which is guarded."""
    return issubclass(type(x._value), kinds) if type(x) is Number else isinstance(x, kinds)


def _python_type(x: Any) -> Any:
    """The type of the number that `x` stands for; None where it is a tensor."""
    if isinstance(x, DimExpr):
        return int
    if not isinstance(x, NumberTensor):
        return None
    return bool if x.dtype is bool_ else float if x.dtype.is_floating_point else int


# Several at once


def _extreme(name: str, less: Callable[[Any, Any], Any], of_dims: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`min` or `max`: the first of equal ones; a comparison with nan is false."""
    plain = getattr(builtins, name)

    def extreme(*args: Any, **keywords: Any) -> Any:
        if len(args) == 1 and isinstance(args[0], Tensor):
            return getattr(args[0], name)()
        items = list(args[0]) if len(args) == 1 else list(args)
        if keywords:
            return plain(items, **keywords)
        if not any(map(is_unknown, items)):
            return recorded(plain, *items) if len(items) > 1 else plain(items)
        if all(isinstance(x, (int, DimExpr)) for x in items):
            return functools.reduce(of_dims, items)
        return functools.reduce(_better, items[1:], items[0])

    def _better(best: Any, item: Any) -> Any:
        best, item = (as_tensor(x) if isinstance(x, DimExpr) else x for x in (best, item))
        if not isinstance(best, Tensor) and not isinstance(item, Tensor):
            return item if less(item, best) else best
        return where(less(item, best), item, best)

    return extreme


def _sum(items: Any, start: Any = 0) -> Any:
    if not isinstance(items, Tensor) or items.ndim == 0:
        return builtins.sum(items, start)
    total = items.sum(0, dtype=i64 if items.dtype is bool_ else items.dtype)
    return total if type(start) is int and start == 0 else total + start


def _some(known: bool) -> Callable[[Iterable[Any]], Any]:
    """`any` (known: True) or `all`: as soon as Python knows the answer, else of what is computed."""

    def some(items: Any) -> Any:
        if isinstance(items, Tensor):
            return items.any() if known else items.all()
        unknown: list[Any] = []
        for item in items:
            truth = operators.truth(item)
            if truth is known:
                return known
            if not isinstance(truth, bool):
                unknown.append(truth)
        if not unknown:
            return not known
        return functools.reduce(lambda a, b: a | b if known else a & b, unknown)

    return some


def _print(*values: Any, **keywords: Any) -> None:
    """`print`: once, at capture, where tensors have types but no values yet."""
    builtins.print(*values, **keywords)
    if any(isinstance(v, DimExpr) or (isinstance(v, Tensor) and v.is_traced) for v in values):
        builtins.print("(printed while the function is captured: values are not known yet)", file=keywords.get("file"))


# math


def _math(function: Callable[..., Tensor], dtype: DType = f64) -> Callable[..., Any]:
    """A function of floats."""

    def compute(*args: Any) -> Any:
        return number(function(*(number(a, f64) for a in args)), dtype)

    return compute


def _log(x: Any, base: Any = None) -> Any:
    found = number(FUNCTIONS["log"](number(x, f64)), f64)
    return found if base is None else found / FUNCTIONS["log"](number(base, f64))


_OF_FLOATS = {
    "sqrt": "sqrt", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log2": "log2", "log10": "log10", "log1p": "log1p",
    "sin": "sin", "cos": "cos", "tan": "tan", "asin": "asin", "acos": "acos", "atan": "atan", "atan2": "atan2",
    "sinh": "sinh", "cosh": "cosh", "tanh": "tanh", "asinh": "asinh", "acosh": "acosh", "atanh": "atanh",
    "hypot": "hypot", "fabs": "abs", "pow": "pow", "fmod": "fmod", "copysign": "copysign", "degrees": "rad2deg",
    "radians": "deg2rad", "erf": "erf", "erfc": "erfc", "lgamma": "lgamma",
}  # fmt: skip
_TO_INT = ("floor", "ceil", "trunc")
_TO_BOOL = ("isnan", "isinf", "isfinite")


def _guarded(plain: Callable[..., Any], unknown: Callable[..., Any]) -> Callable[..., Any]:
    """`unknown` where an operand is, or is a list with one that is; else `plain`."""

    @functools.wraps(plain)
    def call(*args: Any, **keywords: Any) -> Any:
        if any(is_unknown(a) for a in args):
            return unknown(*args, **keywords)
        return plain(*args, **keywords)

    return call


def _of_numbers(plain: Callable[..., Any], unknown: Callable[..., Any]) -> Callable[..., Any]:
    """The same of a function of numbers: those that vary between calls stay numbers that do."""
    return _guarded(functools.wraps(plain)(functools.partial(recorded, plain)), unknown)


REPLACED: dict[Any, Callable[..., Any]] = {
    range: _guarded(range, operators.range_),
    len: operators.len_,
    zip: operators.zip_,
    enumerate: operators.enumerate_,
    reversed: operators.reversed_,
    int: _of_numbers(int, _int),
    float: _of_numbers(float, lambda x: number(x, f64)),
    bool: _guarded(bool, operators.truth),
    abs: _of_numbers(abs, _abs),
    divmod: _of_numbers(divmod, _divmod),
    round: _of_numbers(round, _round),
    pow: _of_numbers(pow, _pow),
    isinstance: _guarded(_known_isinstance, _isinstance),
    min: _extreme("min", lambda a, b: a < b, minimum),
    max: _extreme("max", lambda a, b: a > b, maximum),
    sum: _sum,
    any: _some(True),
    all: _some(False),
    print: _print,
    math.log: _of_numbers(math.log, _log),
}
for _name, _function in _OF_FLOATS.items():
    if _function in FUNCTIONS:
        REPLACED[getattr(math, _name)] = _of_numbers(getattr(math, _name), _math(FUNCTIONS[_function]))
for _name in _TO_INT:
    REPLACED[getattr(math, _name)] = _of_numbers(getattr(math, _name), _math(FUNCTIONS[_name], i64))
for _name in _TO_BOOL:
    REPLACED[getattr(math, _name)] = _of_numbers(getattr(math, _name), _math(FUNCTIONS[_name], bool_))
