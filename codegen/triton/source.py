"""The text of one kernel: its parameters, its lines, its names, and the device functions it calls."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Union

import numpy as np

from tjit.codegen.kernel import (
    Axis,
    Buffer,
    ContractKernel,
    Index,
    Load,
    LoopKernel,
    ScatterKernel,
    Store,
    kernel_exprs,
)
from tjit.codegen.triton.functions import HELPERS
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.errors import CodegenError
from tjit.ir import dims
from tjit.ir.dims import Dim, Symbol

__all__ = [
    "DeviceKernel",
    "Source",
    "TritonKernel",
    "literal",
    "pointer_type",
    "power_of_two",
    "strip_parentheses",
    "type_name",
]

DeviceKernel = Union[LoopKernel, ContractKernel, ScatterKernel]  # no nest: it runs on one thread of a processor


@dataclass(frozen=True, slots=True)
class TritonKernel:
    """A kernel as Triton source, with all a launch needs.

    Attributes:
        signature: Triton type by parameter name, in order: pointers, symbols, constants.
        grid: programs along x, y and z, over the program's symbols; a 0 means "nothing to do", which CUDA refuses.
        constants: the `tl.constexpr` parameters; emitting again with others is how one tunes.
        buffers: what the pointer parameters stand for, in order.
        symbols: what the integer parameters stand for, in order.
        warps, stages: options of the compilation.
    """

    name: str
    source: str
    signature: dict[str, str]
    grid: tuple[Dim, Dim, Dim]
    constants: dict[str, int]
    buffers: tuple[Buffer, ...]
    symbols: tuple[Symbol, ...]
    warps: int = 4
    stages: int = 3


_TYPES = {
    "bool": ("int1", "i1"),
    "u8": ("uint8", "u8"),
    "i8": ("int8", "i8"),
    "i16": ("int16", "i16"),
    "i32": ("int32", "i32"),
    "i64": ("int64", "i64"),
    "f16": ("float16", "fp16"),
    "bf16": ("bfloat16", "bf16"),
    "f32": ("float32", "fp32"),
    "f64": ("float64", "fp64"),
}


def type_name(dtype: DType) -> str:
    """`tl.float32`: the type of elements of `dtype` in memory."""
    return f"tl.{_TYPES[dtype.name][0]}"


def pointer_type(dtype: DType) -> str:
    """`*fp32`: a pointer's type in a signature."""
    return f"*{_TYPES[dtype.name][1]}"


def literal(value: bool | int | float, dtype: DType) -> str:
    """A constant of `dtype` as Python text."""
    if dtype.kind == "bool":
        return str(bool(value))
    if dtype.kind == "int":
        return str(int(value))
    value = float(value)
    if not math.isfinite(value):
        return f'float("{value}")'
    if dtype.itemsize <= 4:
        exact = np.float32(value)
        if not np.isfinite(exact):
            return f'float("{float(exact)}")'
        short = str(exact.item()) if exact.item() == value and len(repr(value)) < 12 else str(exact)
        value = float(short) if np.float32(float(short)) == exact else float(exact)
    return repr(value)


def power_of_two(n: int) -> int:
    """The smallest power of two that is at least `n` and 1."""
    return 1 << max(0, n - 1).bit_length()


_HEADER = """import triton
import triton.language as tl
"""


def _axes(kernel: DeviceKernel) -> tuple[Axis, ...]:
    if isinstance(kernel, LoopKernel):
        return (*kernel.parallel, *(axis for loop in kernel.loops for axis in loop.axes))
    if isinstance(kernel, ContractKernel):
        return (*kernel.batch, kernel.m, kernel.n, kernel.k)
    return kernel.axes


def _nests(kernel: DeviceKernel) -> list[tuple[Axis, ...]]:
    """Axes that one linear count may run over."""
    if isinstance(kernel, LoopKernel):
        return [kernel.parallel, *((*kernel.parallel, *loop.axes) for loop in kernel.loops)]
    if isinstance(kernel, ContractKernel):
        return [(*kernel.batch, kernel.m, kernel.n), (kernel.k,)]
    return [kernel.axes]


