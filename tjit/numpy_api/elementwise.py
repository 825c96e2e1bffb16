"""NumPy's ufuncs on captured arrays: dtypes by NumPy's own promotion, values by tjit's functions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.errors import CaptureError, TypeRuleError
from tjit.location import user_location
from tjit.numpy_api.array import (
    ComplexTensor,
    MaskedRead,
    NumpyTensor,
    built,
    is_array,
    is_number,
    number,
    parts,
    plain,
)
from tjit.numpy_api.complex_math import COMPLEX, COMPLEX_PREDICATES
from tjit.numpy_api.operands import as_array, kind_of, operand, real_dtype, resolve, result_type, to_dtype
from tjit.ops.apply import assign, state
from tjit.ops.conversion import cast
from tjit.ops.creation import full
from tjit.ops.movement import broadcast_to
from tjit.ops.numbers import Number
from tjit.ops.operands import broadcast_shapes
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor

__all__ = ["REAL", "binary", "call_ufunc", "inplace", "masked", "store", "where"]

_f = FUNCTIONS.__getitem__

# NumPy's ufunc: tjit's function, where their names differ.
_RENAMED = {
    "absolute": "abs", "arctan2": "atan2", "divide": "div", "equal": "eq", "fabs": "abs", "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift", "negative": "neg", "not_equal": "ne", "power": "pow", "rint": "round",
    "right_shift": "bitwise_right_shift", "degrees": "rad2deg", "radians": "deg2rad", "subtract": "sub",
    "multiply": "mul", "true_divide": "div", "less": "lt", "less_equal": "le", "greater": "gt", "greater_equal": "ge",
}  # fmt: skip

_SAME = (
    "add", "arccos", "arccosh", "arcsin", "arcsinh", "arctan", "arctanh", "bitwise_and", "bitwise_or", "bitwise_xor",
    "ceil", "copysign", "cos", "cosh", "deg2rad", "exp", "exp2", "expm1", "floor", "floor_divide", "fmax", "fmin",
    "fmod", "hypot", "isfinite", "isinf", "isnan", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2",
    "logical_and", "logical_not", "logical_or", "logical_xor", "maximum", "minimum", "positive", "rad2deg",
    "remainder", "signbit", "sin", "sinh", "sqrt", "square", "tan", "tanh", "trunc",
)  # fmt: skip


def _sign(x: Tensor) -> Tensor:
    y = _f("sign")(x)
    return _f("where")(x != x, x, y) if x.dtype.is_floating_point else y


def _cbrt(x: Tensor) -> Tensor:
    y = _f("copysign")(_f("pow")(_f("abs")(x), 1 / 3), x)
    # one step of Newton's method: a third as a float is not exactly a third
    better = y - (y * y * y - x) / (3 * y * y)
    return _f("where")((x == 0) | ~_f("isfinite")(x), y, better)


def _heaviside(x: Tensor, zero: Any) -> Tensor:
    step = cast(x > 0, x.dtype)
    return _f("where")(x != x, x, _f("where")(x == 0, zero, step))


def _power(x: Any, y: Any) -> Tensor:
    integers = all(isinstance(a, int) or (isinstance(a, Tensor) and a.dtype.kind == "int") for a in (x, y))
    if integers and isinstance(y, int) and y < 0:
        raise TypeRuleError("integers to negative integer powers are not allowed", user_location())
    return _f("pow")(x, y)


def _integer_reciprocal(x: Tensor) -> Tensor:
    return _f("where")(_f("abs")(x) == 1, x, 0) if x.dtype.kind == "int" else _f("reciprocal")(x)


REAL: dict[str, Callable[..., Any]] = {
    **{name: _f(name) for name in _SAME},
    **{name: _f(own) for name, own in _RENAMED.items()},
    "cbrt": _cbrt,
    "conjugate": lambda x: x,
    "divmod": lambda x, y: (_f("floor_divide")(x, y), _f("remainder")(x, y)),
    "float_power": _power,
    "heaviside": _heaviside,
    "mod": _f("remainder"),
    "modf": lambda x: (_f("copysign")(x - _f("trunc")(x), x), _f("trunc")(x)),
    "power": _power,
    "reciprocal": _integer_reciprocal,
    "sign": _sign,
}

_COMPARISONS = {np.equal, np.not_equal, np.less, np.less_equal, np.greater, np.greater_equal}


def call_ufunc(
    ufunc: np.ufunc,
    *inputs: Any,
    out: Any = None,
    where: Any = True,
    dtype: Any = None,
    casting: str = "same_kind",
    order: str = "K",
    subok: bool = True,
) -> Any:
    """What `ufunc(*inputs, ...)` gives for arrays.

    Raises:
        CaptureError: tjit has no such function.
    """
    xs = [operand(x) for x in inputs]
    if any(isinstance(x, MaskedRead) for x in xs):
        return masked(lambda *ys: call_ufunc(ufunc, *ys, dtype=dtype), *xs)
    result = _computed(ufunc, xs, dtype)
    outs = out if isinstance(out, tuple) else (out,) * (out is not None)
    if not outs:
        return result
    results = result if isinstance(result, tuple) else (result,)
    stored = tuple(r if o is None else store(o, r, where) for o, r in zip(outs, results, strict=True))
    return stored if isinstance(result, tuple) else stored[0]


def _computed(ufunc: np.ufunc, xs: list[Any], dtype: Any) -> Any:
    loop = _loop(ufunc, xs, dtype)
    ins, outs = loop[: ufunc.nin], loop[ufunc.nin :]
    if any(d.kind == "c" for d in ins):
        return _complex(ufunc, xs, ins, outs[0])
    fn = REAL.get(ufunc.__name__)
    if fn is None:
        raise _without(f"np.{ufunc.__name__}")
    operands = [_real_operand(x, d) for x, d in zip(xs, ins, strict=True)]
    if not any(isinstance(o, Tensor) for o in operands):
        operands = [full((), o, dtype=dtypes.from_numpy(d)) for o, d in zip(operands, ins, strict=True)]
    results = fn(*operands)
    if isinstance(results, tuple):
        return tuple(_result(r, d) for r, d in zip(results, outs, strict=True))
    return _result(results, outs[0])


def _loop(ufunc: np.ufunc, xs: list[Any], dtype: Any) -> tuple[np.dtype[Any], ...]:
    kinds = tuple(kind_of(x) for x in xs)
    loop = resolve(ufunc, kinds, None if dtype is None or ufunc in _COMPARISONS else np.dtype(dtype))
    if all(_holds(d, x) for d, x in zip(loop, xs, strict=False)):
        return loop
    if ufunc in _COMPARISONS:
        return resolve(ufunc, (np.dtype(np.int64),) * 2)  # NumPy compares with any Python integer
    raise OverflowError(f"Python integer out of bounds for {loop[0]} in np.{ufunc.__name__}({', '.join(map(str, xs))})")


def _holds(dtype: np.dtype[Any], x: Any) -> bool:
    if type(x) is not int or dtype.kind not in "iu":
        return True
    info = np.iinfo(dtype)
    return info.min <= x <= info.max


def _without(name: str) -> CaptureError:
    return CaptureError(
        f"{name} has no counterpart in tjit",
        user_location(),
        hint="write it with other functions, or call it outside of the compiled function",
    )


def _real_operand(x: Any, dtype: np.dtype[Any]) -> Any:
    if is_array(x):
        own = dtypes.from_numpy(dtype)
        tensor = plain(x)
        return tensor if tensor.dtype is own else cast(tensor, own)
    return _python_number(x, dtype)


def _python_number(x: Any, dtype: np.dtype[Any]) -> Any:
    kinds: dict[str, type] = {"b": bool, "i": int, "u": int, "f": float}
    return kinds[dtype.kind](x.item() if isinstance(x, np.generic) else x)


def _result(tensor: Tensor, dtype: np.dtype[Any]) -> Any:
    own = dtypes.from_numpy(dtype)
    return built([tensor if tensor.dtype is own else cast(tensor, own)])


def _complex(ufunc: np.ufunc, xs: list[Any], ins: tuple[np.dtype[Any], ...], out: np.dtype[Any]) -> Any:
    name = ufunc.__name__
    pairs = [_pair(x, real_dtype(d)) for x, d in zip(xs, ins, strict=True)]
    shape = broadcast_shapes(*(p.shape for pair in pairs for p in pair if isinstance(p, Tensor)))
    if name in COMPLEX_PREDICATES:
        result = COMPLEX_PREDICATES[name](*pairs)
        return built([cast(result, dtypes.from_numpy(out))])
    if name not in COMPLEX:
        raise _without(f"np.{name} of complex numbers")
    own = dtypes.from_numpy(real_dtype(out))
    return built([_filled(p, shape, own) for p in COMPLEX[name](*pairs)])


def _filled(part: Any, shape: tuple[Any, ...], dtype: dtypes.DType) -> Tensor:
    if not isinstance(part, Tensor):
        return full(shape, float(part or 0.0), dtype=dtype)
    return part if tuple(part.shape) == tuple(shape) else broadcast_to(part, shape)


def _pair(x: Any, dtype: np.dtype[Any]) -> tuple[Any, Any]:
    """Real and imaginary part of an operand, None for that of a real one."""
    if is_array(x):
        own = dtypes.from_numpy(dtype)
        tensors = [t if t.dtype is own else cast(t, own) for t in parts(x)]
        return tensors[0], tensors[1] if len(tensors) > 1 else None
    value = x.item() if isinstance(x, np.generic) else x
    return (value.real, value.imag) if isinstance(value, complex) else (float(value), None)


# Operators


def binary(ufunc: np.ufunc, name: str) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    """The method `__name__` and its reflection."""
    compute: Callable[[Any, Any], Any] = getattr(operator, name, None) or getattr(operator, f"{name}_")

    def forward(self: Any, other: Any) -> Any:
        other = operand(other) if type(other) is Number else other
        if _is_foreign(other):
            return compute(_as_tensor(self), other)
        return _operate(ufunc, self, other)

    def reflected(self: Any, other: Any) -> Any:
        other = operand(other) if type(other) is Number else other
        if _is_foreign(other):
            return compute(other, _as_tensor(self))
        return _operate(ufunc, other, self)

    return forward, reflected


def _is_foreign(x: Any) -> bool:
    """Whether x is a tensor of tjit's, whose own operators then decide."""
    return isinstance(x, Tensor) and not isinstance(x, NumpyTensor) and not x._number


