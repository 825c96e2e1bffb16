"""Control nodes as kernels: loops and branches over scalars and single elements, as one native loop nest.

    for(%y, %s, counter="i0", trip=N - 1)        for (i0: N - 1)
      body(%y_1: f64[N], %s_1: f64[])              v1: f64 = y[i0]
        %0 = slice(%y_1, i0 ...)            ->     v2: f64 = add(v1, v0)
        %1 = reshape(%0, ())                       y[i0 + 1] = v2
        %2 = add(%1, %s_1)                         v0 = v2
        ... slice_update(%y_1, %2, i0 + 1 ...)

A 0-d value is a register. An array is memory that the versions of one carried value share: a version may be read until
a write to the elements read; what is read later is put aside before the write. Other arrays are computed where they
are used.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tjit.codegen.expander import BufferOf
from tjit.codegen.kernel import (
    Assign,
    Axis,
    Bind,
    Branch,
    Buffer,
    Check,
    Expr,
    Load,
    Local,
    NestKernel,
    NestStatement,
    Repeat,
    Store,
    nest_statements,
    statement_exprs,
)
from tjit.codegen.nest_memory import loads_of
from tjit.codegen.nest_split import counted
from tjit.codegen.nest_values import NotNestError, is_scalar
from tjit.codegen.nest_writes import NestWrites
from tjit.errors import CodegenError
from tjit.ir.dims import Dim, counter, product
from tjit.ir.graph import Node, Operand, Region, Value

__all__ = ["build_nest", "is_nest"]

_CONTROL = ("for", "while", "if")
_SCATTERS = ("scatter", "scatter_add", "index_add", "index_copy")


def is_nest(node: Node) -> bool:
    """Whether a control node becomes one kernel; otherwise the program has the loop or branch and calls kernels."""
    if node.op.name not in _CONTROL:
        return False

    def anywhere(value: Value) -> Buffer:
        return Buffer(f"a{id(value)}", value.type.dtype, value.type.shape, _contiguous(value.type.shape))

    found: dict[Value, Buffer] = {}
    try:
        _build(node, lambda value: found.setdefault(value, anywhere(value)), "nest")
    except (NotNestError, RecursionError):  # or expressions that are hundreds of nodes deep
        return False
    return True


def build_nest(node: Node, buffer_of: BufferOf, name: str = "nest") -> NestKernel:
    """The kernel of a control node for which `is_nest`.

    Args:
        buffer_of: the buffer of a value. It is asked for what the regions capture, for constants inside of them, for
            0-d operands and for the results. A carried array is read and written where its result is: the operand has
            to lie there when the kernel starts, and nothing else that the kernel reads.

    Raises:
        CodegenError: the node is no nest with these buffers.
    """
    try:
        return _build(node, buffer_of, name)
    except NotNestError as error:
        raise CodegenError(f"{node.op.name} is not one kernel: {error}", node.location) from error


def _build(node: Node, buffer_of: BufferOf, name: str) -> NestKernel:
    return _Nest(node, buffer_of).kernel(name)


def _contiguous(shape: tuple[Dim, ...]) -> tuple[Dim, ...]:
    return tuple(product(shape[d + 1 :]) for d in range(len(shape)))


class _Nest:
    """Builds one kernel."""

    def __init__(self, node: Node, buffer_of: BufferOf) -> None:
        self.node = node
        self.buffer_of = buffer_of
        self.values = NestWrites(_all_nodes(node), buffer_of)
        self.checks: list[Node] = []
        self.values.failure = self._failure

    def kernel(self, name: str) -> NestKernel:
        node, values = self.node, self.values
        for value in dict.fromkeys(v for region in node.regions for v in region.captured()):
            self._enter(value)
        leading = len(node.operands) - min(len(node.operands), len(node.regions[0].inputs))
        operands: list[Operand] = list(node.operands)
        for j, operand in enumerate(operands):
            if j >= leading and operand.type.ndim:
                # where it lies when the kernel starts; the operand itself may be captured too, and lie elsewhere
                operands[j] = here = Value(operand.type)
                values.place(here, self.buffer_of(node.results[j - leading]))
                values.own(here)
            else:
                self._enter(operand)
        self._control(node, operands)
        for result in node.results:
            if is_register(result):
                values.body.append(Store(self.buffer_of(result), (), values.scalars[result]))
        return self._finish(name)

    def _enter(self, value: Operand) -> None:
        """Make a value from outside known."""
        if not isinstance(value, Value) or value in self.values.scalars:
            return
        if value.type.ndim:
            self.values.place(value, self.buffer_of(value))
        else:
            self.values.let(value, Load(self.buffer_of(value), ()))

    def _finish(self, name: str) -> NestKernel:
        body = tuple(self.values.body)
        read: dict[Buffer, None] = {}
        written: dict[Buffer, None] = {}
        for statement in nest_statements(body):
            read.update((load.buffer, None) for load in loads_of(statement_exprs(statement)))
            if isinstance(statement, Store):
                written[statement.buffer] = None
        buffers = tuple(b for b in {**read, **written} if not b.row)
        outputs = tuple(b for b in written if not b.row)
        scratch = tuple(self.values.scratch)
        return NestKernel(name, buffers, outputs, body, scratch, tuple(self.checks), location=self.node.location)

    def _failure(self, node: Node) -> int:
        self.checks.append(node)
        return len(self.checks) - 1

    # -- regions -------------------------------------------------------------------------------------------------------

    def _region(self, region: Region, *, writes: bool = True) -> None:
        """The statements of a region's nodes. Its inputs are known; with `writes` the arrays among them are its own."""
        last: dict[Value, int] = {o: len(region.nodes) for o in region.outputs if isinstance(o, Value)}
        for n in reversed(range(len(region.nodes))):
            for value in region.nodes[n].reads():
                if isinstance(value, Value):
                    last.setdefault(value, n)
        for value in region.inputs if writes else ():
            self.values.own(value)
        for n, node in enumerate(region.nodes):
            self._node(node, n, last)

    def _node(self, node: Node, n: int, last: dict[Value, int]) -> None:
        values, name = self.values, node.op.name
        if name in _CONTROL:
            operands = self._settle(node, n, last)
            values.set_aside({values.arrays[o].name for o in operands if o in values.arrays}, n)
            self._control(node, operands)
        elif name == "bind":
            self._bind(node)
        elif name == "check":
            condition = values.operand(node.operands[0])
            values.body.append(Check(condition, self._failure(node), node.location))
        elif node.op.kind == "control" or len(node.results) != 1:
            raise NotNestError(f"{name} has no place in a nest")
        elif name == "slice_update":
            values.update(node, n)
        elif name in _SCATTERS:
            values.scatter(node, n)
        elif is_scalar(node.result):
            values.evaluate(node)
        elif node.op.kind in ("reduce", "contract"):
            values.materialise(node.result)
        elif node.op.kind in ("elementwise", "movement", "create") or name in ("gather", "take", "concat"):
            values.pending[node.result] = last.get(node.result, -1)
        else:
            raise NotNestError(f"{name} has no place in a nest")

    def _bind(self, node: Node) -> None:
        attrs = node.attrs
        symbol = self.values.symbol(attrs["symbol"], attrs["low"], attrs["high"])
        value = self.values.operand(node.operands[0])
        number = self._failure(node)
        self.values.body.append(Bind(symbol, value, attrs["low"], attrs["high"], number, node.location))

    # -- control -------------------------------------------------------------------------------------------------------

    def _settle(self, node: Node, n: int, last: dict[Value, int]) -> list[Operand]:
        """The operands, those that are arrays in memory that the node may write."""
        inside = {value for region in node.regions for value in region.captured()}
        found: list[Operand] = []
        for operand in node.operands:
            if isinstance(operand, Value) and operand.type.ndim:
                kept = operand in inside or last[operand] > n or operand in found
                operand = self.values.writable(operand, kept=kept)
            found.append(operand)
        return found

    def _control(self, node: Node, operands: Sequence[Operand]) -> None:
        if node.op.name == "if":
            self._if(node, operands)
        else:
            self._loop(node, operands)

    def _if(self, node: Node, operands: Sequence[Operand]) -> None:
        values = self.values
        condition, *carried = operands
        choice = values.operand(condition)
        variables = self._variables(node)
        bodies: list[tuple[NestStatement, ...]] = []
        before = dict(values.current)
        for region in node.regions:
            values.current = dict(before)
            with values.region() as body:
                self._carry_in(region, carried)
                self._region(region)
                self._carry_out(region.outputs, node.results, variables, region.inputs)
            bodies.append(tuple(body))
        values.body.append(Branch(choice, bodies[0], bodies[1]))
        self._carry_on(node.results, variables, carried)

    def _loop(self, node: Node, operands: Sequence[Operand]) -> None:
        values, variables = self.values, self._variables(node)
        self._assign([(v, values.operand(o)) for v, o in zip(variables, operands, strict=True) if v is not None])
        emit = self._for if node.op.name == "for" else self._while
        emit(node, operands, variables)
        self._carry_on(node.results, variables, operands)

    def _variables(self, node: Node) -> list[Local | None]:
        """A register for each 0-d result; None for an array."""
        return [self.values.local(r.type.dtype) if is_register(r) else None for r in node.results]

    def _for(self, node: Node, operands: Sequence[Operand], variables: list[Local | None]) -> None:
        (region,) = node.regions
        symbol = counter(node.attrs["counter"], node.attrs["trip"])
        self.values.ranges[symbol] = node.attrs["trip"] - 1
        with self.values.region() as body:
            self._start(region, variables, operands)
            self._region(region)
            self._carry_out(region.outputs, node.results, variables, region.inputs)
        self.values.body += counted(Axis(symbol, node.attrs["trip"]), body)

    def _while(self, node: Node, operands: Sequence[Operand], variables: list[Local | None]) -> None:
        test, body = node.regions
        with self.values.region() as tested:
            self._start(test, variables, operands)
            self._region(test, writes=False)
            condition = self.values.operand(test.outputs[0])
        with self.values.region() as repeated:
            self._start(body, variables, operands)
            self._region(body)
            self._carry_out(body.outputs, node.results, variables, body.inputs)
        self.values.body.append(Repeat(tuple(tested), condition, tuple(repeated)))

    def _start(self, region: Region, variables: Sequence[Local | None], operands: Sequence[Operand]) -> None:
        """Inputs of a loop's region: variables, and arrays as they are now."""
        for inner, variable, operand in zip(region.inputs, variables, operands, strict=True):
            if variable is not None:
                self.values.scalars[inner] = variable
            else:
                self._alias(inner, operand)

    def _carry_in(self, region: Region, operands: Sequence[Operand]) -> None:
        """Inputs of a branch: what the operands are."""
        for inner, operand in zip(region.inputs, operands, strict=True):
            if is_register(inner):
                self.values.scalars[inner] = self.values.operand(operand)
            else:
                self._alias(inner, operand)

    def _alias(self, inner: Value, operand: Operand) -> None:
        """An array under the name that it has inside, or after, a region."""
        values = self.values
        if not isinstance(operand, Value):
            raise NotNestError(f"an array {inner.type} of one number is carried")
        values.place(inner, values.arrays[operand])

    def _carry_out(
        self,
        outputs: Sequence[Operand],
        results: Sequence[Value],
        variables: Sequence[Local | None],
        inputs: Sequence[Value],
    ) -> None:
        """The end of a region: what it yields goes to the variables and the carried arrays' memory."""
        arrays: list[tuple[Value, Operand]] = []
        pairs: list[tuple[Local, Expr]] = []
        for j, (output, result, variable) in enumerate(zip(outputs, results, variables, strict=True)):
            if variable is not None:
                pairs.append((variable, self.values.operand(output)))
            elif j >= len(inputs):
                raise NotNestError(f"a branch makes an array {result.type}")
            else:
                arrays.append((inputs[j], output))
        self.values.replace_arrays(arrays)
        self._assign(pairs)

    def _assign(self, pairs: Sequence[tuple[Local, Expr]]) -> None:
        changed = [(local, value) for local, value in pairs if local is not value]
        if changed:
            self.values.body.append(Assign(tuple(x for x, _ in changed), tuple(e for _, e in changed)))

    def _carry_on(
        self, results: Sequence[Value], variables: Sequence[Local | None], operands: Sequence[Operand]
    ) -> None:
        """What the results of a control node are."""
        for j, (result, variable) in enumerate(zip(results, variables, strict=True)):
            if variable is not None:
                self.values.scalars[result] = variable
            else:
                self._alias(result, operands[j])


def is_register(value: Value) -> bool:
    return value.type.ndim == 0


def _all_nodes(node: Node) -> Iterator[Node]:
    for region in node.regions:
        for inner in region.nodes:
            yield inner
            yield from _all_nodes(inner)