def _dims(kernel: DeviceKernel) -> Iterator[Dim]:
    """Every dim that the text of `kernel` may need."""
    yield from (axis.extent for axis in _axes(kernel))
    for buffer in (*kernel.buffers, *kernel.outputs):
        yield from buffer.strides
    if isinstance(kernel, LoopKernel):
        stores = [s for loop in kernel.loops for s in loop.body if isinstance(s, Store)]
        yield from (d for store in stores for d in store.index)
    elif isinstance(kernel, ContractKernel):
        yield from (d for store in kernel.epilogue for d in store.index)
    else:
        yield from (*kernel.index, *kernel.target.strides, *(extent for _, _, extent in kernel.bindings))
    for e in kernel_exprs(kernel):
        if isinstance(e, Index):
            yield e.value
        elif isinstance(e, Load):
            yield from (*e.index, *e.buffer.strides, *(extent for _, _, extent in e.bindings))
            yield from (d for condition in e.conditions for d in condition)


def _bindings(kernel: DeviceKernel) -> Iterator[Symbol]:
    for e in kernel_exprs(kernel):
        if isinstance(e, Load):
            yield from (symbol for symbol, _, _ in e.bindings)
    if isinstance(kernel, ScatterKernel):
        yield from (symbol for symbol, _, _ in kernel.bindings)


_I32 = (1 << 31) - (1 << 20)  # room for the tail of the last block


def _is_wide(kernel: DeviceKernel, buffers: Iterable[Buffer]) -> bool:
    """Whether an offset or a count may leave 32 bits."""
    spans = [dims.product(axis.extent for axis in nest) for nest in _nests(kernel)]
    for buffer in buffers:
        spans += [
            dims.product((size, abs(stride) if isinstance(stride, int) else stride))
            for size, stride in zip(buffer.shape, buffer.strides, strict=True)
        ]
    high = [dims.upper_bound(span) for span in spans]
    rank = max((len(b.shape) for b in buffers), default=0)
    return any(h is None or h * max(1, rank) >= _I32 for h in high)