def _as_tensor(x: Any) -> Tensor:
    if isinstance(x, NumpyTensor):
        return plain(x)
    raise CaptureError(
        "a complex array cannot be combined with a tjit tensor", user_location(), hint="use np. functions on both"
    )


def _operate(ufunc: np.ufunc, a: Any, b: Any) -> Any:
    if not _is_operand(a) or not _is_operand(b):
        return NotImplemented
    result = call_ufunc(ufunc, a, b)
    if is_number(a) and is_number(b) and isinstance(result, NumpyTensor):
        return number(result)  # Python numbers combine to a Python number
    return result


_NUMBERS = (bool, int, float, complex, np.ndarray, np.generic, list, tuple, Tensor)


def _is_operand(x: Any) -> bool:
    from tjit.ir.dims import DimExpr

    return is_array(x) or type(x) is DimExpr or isinstance(x, _NUMBERS)


def inplace(ufunc: np.ufunc) -> Callable[[Any, Any], Any]:
    """The method of `x += y`: writes an array; a scalar is left alone, and Python then rebinds the name."""

    def method(self: Any, other: Any) -> Any:
        if isinstance(self, MaskedRead) or self.scalar:
            return NotImplemented
        return call_ufunc(ufunc, self, other, out=self)

    return method


# Writing


