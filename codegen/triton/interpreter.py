"""Runs Triton source on NumPy arrays, element by element of a program in Triton's interpreter, without a GPU.

Triton reads TRITON_INTERPRET when it is imported and its launcher wants torch tensors; here the text is rewritten as
Triton's rewriter would and called with pointers at NumPy memory, so that compiled and interpreted kernels live in one
process. libdevice is machine code: NumPy and the standard library stand in for it.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import ml_dtypes
import numpy as np

from tjit.codegen.triton.source import TritonKernel
from tjit.errors import ArgumentError
from tjit.ir import dims
from tjit.ops.erf import erfinv_reference
from tjit.quiet import quietly

__all__ = ["interpret"]


def interpret(tk: TritonKernel, arrays: list[np.ndarray], symbols: Mapping[str, int] | None = None) -> None:
    """Run every program of `tk`, one after the other; outputs are written into their arrays.

    Args:
        arrays: one per buffer of `tk.buffers`, whose memory the strides of the buffer describe.
        symbols: values of `tk.symbols` by name.

    Raises:
        ArgumentError: an array has another dtype than its buffer.
    """
    tl: Any = import_module("triton.language")
    interpreter: Any = import_module("triton.runtime.interpreter")
    symbols = {} if symbols is None else symbols
    namespace = _namespace(tk, interpreter)
    function = namespace[tk.name]
    arguments: dict[str, Any] = dict(tk.constants)
    names = iter(tk.signature)
    for array, buffer in zip(arrays, tk.buffers, strict=True):
        if array.dtype != buffer.dtype.numpy:
            raise ArgumentError(f"{buffer} takes an array of {buffer.dtype}, not {array.dtype}")
        name = next(names)
        type_ = tl.str_to_ty(tk.signature[name], None)
        handle = interpreter.TensorHandle(np.array([array.ctypes.data], dtype=np.uint64), type_)
        arguments[name] = tl.tensor(handle, type_)
    for symbol in tk.symbols:
        name = next(names)
        type_ = tl.str_to_ty(tk.signature[name], None)
        dtype = np.int64 if tk.signature[name] == "i64" else np.int32
        handle = interpreter.TensorHandle(np.array([symbols[symbol.name]], dtype=dtype), type_)
        arguments[name] = tl.tensor(handle, type_)
    grid = tuple(dims.evaluate(d, symbols) for d in tk.grid)
    scope = interpreter._patch_lang(function)
    scope.set_attr(tl, "reduce", _reduce(interpreter))
    builder = interpreter.interpreter_builder
    truncate = type(builder).create_fp_trunc
    builder.create_fp_trunc = lambda src, type_: _truncate(interpreter, src, type_, truncate)
    dot = type(builder).create_dot
    builder.create_dot = lambda a, b, *rest: dot(builder, _readable(interpreter, a), _readable(interpreter, b), *rest)
    try:
        builder.set_grid_dim(*grid)
        for x in range(grid[0]):
            builder.set_grid_idx(x, 0, 0)
            quietly(function, **arguments)
    finally:
        scope.restore()
        del builder.create_fp_trunc, builder.create_dot


def _namespace(tk: TritonKernel, interpreter: Any) -> dict[str, Any]:
    """The functions of the text, rewritten for the interpreter: no decorators, assigned values made tensors."""
    import triton.language as tl

    tree = ast.parse(tk.source)
    tree.body = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    for node in tree.body:
        assert isinstance(node, ast.FunctionDef)
        node.decorator_list = []
    tree = ast.fix_missing_locations(interpreter.ASTTransformer().visit(tree))
    names = {"tl": tl, "libdevice": _Libdevice(interpreter), "interpreter_semantic": interpreter.interpreter_semantic}
    exec(compile(tree, f"{tk.name}.py", "exec"), names)
    return names


def _truncate(interpreter: Any, src: Any, type_: Any, otherwise: Callable[..., Any]) -> Any:
    """To a narrower float; f32 to bf16 rounds to nearest, as on the GPU, where Triton's interpreter truncates."""
    import triton.language as tl

    if type_.scalar != tl.bfloat16 or src.data.dtype != np.float32:
        return otherwise(interpreter.interpreter_builder, src, type_)
    return interpreter.TensorHandle(src.data.astype(ml_dtypes.bfloat16).view(np.uint16), tl.bfloat16)


def _readable(interpreter: Any, operand: Any) -> Any:
    """An operand of a dot as NumPy can multiply it: Triton's interpreter multiplies the bits of bf16 as integers."""
    import triton.language as tl

    if operand.dtype.scalar != tl.bfloat16:
        return operand
    return interpreter.TensorHandle(operand.data.view(ml_dtypes.bfloat16).astype(np.float32), tl.float32)


_FAST = {
    "combine_sum": np.add,
    "combine_prod": np.multiply,
    "combine_max": np.maximum,
    "combine_min": np.minimum,
    "combine_any": np.bitwise_or,
    "combine_all": np.bitwise_and,
}


def _reduce(interpreter: Any) -> Callable[..., Any]:
    """`tl.reduce` on arrays; Triton's own walks element by element for any function it does not know."""
    import triton.language as tl

    def tensor(data: np.ndarray, like: Any) -> Any:
        dtype = like.handle.dtype.scalar
        type_ = tl.block_type(dtype, list(data.shape)) if data.shape else dtype
        return tl.tensor(interpreter.TensorHandle(data if data.shape else data.reshape(1), dtype), type_)

    def reduce(value: Any, axis: int, combine: Any, keep_dims: bool = False) -> Any:
        if combine.__name__ in _FAST:
            data = value.handle.data
            return tensor(_FAST[combine.__name__].reduce(data, axis=axis, keepdims=keep_dims, dtype=data.dtype), value)
        values, indices = value
        data, at = values.handle.data, indices.handle.data
        extreme = (np.max if combine.__name__ == "combine_argmax" else np.min)(data, axis=axis, keepdims=True)
        ties = (data == extreme) | ((data != data) & (extreme != extreme))
        first = np.where(ties, at, np.iinfo(at.dtype).max).min(axis=axis, keepdims=True)
        both = ((extreme, values), (first, indices))
        return tuple(tensor(x if keep_dims else x.squeeze(axis), like) for x, like in both)

    return reduce


class _Libdevice:
    """The functions of libdevice that `TritonScalars` writes."""

    def __init__(self, interpreter: Any) -> None:
        self._interpreter = interpreter

    def __getattr__(self, name: str) -> Callable[..., Any]:
        function = _FUNCTIONS.get(name) or getattr(np, name)

        def call(*operands: Any) -> Any:
            import triton.language as tl

            tensors = [self._interpreter.interpreter_semantic.to_tensor(x) for x in operands]
            shaped = next((t for t in tensors if t.type.is_block()), tensors[0])
            result = np.asarray(function(*(t.handle.data for t in tensors)), dtype=shaped.handle.data.dtype)
            is_block = shaped.type.is_block()
            type_ = tl.block_type(shaped.dtype, list(result.shape)) if is_block else shaped.dtype
            return tl.tensor(self._interpreter.TensorHandle(result, shaped.dtype), type_)

        return call


_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "rsqrt": lambda x: 1 / np.sqrt(x.astype(np.float64)),
    "asin": np.arcsin,
    "acos": np.arccos,
    "atan": np.arctan,
    "atan2": np.arctan2,
    "erf": np.vectorize(math.erf, otypes=[np.float64]),
    "erfc": np.vectorize(math.erfc, otypes=[np.float64]),
    "erfinv": erfinv_reference,
    "pow": np.power,
}