class Source:
    """Writes the text of one kernel. A line of the same text is written once and its name reused."""

    def __init__(self, kernel: DeviceKernel) -> None:
        self.kernel = kernel
        self._names: set[str] = {"tl", "triton", "libdevice", "range", "float", *keyword.kwlist, *HELPERS}
        self.name = self.fresh(kernel.name)
        self.buffers = self._find_buffers(kernel)
        axes = {axis.symbol for axis in _axes(kernel)}
        bound = {*axes, *_bindings(kernel)}
        found = {s for d in _dims(kernel) for s in dims.symbols(d)} - bound
        self.symbols = tuple(sorted(found, key=lambda s: s.name))
        self.symbol_names = {s: self.fresh(s.name) for s in self.symbols}
        self._pointers = self._name_pointers(kernel)
        self.wide = _is_wide(kernel, self.buffers)
        self.comment = ""
        self.constants: dict[str, int] = {}
        self._lines: list[str] = []
        self._depth = 1
        self._bound: dict[str, str] = {}
        self._helpers: list[str] = []
        self._count = 0

    @staticmethod
    def _find_buffers(kernel: DeviceKernel) -> tuple[Buffer, ...]:
        listed = [*kernel.buffers, *kernel.outputs]
        if isinstance(kernel, ScatterKernel):
            listed.append(kernel.target)
        listed += [e.buffer for e in kernel_exprs(kernel) if isinstance(e, Load)]
        return tuple(dict.fromkeys(b for b in listed if not b.row))

    def _name_pointers(self, kernel: DeviceKernel) -> dict[Buffer, str]:
        names: dict[Buffer, str] = {}
        written = [b for b in kernel.outputs if b not in kernel.buffers]
        for buffer in self.buffers:
            stem = f"out{written.index(buffer)}" if buffer in written else _identifier(buffer.name)
            while f"{stem}_ptr" in self._names:
                stem += "_"
            self._names.add(f"{stem}_ptr")
            names[buffer] = f"{stem}_ptr"
        return names

    def fresh(self, stem: str) -> str:
        """An unused name like `stem`."""
        stem = _identifier(stem)
        name, n = stem, 0
        while name in self._names:
            n += 1
            name = f"{stem}_{n}"
        self._names.add(name)
        return name

    def temporary(self) -> str:
        """The next of t0, t1, ..."""
        n = self._count
        while f"t{n}" in self._names:
            n += 1
        self._count = n + 1
        self._names.add(f"t{n}")
        return f"t{n}"

    def pointer(self, buffer: Buffer) -> str:
        """The parameter that points at `buffer`."""
        if buffer not in self._pointers:
            message = f"kernel {self.kernel.name} uses {buffer}, which is not among its buffers"
            raise CodegenError(message, self.kernel.location)
        return self._pointers[buffer]

    @property
    def integer(self) -> str:
        """The type of offsets."""
        return "tl.int64" if self.wide else "tl.int32"

    def widen(self, text: str) -> str:
        """`text`, an i32, as an offset."""
        return f"{text}.to(tl.int64)" if self.wide else text

    def constant(self, name: str, value: int) -> str:
        """A `tl.constexpr` parameter."""
        name = self.fresh(name)
        self.constants[name] = value
        return name

    def line(self, text: str, comment: str = "") -> None:
        comment = f"  # {comment}" if comment else ""
        self._lines.append("    " * self._depth + text + comment)

    def bind(self, text: str, name: str | None = None) -> str:
        """A name whose value is `text`; an earlier one where the text is the same."""
        text = strip_parentheses(text)
        if text in self._bound:
            return self._bound[text]
        target = self.temporary() if name is None else self.fresh(name)
        self.line(f"{target} = {text}", self.comment)
        self._bound[text] = target
        return target

    def forget(self, pointer: str) -> None:
        """Drop what was loaded through `pointer`: memory has changed."""
        self._bound = {text: name for text, name in self._bound.items() if not text.startswith(f"tl.load({pointer}")}

    def helper(self, name: str) -> str:
        """The device function `name`, defined above the kernel."""
        if name not in self._helpers:
            self._helpers.append(name)
        return name

    @contextmanager
    def loop(self, variable: str, *bounds: str) -> Iterator[str]:
        """A counted loop; names bound inside are not reused after it."""
        self.line(f"for {variable} in range({', '.join(bounds)}):")
        kept = dict(self._bound)
        self._depth += 1
        yield variable
        self._depth -= 1
        self._bound = kept

    def finish(self, grid: Dim, *, warps: int = 4, stages: int = 3) -> TritonKernel:
        """The kernel with everything written so far as its body."""
        integer = "i64" if self.wide else "i32"
        signature = {self._pointers[b]: pointer_type(b.dtype) for b in self.buffers}
        signature |= {self.symbol_names[s]: integer for s in self.symbols}
        parameters = [*signature, *(f"{name}: tl.constexpr" for name in self.constants)]
        signature |= dict.fromkeys(self.constants, "constexpr")
        body = "\n".join(self._lines or ["    pass"])
        head = f"@triton.jit\ndef {self.name}({', '.join(parameters)}):"
        if self.kernel.location is not None:
            head += f"  # {self.kernel.location.short}"
        functions = "".join(f"\n\n@triton.jit{HELPERS[name]}" for name in sorted(self._helpers))
        text = f"{functions}\n\n{head}\n{body}\n"
        header = _HEADER + ("from triton.language.extra import libdevice\n" if "libdevice." in text else "")
        return TritonKernel(
            self.name,
            header + text,
            signature,
            (grid, 1, 1),
            dict(self.constants),
            self.buffers,
            self.symbols,
            warps,
            stages,
        )


def _identifier(name: str) -> str:
    text = re.sub(r"\W", "_", name.lstrip("%"))
    return text if text and not text[0].isdigit() else f"_{text}"


def strip_parentheses(text: str) -> str:
    """`text` without parentheses around all of it."""
    if not (text.startswith("(") and text.endswith(")")):
        return text
    depth = 0
    for i, c in enumerate(text):
        depth += (c == "(") - (c == ")")
        if depth == 0 and i < len(text) - 1:
            return text
    return text[1:-1]