def store(out: Any, value: Any, where: Any = True) -> Any:
    """Write a result where `out=` says, as ufuncs do.

    Raises:
        TypeRuleError: the shape does not fit, or the dtype would lose its kind.
    """
    target = as_array(out)
    if not np.can_cast(value.dtype, target.dtype, "same_kind"):
        raise TypeRuleError(
            f"cannot cast the result from {value.dtype} to {target.dtype}, the dtype of what it is written to",
            user_location(),
            hint="convert it with .astype(), or write into an array of the result's dtype",
        )
    shape = tuple(target.shape)
    if broadcast_shapes(shape, value.shape) != shape:
        raise TypeRuleError(
            f"a result of shape {tuple(value.shape)} cannot be written to an array of shape {shape}", user_location()
        )
    _check_writable(target)
    mask = None if where is True else broadcast_to(plain(to_dtype(operand(where), bool)), shape)
    for t, v in zip(parts(target), parts(to_dtype(value, target.dtype)), strict=True):
        v = broadcast_to(v, shape)
        assign(t, v if mask is None else _f("where")(mask, v, t))
    return out


def _check_writable(target: Any) -> None:
    if target.scalar:
        raise TypeRuleError("a NumPy scalar cannot be written", user_location(), hint="write the array's element")


# Masks and conditions


