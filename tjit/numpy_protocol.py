"""NumPy's functions on tensors: `np.exp(x)` is `tjit.exp(x)`, also while a function is captured."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.errors import CaptureError, DTypeError
from tjit.location import user_location
from tjit.ops.creation import as_tensor
from tjit.ops.public import FUNCTIONS, write_into
from tjit.surface import numpy as to_numpy
from tjit.tensor import Tensor, attach

__all__ = ["FUNCTION_NAMES", "UFUNC_NAMES"]

# NumPy's name: tjit's, where they differ. All other ufuncs are looked up under their own name.
UFUNC_NAMES = {
    "absolute": "abs",
    "arctan2": "atan2",
    "bitwise_count": None,
    "conjugate": None,
    "divmod": None,
    "equal": "eq",
    "fabs": "abs",
    "float_power": "float_power",
    "invert": "bitwise_not",
    "left_shift": "bitwise_left_shift",
    "mod": "remainder",
    "negative": "neg",
    "power": "pow",
    "rint": "round",
    "right_shift": "bitwise_right_shift",
    "degrees": "rad2deg",
    "radians": "deg2rad",
}

_REDUCTIONS = {
    "add": "sum",
    "multiply": "prod",
    "maximum": "amax",
    "minimum": "amin",
    "logical_and": "all",
    "logical_or": "any",
}

# NumPy's function: tjit's, and NumPy's parameters under tjit's names.
FUNCTION_NAMES: dict[str, tuple[str, dict[str, str]]] = {
    "all": ("all", {}),
    "allclose": ("allclose", {"a": "x", "b": "other"}),
    "amax": ("amax", {}),
    "amin": ("amin", {}),
    "any": ("any", {}),
    "argmax": ("argmax", {}),
    "argmin": ("argmin", {}),
    "argsort": ("argsort", {}),
    "argwhere": ("argwhere", {}),
    "array_equal": ("equal", {"a1": "x", "a2": "other"}),
    "around": ("round", {}),
    "atleast_1d": ("atleast_1d", {}),
    "atleast_2d": ("atleast_2d", {}),
    "atleast_3d": ("atleast_3d", {}),
    "broadcast_to": ("broadcast_to", {"array": "x"}),
    "clip": ("clamp", {"a_min": "min", "a_max": "max"}),
    "column_stack": ("column_stack", {"tup": "tensors"}),
    "concatenate": ("cat", {"arrays": "tensors"}),
    "copy": ("clone", {}),
    "count_nonzero": ("count_nonzero", {}),
    "cross": ("cross", {"a": "x", "b": "other"}),
    "cumprod": ("cumprod", {}),
    "cumsum": ("cumsum", {}),
    "diag": ("diag", {"v": "x", "k": "diagonal"}),
    "diagonal": ("diagonal", {"axis1": "dim1", "axis2": "dim2"}),
    "diff": ("diff", {}),
    "dot": ("matmul", {"a": "input", "b": "other"}),
    "dstack": ("dstack", {"tup": "tensors"}),
    "expand_dims": ("unsqueeze", {}),
    "fliplr": ("fliplr", {"m": "x"}),
    "flipud": ("flipud", {"m": "x"}),
    "full_like": ("full_like", {}),
    "hstack": ("hstack", {"tup": "tensors"}),
    "inner": ("inner", {"a": "input", "b": "other"}),
    "isclose": ("isclose", {"a": "x", "b": "other"}),
    "max": ("amax", {}),
    "mean": ("mean", {}),
    "min": ("amin", {}),
    "moveaxis": ("movedim", {}),
    "nan_to_num": ("nan_to_num", {}),
    "nanmean": ("nanmean", {}),
    "nansum": ("nansum", {}),
    "ones_like": ("ones_like", {}),
    "outer": ("outer", {"a": "input", "b": "vec2"}),
    "prod": ("prod", {}),
    "ravel": ("ravel", {}),
    "repeat": ("repeat_interleave", {}),
    "roll": ("roll", {"shift": "shifts", "axis": "dims"}),
    "rot90": ("rot90", {"m": "x", "axes": "dims"}),
    "round": ("round", {}),
    "squeeze": ("squeeze", {}),
    "stack": ("stack", {"arrays": "tensors"}),
    "std": ("std", {"ddof": "correction"}),
    "sum": ("sum", {}),
    "swapaxes": ("transpose", {"axis1": "dim0", "axis2": "dim1"}),
    "take_along_axis": ("take_along_dim", {"arr": "x"}),
    "tensordot": ("tensordot", {}),
    "trace": ("trace", {}),
    "tril": ("tril", {"m": "x", "k": "diagonal"}),
    "triu": ("triu", {"m": "x", "k": "diagonal"}),
    "var": ("var", {"ddof": "correction"}),
    "vstack": ("vstack", {"tup": "tensors"}),
    "zeros_like": ("zeros_like", {}),
}


def _lift(x: Any) -> Any:
    return as_tensor(x) if isinstance(x, np.ndarray) else x


def _array_ufunc(self: Tensor, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
    """NumPy calls this for a ufunc with a tensor among its operands."""
    outs = keywords.pop("out", ())
    result = _called(ufunc, method, tuple(_lift(x) for x in inputs), keywords)
    if not outs:
        return result
    for out, value in zip(outs, result if isinstance(result, tuple) else (result,), strict=True):
        _store(out, value)
    return outs[0] if len(outs) == 1 else outs


def _store(out: Any, value: Any) -> None:
    if isinstance(out, Tensor):
        write_into(out, as_tensor(value))
    elif out is not None:
        out[...] = to_numpy(value) if isinstance(value, Tensor) else value


def _called(ufunc: np.ufunc, method: str, inputs: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    name = ufunc.__name__
    if method == "reduce" and name in _REDUCTIONS:
        axis = keywords.pop("axis", 0)
        kept = {
            k: v
            for k, v in keywords.items()
            if v is not None and v is not np._NoValue and (k, v) != ("keepdims", False)
        }
        if set(kept) <= {"keepdims"}:
            return FUNCTIONS[_REDUCTIONS[name]](inputs[0], dim=axis, keepdim=bool(kept))
    if method == "outer" and len(inputs) == 2:
        first = as_tensor(inputs[0])
        inputs = (first.reshape((*first.shape, *(1,) * as_tensor(inputs[1]).ndim)), inputs[1])
        method = "__call__"
    fn = FUNCTIONS.get(UFUNC_NAMES.get(name, name) or "")
    cast_to = keywords.pop("dtype", None) if method == "__call__" else None
    if method == "__call__" and fn is not None and not set(keywords) - {"casting", "order", "subok"}:
        result = fn(*inputs)
        return result if cast_to is None else result.to(dtypes.from_numpy(cast_to))
    if cast_to is not None:
        keywords["dtype"] = cast_to
    return _by_numpy(
        getattr(ufunc, method), inputs, keywords, f"np.{name}" + ("" if method == "__call__" else f".{method}")
    )


def _by_numpy(fn: Callable[..., Any], args: Any, keywords: dict[str, Any], name: str) -> Any:
    """NumPy's own function on the tensors' arrays.

    Raises:
        CaptureError: a tensor is traced: it has no array.
    """

    def unwrap(x: Any) -> Any:
        if isinstance(x, Tensor):
            if x.is_traced:
                raise CaptureError(
                    f"{name} has no counterpart in tjit for a {x.type_} tensor",
                    user_location(),
                    hint="write it with tjit's functions, or call it outside of the compiled function",
                )
            return to_numpy(x)
        if isinstance(x, (list, tuple)):
            return x.__class__(map(unwrap, x)) if not hasattr(x, "_fields") else x
        return x

    result = fn(*(unwrap(a) for a in args), **{k: unwrap(v) for k, v in keywords.items()})
    return _wrap(result)


def _wrap(result: Any) -> Any:
    """Arrays of dtypes that tjit has as tensors, all else as NumPy gave it."""
    if isinstance(result, tuple) and not hasattr(result, "_fields"):
        return tuple(map(_wrap, result))
    if isinstance(result, np.ndarray):
        try:
            dtypes.from_numpy(result.dtype)
        except DTypeError:
            return result
        return Tensor(result)
    return result


def _array_function(self: Tensor, func: Callable[..., Any], types: Any, args: Any, keywords: dict[str, Any]) -> Any:
    """NumPy calls this for any other of its functions with a tensor among its operands."""
    name = func.__name__
    own = _OWN.get(name)
    if own is not None and func.__module__ == "numpy" and (name in FUNCTIONS or name not in _BY_NAME):
        return own(*args, **keywords)
    if name in FUNCTION_NAMES and func.__module__ == "numpy":
        found, renamed = FUNCTION_NAMES[name]
        call = _translated(func, args, keywords, renamed) if found in FUNCTIONS else None
        if call is not None:
            return FUNCTIONS[found](*call[0], **call[1])
    module = "np.linalg" if func.__module__ == "numpy.linalg" else "np"
    return _by_numpy(func, args, keywords, f"{module}.{name}")


_DEFAULTS = (None, np._NoValue)
_IGNORED = {"order", "subok", "like", "kind", "mode", "copy", "where", "initial", "casting"}


def _translated(func: Callable[..., Any], args: Any, keywords: dict[str, Any], renamed: dict[str, str]) -> Any:
    """The call in tjit's parameters, or None where one has no counterpart."""
    signature = inspect.signature(func)
    bound = signature.bind(*args, **keywords).arguments
    positional: list[Any] = []
    named: dict[str, Any] = {}
    for position, (name, value) in enumerate(bound.items()):
        parameter = signature.parameters[name]
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            positional.extend(map(_lift, value))
        elif position == 0:
            positional.append([_lift(v) for v in value] if isinstance(value, (list, tuple)) else _lift(value))
        elif any(value is d for d in _DEFAULTS) or (name in _IGNORED and value == parameter.default):
            continue
        elif name in _IGNORED:
            return None
        elif name == "out":
            named["out"] = value
        else:
            named[renamed.get(name, _SPELLINGS.get(name, name))] = _lift(value)
    if "correction" in renamed.values():
        named.setdefault("correction", 0)  # NumPy divides by n, PyTorch by n - 1
    return positional, named


