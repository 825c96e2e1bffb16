"""Graphs of one control node, written by hand, and their kernels run on arrays."""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit.codegen.kernel import Buffer, NestKernel, kernel_symbols
from tjit.codegen.llvm.nest import emit_nest, nest_scratch_bytes
from tjit.codegen.llvm.objects import compile_module
from tjit.codegen.llvm.target import Target, host_target
from tjit.codegen.nest import build_nest
from tjit.codegen.rename import rename_buffers
from tjit.devices import cpu
from tjit.dtypes import DType, f64, i64
from tjit.ir.dims import Dim, Symbol, counter, evaluate, product
from tjit.ir.evaluate import bind_symbols
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value, infer_types
from tjit.ir.op import OPS
from tjit.ir.types import TensorType
from tjit.runtime.image import load
from tjit.runtime.link import link

__all__ = ["FailedError", "Program", "graph_of", "kernel_of", "run"]


class FailedError(Exception):
    """A check of the kernel failed; args are its number and the node's op."""


class Program:
    """Collects the nodes of a graph or of a region. Numbers are literals of the other operand's dtype."""

    counters = itertools.count()

    def __init__(self) -> None:
        self.nodes: list[Node] = []

    def op(self, name: str, *operands: Any, **attrs: Any) -> Value:
        dtype = next(o.type.dtype for o in (*reversed(operands), Literal(0.0, f64)) if isinstance(o, (Value, Literal)))
        values = [o if isinstance(o, (Value, Literal)) else Literal(o, dtype) for o in operands]
        (kind,) = infer_types(OPS[name], values, attrs)
        result = Value(kind)
        self.nodes.append(Node(OPS[name], values, attrs, [result]))
        return result

    def __getattr__(self, name: str) -> Callable[..., Value]:
        if name in OPS:
            return lambda *operands, **attrs: self.op(name, *operands, **attrs)
        raise AttributeError(name)

    def full(self, value: Any, shape: tuple[Dim, ...] = (), dtype: DType = i64) -> Value:
        result = Value(TensorType(dtype, shape))
        self.nodes.append(Node(OPS["full"], [], dict(value=value, shape=shape, dtype=dtype, device=cpu), [result]))
        return result

    def part(self, x: Value, *dims: Any) -> Value:
        """x[dims]: ints and dims drop a dim, slices keep it."""
        starts, stops, kept = _bounds(x, dims)
        cut = self.op("slice", x, starts=starts, stops=stops, steps=(1,) * len(dims))
        return cut if len(kept) == len(dims) else self.op("reshape", cut, shape=tuple(cut.type.shape[d] for d in kept))

    def put(self, x: Value, value: Any, *dims: Any) -> Value:
        """x with x[dims] = value."""
        starts, stops, _ = _bounds(x, dims)
        shape = tuple(b - a for a, b in zip(starts, stops, strict=True))
        value = value if isinstance(value, Value) else self.full(value, (), x.type.dtype)
        if value.type.ndim == 0 and any(d != 1 for d in shape):
            value = self.op("broadcast_to", value, shape=shape)
        value = self.op("reshape", value, shape=shape)
        return self.op("slice_update", x, value, starts=starts, stops=stops, steps=(1,) * len(dims))

    def bind(self, value: Operand, low: int, high: Dim | None) -> Dim:
        name = f"u{next(self.counters)}"
        self.nodes.append(Node(OPS["bind"], [value], dict(symbol=name, low=low, high=high), []))
        return Symbol(name, low, high).dim

    def check(self, value: Operand, message: str = "no") -> None:
        self.nodes.append(Node(OPS["check"], [value], dict(message=message), []))

    def loop(self, trip: Dim, carried: Sequence[Operand], body: Callable[..., Sequence[Operand]]) -> tuple[Value, ...]:
        """for i in range(trip): carried = body(program, i, *carried)."""
        name = f"i{next(self.counters)}"
        region = _region("body", carried, lambda p, *x: body(p, counter(name, trip).dim, *x))
        return self._control("for", carried, [region], dict(counter=name, trip=trip))

    def loop_while(
        self, carried: Sequence[Operand], test: Callable[..., Operand], body: Callable[..., Sequence[Operand]]
    ) -> tuple[Value, ...]:
        regions = [_region("test", carried, lambda p, *x: [test(p, *x)]), _region("body", carried, body)]
        return self._control("while", carried, regions, {})

    def choose(
        self,
        condition: Operand,
        carried: Sequence[Operand],
        then: Callable[..., Sequence[Operand]],
        otherwise: Callable[..., Sequence[Operand]],
    ) -> tuple[Value, ...]:
        regions = [_region("then", carried, then), _region("else", carried, otherwise)]
        return self._control("if", [condition, *carried], regions, {}, regions[0].outputs)

    def _control(
        self, name: str, operands: Sequence[Operand], regions: list[Region], attrs: Any, types: Any = None
    ) -> tuple[Value, ...]:
        results = tuple(Value(o.type) for o in (operands if types is None else types))
        self.nodes.append(Node(OPS[name], operands, attrs, results, regions=regions))
        return results


