"""Contraction kernels: a tile of the result a program, its operands' tiles computed on the way in."""

from __future__ import annotations

from collections.abc import Mapping

from tjit.codegen.kernel import Axis, ContractKernel, Expr, Load
from tjit.codegen.scalars import held
from tjit.codegen.triton.expressions import Expressions, unflatten
from tjit.codegen.triton.scalars import Scalar
from tjit.codegen.triton.source import Source, TritonKernel, power_of_two, type_name
from tjit.dtypes import DType, bf16, f16, f32, f64
from tjit.ir import dims
from tjit.ir.dims import Dim, Symbol

__all__ = ["emit_contract"]

_GROUP = 8  # rows of tiles that neighbouring programs share, for the second-level cache


def emit_contract(kernel: ContractKernel, constants: Mapping[str, int]) -> TritonKernel:
    """The source of a contraction; `constants` override the tile."""
    return _Contract(kernel, constants).emit()


def _tile(kernel: ContractKernel, dtype: DType) -> dict[str, int]:
    """Default tile: what fits the registers at the operands' width, no larger than the sizes need."""
    m, n, k = {2: (128, 128, 32), 4: (64, 64, 32), 8: (32, 32, 16)}.get(dtype.itemsize, (64, 64, 32))
    if dtype.kind != "float":
        m, n, k = 16, 16, 16  # no tensor cores: a product of three dims lies in registers
    wanted = {"BLOCK_M": (m, kernel.m), "BLOCK_N": (n, kernel.n), "BLOCK_K": (k, kernel.k)}
    return {name: min(size, max(16, _up(axis.extent))) for name, (size, axis) in wanted.items()}


def _up(extent: Dim) -> int:
    return power_of_two(extent) if isinstance(extent, int) else 1 << 20