_SPELLINGS = {"axis": "dim", "keepdims": "keepdim"}


# Functions whose parameters do not map one to one


def _where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return FUNCTIONS["nonzero"](as_tensor(condition), as_tuple=True)
    return FUNCTIONS["where"](as_tensor(condition), *map(_lift, branches))


def _transpose(a: Any, axes: Any = None) -> Any:
    return a.permute(tuple(axes) if axes is not None else tuple(reversed(range(a.ndim))))


def _reshape(a: Any, shape: Any, order: str = "C", copy: Any = None) -> Any:
    if order != "C":
        return _by_numpy(np.reshape, (a, shape, order), {}, "np.reshape with order 'F'")
    return a.reshape(shape)


def _tile(A: Any, reps: Any) -> Any:
    return A.tile(reps)


def _take(a: Any, indices: Any, axis: int | None = None, out: Any = None, mode: str = "raise") -> Any:
    a = as_tensor(a)
    a = a if axis is not None else a.reshape(-1)
    return a[(slice(None),) * ((axis or 0) % a.ndim) + (indices,)]


def _split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    return list(FUNCTIONS["tensor_split"](ary, indices_or_sections, axis))


def _flip(m: Any, axis: Any = None) -> Any:
    return FUNCTIONS["flip"](m, tuple(range(m.ndim)) if axis is None else axis)


