"""Writes of a nest: into memory that a region may write, after what is still to be read there was put aside."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tjit.codegen.kernel import Buffer, Compute, Expr, Load, Store, nest_statements, statement_exprs
from tjit.codegen.nest_memory import are_apart, is_disturbed, loads_of, shared_loads
from tjit.codegen.nest_values import Indices, NestValues, NotNestError, at, whole
from tjit.ir.graph import Node, Operand, Value
from tjit.ir.op import OPS

__all__ = ["NestWrites"]


class NestWrites(NestValues):
    """The values of a nest, and the statements that write arrays."""

    def writable(self, value: Value, *, kept: bool) -> Value:
        """An array in memory that may be written over: `value`, or a copy of it where it is `kept`."""
        if value not in self.arrays and not kept:
            self.materialise(value)
            return value
        if not kept and self.arrays[value].name in self.owned and self.current[self.arrays[value].name] is value:
            return value
        copy = Value(value.type)
        self.materialise(copy, value)
        return copy

    def update(self, node: Node, n: int) -> None:
        """slice_update: stores into the base's memory, after what is still to be read there was put aside."""
        base, value = node.operands
        if not isinstance(base, Value):
            raise NotNestError("a part of one number is written")
        base = self.writable(base, kept=False)
        buffer, starts, steps = self.arrays[base], node.attrs["starts"], node.attrs["steps"]
        if isinstance(value, Value) and self._reads_disturbed(value, buffer, starts, steps):
            self.materialise(value)
        place = at(starts, steps, self.domain(value.type.shape)[1])
        self._put_aside(buffer, n, lambda load: not are_apart(load.index, place))
        self.fill(value, buffer, starts, steps)
        self.place(node.result, buffer)
        self.written[node.result] = (base, place)

    def scatter(self, node: Node, n: int) -> None:
        """scatter, index_add and their kin: stores at computed places into the base's memory, one after the other."""
        base, picks, source = node.operands
        if not isinstance(base, Value):
            raise NotNestError("a part of one number is written")
        base = self.writable(base, kept=False)
        buffer = self.arrays[base]
        picks, source = (self._apart(value, buffer) for value in (picks, source))
        self._put_aside(buffer, n, lambda load: True)
        self._scatter(node, picks, source, buffer)
        self.place(node.result, buffer)

    def _apart(self, value: Operand, buffer: Buffer) -> Operand:
        """`value`, put aside where it reads the buffer that is written meanwhile."""
        if not isinstance(value, Value) or value in self.scalars:
            return value
        _, index = self.domain(value.type.shape)
        if not shared_loads(self._tried(value, index), buffer):
            return value
        if value not in self.arrays:
            self.materialise(value)
            return value
        copy = Value(value.type)
        self.materialise(copy, value)
        return copy

    def _scatter(self, node: Node, picks: Operand, source: Operand, buffer: Buffer) -> None:
        dim, rank = node.attrs["dim"], picks.type.ndim
        whole_slices = node.op.name in ("index_add", "index_copy")
        axes, index = self.domain(source.type.shape if whole_slices else picks.type.shape)
        first, last = (dim, dim + rank) if whole_slices else (dim, dim + 1)
        with self.inside(axes), self.loops(axes):
            pick = self.operand(picks, index[first:last] if whole_slices else index)
            place = (*index[:first], self.checked(node, pick, buffer.shape[dim]), *index[last:])
            value = self.operand(source, index)
            if node.op.name in ("index_add", "scatter_add"):
                value = Compute(OPS["add"], (Load(buffer, place), value), (), buffer.dtype, node.location)
            self.refuse_large(axes, [pick, value])
            self.body.append(Store(buffer, place, value, node.location))

    def _reads_disturbed(self, value: Value, buffer: Buffer, starts: Indices, steps: Indices) -> bool:
        if value in self.scalars:
            return False
        axes, index = self.domain(value.type.shape)
        place = at(starts, steps, index)
        loads = shared_loads(self._tried(value, index), buffer)
        return any(is_disturbed(load.index, place, axes) for load in loads)

    def _tried(self, value: Value, index: Indices) -> list[Expr]:
        """Everything that a value's element would load, without keeping it."""
        with self.statements() as body:
            expr = self.operand(value, index)
        return [expr, *(e for statement in nest_statements(tuple(body)) for e in statement_exprs(statement))]

    def _put_aside(self, buffer: Buffer, n: int, touches: Callable[[Load], bool]) -> None:
        """Compute what is used after node `n` and reads elements of `buffer` that will not be there then."""
        for value in self._readers({buffer.name}, n + 1):
            _, index = self.domain(value.type.shape)
            if any(map(touches, shared_loads(self._tried(value, index), buffer))):
                self.materialise(value)

    def set_aside(self, buffers: set[str], n: int) -> None:
        """Before a control node that may write `buffers`: compute what it, or a later node, reads of them."""
        for value in self._readers(buffers, n):
            self.materialise(value)

    def _readers(self, buffers: set[str], n: int) -> list[Value]:
        """The pending values that are used at node `n` or later and read one of the buffers."""
        return [v for v, last in self.pending.items() if last >= n and not buffers.isdisjoint(self._buffers_read(v))]

    def _buffers_read(self, value: Value) -> frozenset[str]:
        found = self.reads.get(value)
        if found is None:
            _, index = self.domain(value.type.shape)
            found = frozenset(load.buffer.name for load in loads_of(self._tried(value, index)))
            self.reads[value] = found
        return found

    def replace_arrays(self, pairs: Sequence[tuple[Value, Operand]]) -> None:
        """At a region's end: each carried array's memory becomes what the region yields for it."""
        moved: list[tuple[Buffer, Value]] = []
        for carried, output in pairs:
            buffer = self.arrays[carried]
            if not isinstance(output, Value):
                raise NotNestError(f"an array {carried.type} of one number is carried")
            if self.arrays.get(output) is buffer and self.current[buffer.name] is output:
                continue
            moved.append((buffer, output))
        sources = [self._kept(buffer, output, alone=len(moved) == 1) for buffer, output in moved]
        for (buffer, _), source in zip(moved, sources, strict=True):
            self.fill(source, buffer, *whole(source))

    def _kept(self, buffer: Buffer, output: Value, *, alone: bool) -> Value:
        """What holds `output` while `buffer`, and others if not `alone`, are overwritten."""
        if output not in self.arrays:
            if not alone or self._reads_disturbed(output, buffer, *whole(output)):
                self.materialise(output)
            return output
        if self.arrays[output].row or (alone and self.arrays[output] is not buffer):
            return output
        copy = Value(output.type)
        self.materialise(copy, output)
        return copy