def _bounds(x: Value, dims: Sequence[Any]) -> tuple[tuple[Dim, ...], tuple[Dim, ...], list[int]]:
    starts: list[Dim] = []
    stops: list[Dim] = []
    for d, extent in zip(dims, x.type.shape, strict=True):
        whole = isinstance(d, slice)
        start = (d.start if d.start is not None else 0) if whole else d
        starts.append(start)
        stops.append((d.stop if d.stop is not None else extent) if whole else start + 1)
    return tuple(starts), tuple(stops), [n for n, d in enumerate(dims) if isinstance(d, slice)]


def _region(name: str, carried: Sequence[Operand], make: Callable[..., Sequence[Operand]]) -> Region:
    inner = Program()
    inputs = tuple(Value(o.type) for o in carried)
    outputs = tuple(make(inner, *inputs))
    return Region(name, inputs, tuple(inner.nodes), outputs)


def graph_of(types: Sequence[TensorType], make: Callable[..., Any]) -> Graph:
    """The graph of a program's inputs; its last node's results are its outputs."""
    program = Program()
    inputs = tuple(Value(t, f"x{n}") for n, t in enumerate(types))
    make(program, *inputs)
    return Graph("nest", inputs, tuple(program.nodes), program.nodes[-1].results)


def _strides(array: np.ndarray) -> tuple[int, ...]:
    return tuple(s // array.itemsize for s in array.strides)


def kernel_of(graph: Graph, arrays: dict[Value, np.ndarray] | None = None) -> tuple[NestKernel, list[Value]]:
    """The kernel of the last node, and the values that its buffers hold.

    Args:
        arrays: buffers have the strides of these; otherwise they are contiguous.
    """
    buffers: dict[Value, Buffer] = {}

    def buffer_of(value: Value) -> Buffer:
        if value not in buffers:
            shape = value.type.shape
            strides = _strides(arrays[value]) if arrays and value in arrays else None
            strides = strides or tuple(product(shape[d + 1 :]) for d in range(len(shape)))
            buffers[value] = Buffer(f"x{len(buffers)}", value.type.dtype, shape, strides)
        return buffers[value]

    kernel = build_nest(graph.nodes[-1], buffer_of)
    found = {id(b): v for v, b in buffers.items()}
    values = [found[id(b)] for b in kernel.buffers]
    renamed = rename_buffers(kernel)
    assert isinstance(renamed, NestKernel)
    return renamed, values


def run(graph: Graph, *inputs: np.ndarray, target: Target | None = None, fixed: bool = False) -> list[np.ndarray]:
    """The results of the last node, run as one kernel. The inputs are not changed.

    Args:
        fixed: strides are numbers; otherwise expressions of the shapes.

    Raises:
        FailedError: a check did.
    """
    node, target = graph.nodes[-1], target or host_target()
    arrays: dict[Value, np.ndarray] = dict(zip(graph.inputs, inputs, strict=True))
    sizes = bind_symbols([v.type for v in graph.inputs], [a.shape for a in inputs])
    carried = node.operands[1:] if node.op.name == "if" else node.operands
    for operand, result in itertools.zip_longest(carried, node.results):
        if result.type.ndim:
            assert isinstance(operand, Value)
            arrays[result] = arrays[operand].copy(order="K")
        else:
            arrays[result] = np.zeros((), result.type.dtype.numpy)
    kernel, values = kernel_of(graph, arrays if fixed else None)
    memory = [arrays[v] for v in values]
    image = load(link([compile_module(emit_nest(kernel, target), target, scalar=True)]))
    call = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(image.address(kernel.name))
    dims = (ctypes.c_int64 * 64)(*(sizes[s.name] for s in kernel_symbols(kernel)))
    error = ctypes.c_int32(0)
    scratch = np.zeros(evaluate(nest_scratch_bytes(kernel), sizes) + 64, np.uint8)
    pointers = [ctypes.addressof(dims), ctypes.addressof(error), scratch.ctypes.data, *(a.ctypes.data for a in memory)]
    args = (ctypes.c_void_p * len(pointers))(*pointers)
    call(ctypes.addressof(args), 0, 1)
    if error.value:
        raise FailedError(error.value - 1, kernel.checks[error.value - 1].op.name)
    return [arrays[r] for r in node.results]