def masked(compute: Callable[..., Any], *xs: Any) -> MaskedRead:
    """`compute` on all elements of masked reads of one mask.

    Raises:
        CaptureError: the masks differ, or another operand has dims.
    """
    first = next(x for x in xs if isinstance(x, MaskedRead))
    for x in xs:
        fits = same_mask(first.mask, x.mask) if isinstance(x, MaskedRead) else not is_array(x) or not x.shape
        if not fits:
            raise CaptureError(
                "elements that a bool mask selects can be combined with numbers and with what the same mask selects",
                user_location(),
                hint="use np.where(mask, a, b) on the whole arrays",
            )
    return MaskedRead(compute(*(x.full if isinstance(x, MaskedRead) else x for x in xs)), first.mask)


def same_mask(a: Tensor, b: Tensor) -> bool:
    """Whether two masks are one value, or two that the same operations made of the same values."""
    trace: Any = state.trace
    made = {value: node for node in trace.builder.nodes for value in node.results}

    def same(x: Any, y: Any) -> bool:
        if x is y or x == y:
            return True
        m, n = made.get(x), made.get(y)
        if m is None or n is None or m.op is not n.op or m.attrs != n.attrs or m.regions:
            return False
        pairs = zip(m.operands, n.operands, strict=True)
        return m.results.index(x) == n.results.index(y) and all(same(p, q) for p, q in pairs)

    return same(trace.value_of(a), trace.value_of(b))


def where(condition: Any, a: Any, b: Any) -> Any:
    """np.where of three operands."""
    xs = [operand(x) for x in (condition, a, b)]
    if any(isinstance(x, MaskedRead) for x in xs):
        return masked(where, *xs)
    dtype = result_type(*xs[1:])
    mask = plain(to_dtype(xs[0], bool))
    columns = zip(*(_parts_of(x, dtype) for x in xs[1:]), strict=True)
    result = built([_f("where")(mask, p, q) for p, q in columns])
    if isinstance(result, NumpyTensor) and is_number(xs[1]) and is_number(xs[2]) and xs[0].scalar:
        return number(result)
    return result


def _parts_of(x: Any, dtype: np.dtype[Any]) -> tuple[Tensor, ...]:
    return parts(to_dtype(x if isinstance(x, (NumpyTensor, ComplexTensor)) else as_array(x), dtype))