class _Contract:
    def __init__(self, kernel: ContractKernel, constants: Mapping[str, int]) -> None:
        self.kernel = kernel
        self.source = Source(kernel)
        self.e = Expressions(self.source)
        self.dtype = self._operand_dtype()
        self.tile = _tile(kernel, self.dtype)
        self.tile.update({name: size for name, size in constants.items() if name in self.tile})
        self.names = {name: self.source.constant(name, size) for name, size in self.tile.items()}

    def _operand_dtype(self) -> DType:
        """What the tiles hold: halves keep their width for the tensor cores, else that of the sum."""
        a, b, total = self.kernel.a.dtype, self.kernel.b.dtype, self.kernel.accumulate
        if a is b and a in (f16, bf16) and total is f32:
            return a
        return total

    def emit(self) -> TritonKernel:
        tiles_m, tiles_n = self._emit_position()
        accumulate = self.kernel.accumulate
        m, n = self.names["BLOCK_M"], self.names["BLOCK_N"]
        acc = self.source.fresh("acc")
        self.source.line(f"{acc} = tl.full(({m}, {n}), 0, {type_name(held(accumulate))})")
        self._emit_products(acc)
        self._enter(self.kernel.m, "m", m, "[:, None]", self.m)
        self._enter(self.kernel.n, "n", n, "[None, :]", self.n)
        self.e.fill_masked = False
        self.e.accumulator = Scalar(acc, accumulate, frozenset(name for name, _ in self.e.lanes.values()))
        for store in self.kernel.epilogue:
            self.e.store(store)
        batches = dims.product(axis.extent for axis in self.kernel.batch)
        elements = self.tile["BLOCK_M"] * self.tile["BLOCK_N"]
        warps = 8 if elements >= 128 * 128 else 4 if elements >= 32 * 32 else 2
        return self.source.finish(tiles_m * tiles_n * batches, warps=warps, stages=3)

    def _emit_position(self) -> tuple[Dim, Dim]:
        """Which tile of which batch the program computes."""
        s, kernel = self.source, self.kernel
        tiles_m, tiles_n = (
            (axis.extent + (self.tile[name] - 1)) // self.tile[name]
            for axis, name in ((kernel.m, "BLOCK_M"), (kernel.n, "BLOCK_N"))
        )
        tiles = tiles_m * tiles_n
        batches = dims.product(axis.extent for axis in kernel.batch)
        program = s.fresh("program")
        s.line(f"{program} = {s.widen('tl.program_id(0)')}")
        if batches != 1:
            count = self.e.index(tiles).text
            batch = s.fresh(kernel.batch[0].symbol.name if len(kernel.batch) == 1 else "batch")
            s.line(f"{batch} = {program} // {count}")
            s.line(f"{program} = {program} % {count}")
            symbol = Symbol(f"batch<{batches}", 0, batches - 1)
            self.e.lanes[symbol] = (batch, "")
            self.e.axes.update(unflatten(kernel.batch, symbol.dim))
        else:
            self.e.axes.update({axis.symbol: 0 for axis in kernel.batch})
        row, column = s.fresh("tile_m"), s.fresh("tile_n")
        if isinstance(tiles_m, int) and isinstance(tiles_n, int) and (tiles_m == 1 or tiles_n == 1):
            s.line(f"{row} = {program}" if tiles_n == 1 else f"{row} = 0")
            s.line(f"{column} = {program}" if tiles_n != 1 else f"{column} = 0")
        else:
            rows, columns = self.e.index(tiles_m).text, self.e.index(tiles_n).text
            group, height = s.fresh("group"), s.fresh("height")
            comment = f"{_GROUP} rows of tiles share their columns"
            s.line(f"{group} = {program} // ({_GROUP} * {columns}) * {_GROUP}", comment)
            s.line(f"{height} = tl.minimum({rows} - {group}, {_GROUP})")
            s.line(f"{row} = {group} + {program} % ({_GROUP} * {columns}) % {height}")
            s.line(f"{column} = {program} % ({_GROUP} * {columns}) // {height}")
        self.m = f"{row} * {self.names['BLOCK_M']}"
        self.n = f"{column} * {self.names['BLOCK_N']}"
        return tiles_m, tiles_n

    def _enter(self, axis: Axis, stem: str, block: str, side: str, start: str) -> str:
        """Lanes over a block of `axis`, along one side of the tile."""
        size = {name: self.tile[key] for key, name in self.names.items()}[block]
        symbol = Symbol(f"{stem}{side}<{axis.extent}", 0, axis.extent - 1)
        name = self.source.bind(f"({start} + {self.source.widen(f'tl.arange(0, {block})')}){side}", axis.symbol.name)
        self.e.axes[axis.symbol] = symbol.dim
        self.e.forget()
        self.e.lanes[symbol] = (name, "")
        if not isinstance(axis.extent, int) or axis.extent % size:
            mask = self.source.bind(f"{name} < {self.e.index(axis.extent).text}", f"{name}_mask")
            self.e.lanes[symbol] = (name, mask)
        return name

    def _emit_products(self, acc: str) -> None:
        s, kernel = self.source, self.kernel
        m, n, k = self.names["BLOCK_M"], self.names["BLOCK_N"], self.names["BLOCK_K"]
        self.e.fill_masked = True  # a lane out of range must add nothing
        outside = dict(self.e.lanes)
        self._enter(kernel.m, "m", m, "[:, None]", self.m)
        self.e.lanes = dict(outside)
        self._enter(kernel.n, "n", n, "[None, :]", self.n)
        start = s.fresh("start")
        with s.loop(start, "0", self.e.index(kernel.k.extent).text, k):
            self.e.lanes = dict(outside)
            self._enter(kernel.m, "m", m, "[:, None]", self.m)
            down = self._enter(kernel.k, "k", k, "[None, :]", start)
            a = self._operand(kernel.a, down, f"({m}, {k})")
            self.e.lanes = dict(outside)
            across = self._enter(kernel.k, "k", k, "[:, None]", start)
            self._enter(kernel.n, "n", n, "[None, :]", self.n)
            b = self._operand(kernel.b, across, f"({k}, {n})")
            self._multiply(acc, a, b)
        self.e.lanes = outside

    def _operand(self, expr: Expr, k: str, shape: str) -> str:
        """A tile of an operand, 0 where k is out of range."""
        scalars = self.e.scalars
        plain = isinstance(expr, Load) and not expr.buffer.row and expr.dtype is self.dtype
        if plain:
            assert isinstance(expr, Load)
            value = self.e.load(expr)
            text = value.text
        else:
            value = self.e.evaluate(expr)
            text = scalars.stored(value, self.dtype)
        mask = next(mask for name, mask in self.e.lanes.values() if name == k)
        filled = plain and isinstance(expr, Load) and expr.fill == 0 and k in value.lanes
        if mask and not filled:
            text = f"tl.where({mask}, {text}, {'0.0' if self.dtype.kind == 'float' else '0'})"
        sides = {name for symbol, (name, _) in self.e.lanes.items() if "[" in symbol.name}
        if not sides <= (value.lanes | ({k} if mask and not filled else set())):
            text = f"tl.broadcast_to({text}, {shape})"
        return text if text.isidentifier() else self.source.bind(text, "a" if expr is self.kernel.a else "b")

    def _multiply(self, acc: str, a: str, b: str) -> None:
        comment = "dot" if self.kernel.location is None else f"dot, {self.kernel.location.short}"
        if self.dtype.kind != "float":
            products = f"{a}[:, :, None] * {b}[None, :, :]"
            combine = self.source.helper("combine_sum")
            self.source.line(f"{acc} += tl.reduce({products}, 1, {combine})", comment)
            return
        precision = ', input_precision="ieee"' if self.dtype in (f32, f64) else ""
        self.source.line(f"{acc} = tl.dot({a}, {b}, {acc}{precision})", comment)