def _einsum(*operands: Any, **keywords: Any) -> Any:
    equation, *tensors = operands
    return FUNCTIONS["einsum"](equation, *map(_lift, tensors))


def _meshgrid(*xi: Any, indexing: str = "xy", **keywords: Any) -> Any:
    return FUNCTIONS["meshgrid"](*map(as_tensor, xi), indexing=indexing)


def _sort(a: Any, axis: int | None = -1, kind: Any = None, order: Any = None, *, stable: Any = None) -> Any:
    a = as_tensor(a)
    return FUNCTIONS["sort"](a.reshape(-1) if axis is None else a, -1 if axis is None else axis)[0]


_OWN: dict[str, Callable[..., Any]] = {
    "array_split": _split,
    "einsum": _einsum,
    "flip": _flip,
    "meshgrid": _meshgrid,
    "ndim": lambda a: a.ndim,
    "reshape": _reshape,
    "shape": lambda a: tuple(a.shape),
    "size": lambda a, axis=None: a.numel() if axis is None else a.shape[axis],
    "sort": _sort,
    "split": _split,
    "take": _take,
    "tile": _tile,
    "transpose": _transpose,
    "where": _where,
}

_BY_NAME = {"einsum", "sort"}  # adaptors of tjit's function of that name

attach(__array_ufunc__=_array_ufunc, __array_function__=_array_function)
