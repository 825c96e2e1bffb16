"""What a loop keeps of each trip: a tape has one row for each."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tjit.autograd.control.joint import RegionJoint
from tjit.autograd.control.replay import mirror_untracked
from tjit.capture.activity import active_results
from tjit.capture.regions import ControlRecord
from tjit.capture.trace import Trace
from tjit.ir.clone import clone_nodes
from tjit.ir.dims import Call, Dim, DimExpr, Symbol, counter, lower_bound, maximum, minimum, product, symbols
from tjit.ir.graph import TAPE, GraphBuilder, Literal, Node, Operand, Region, Value
from tjit.ir.types import TensorType
from tjit.ops.control import FOR
from tjit.ops.creation import FULL
from tjit.ops.index import SLICE_UPDATE
from tjit.ops.movement import RESHAPE, reshape, slice_dims
from tjit.tensor import Tensor, Traced

__all__ = ["keep", "kept_type", "row", "widest"]


def keep(trace: Trace, record: ControlRecord, joint: RegionJoint, saved: Sequence[Value]) -> dict[Value, Tensor]:
    """Have a `for` keep `saved`, values of the joint graph of its body. Gives the tape of each."""
    found = {joint.env[v]: tape for v, tape in record.kept.items() if v in joint.env}
    new = [v for v in saved if v not in found]
    if new:
        found.update(_Extension(trace, record, joint, new).run(found))
    return {v: found[v] for v in saved}


def row(tape: Tensor, trip: Dim, type: TensorType) -> Tensor:
    """What `tape` has of a trip."""
    starts, stops = (trip, *(0 for _ in type.shape)), (trip + 1, *type.shape)
    return reshape(slice_dims(tape, starts, stops, (1,) * len(starts)), type.shape)


class _Extension:
    """A `for` on the tape gets another body, which also writes tapes."""

    def __init__(self, trace: Trace, record: ControlRecord, joint: RegionJoint, new: Sequence[Value]) -> None:
        self.trace = trace
        self.record = record
        self.joint = joint
        self.new = new
        self.node = record.node
        self.types = [self._tape_type(v.type) for v in new]

    def _tape_type(self, type: TensorType) -> TensorType:
        stored = kept_type(self.trace, self.record, type)
        assert stored is not None  # what cannot be kept is not chosen
        trip = self.node.attrs["trip"]
        rows = None if self.record.scope is self.trace.whole else widest(trip, self.trace.runtime)
        return stored.with_shape((trip if rows is None else rows, *stored.shape))

    def run(self, before: dict[Value, Tensor]) -> dict[Value, Tensor]:
        """Replace the node. `before`: tapes that it has."""
        starts = GraphBuilder("tapes")
        for type in self.types:
            starts.add(FULL, (), _zeros_attrs(type), location=self.node.location)[0].name = TAPE
        own = {v: v for v in (*self.node.regions[0].inputs, *self.node.regions[0].captured())}
        values: dict[Value, Operand] = {self.joint.env[v]: v for v in own}
        region = self._region(values)
        tapes = [Value(t, TAPE) for t in self.types]
        operands = (*self.node.operands, *(v for n in starts.nodes for v in n.results))
        results = (*self.node.results, *tapes)
        node = Node(FOR, operands, self.node.attrs, results, regions=(region,), location=self.node.location)
        nodes = self.record.scope.builder.nodes
        nodes[(at := _index(nodes, self.node)) : at + 1] = [*starts.nodes, node]
        self.record.node = node
        found = dict(zip(self.new, self._handles(tapes), strict=True))
        self.record.kept = {v: t for j, t in (before | found).items() if isinstance(v := values.get(j), Value)}
        return found

    def _region(self, values: dict[Value, Operand]) -> Region:
        (body,) = self.node.regions
        builder = GraphBuilder("body")
        builder.nodes.extend(clone_nodes(self.joint.first, values))
        mirror_untracked(self.trace, values)
        inputs = [Value(t, TAPE) for t in self.types]
        symbol = counter(self.node.attrs["counter"], self.node.attrs["trip"]).dim
        outputs = [o if isinstance(o, Literal) else values.get(o, o) for o in self.joint.outputs]
        for value, tape in zip(self.new, inputs, strict=True):
            shape = value.type.shape
            one = builder.add_one(RESHAPE, values[value], shape=(1, *shape), location=self.node.location)
            starts, stops = (symbol, *(0 for _ in shape)), (symbol + 1, *shape)
            attrs = {"starts": starts, "stops": stops, "steps": (1,) * len(starts)}
            outputs += builder.add(SLICE_UPDATE, (tape, one), attrs, location=self.node.location)
        return Region("body", (*body.inputs, *inputs), tuple(builder.nodes), tuple(outputs))

    def _handles(self, tapes: Sequence[Value]) -> list[Tensor]:
        """Tensors that stand for the tapes; they are results of the node on the tape of ops, too."""
        record = self.record
        assert record.tape is not None
        wanted = {v for v, w in zip((*record.node.operands, *record.captured), _padded(record), strict=True) if w}
        flags = active_results(record.node, {v for v in wanted if isinstance(v, Value)}, self.trace.untracked)
        handles: list[Tensor] = []
        for tape, flag in zip(tapes, flags[-len(tapes) :], strict=True):
            handle = Tensor(data := Traced(tape))
            data.scope = record.scope
            if flag:
                handle._grad_fn, handle._index = record.tape, len(record.tape.types)
            record.tape.add_result(handle)
            handles.append(handle)
        return handles


def _padded(record: ControlRecord) -> list[bool]:
    """`record.wanted` with the tapes that the node carries now, which start as zeros."""
    count = len(record.wanted) - len(record.captured)
    tapes = len(record.node.operands) - count
    return [*record.wanted[:count], *(False for _ in range(tapes)), *record.wanted[count:]]


def _index(nodes: Sequence[Node], node: Node) -> int:
    return next(i for i, n in enumerate(nodes) if n is node)


def _zeros_attrs(type: TensorType) -> dict[str, object]:
    zero = {"bool": False, "int": 0}.get(type.dtype.kind, 0.0)
    return {"value": zero, "shape": type.shape, "dtype": type.dtype, "device": type.device}


# -- rows --------------------------------------------------------------------------------------------------------------


def kept_type(trace: Trace, record: ControlRecord, type: TensorType) -> TensorType | None:
    """The type of a tape's row for a value of `type`: as large as that is on any trip. None: nothing bounds it.

    Where another loop may be around this one, that should be able to keep the tape, so that its counter is gone too.
    """
    own = {record.node.attrs["counter"]}
    nested = record.scope is not trace.whole
    for hidden in [trace.runtime | own, own] if nested else [own]:
        shape = [widest(d, hidden) for d in type.shape]
        if None not in shape:
            return type.with_shape(tuple(d for d in shape if d is not None))
    return None


def widest(d: Dim, hidden: Collection[str]) -> Dim | None:
    """A dim that `d` is never above, without the symbols `hidden`; None where none is known."""
    found = _extreme(d, hidden, upper=True)
    return found if found is None or found is d else maximum(found, 0)  # of a loop of no trips


def _extreme(d: Dim, hidden: Collection[str], *, upper: bool) -> Dim | None:
    if not isinstance(d, DimExpr) or not any(s.name in hidden for s in symbols(d)):
        return d
    total: Dim = 0
    for monomial, c in d.terms.items():
        factors = [_extreme_atom(a, hidden, upper=upper is (c > 0)) for a in monomial]
        if any(f is None for f in factors) or (len(monomial) > 1 and any(lower_bound(_dim(a)) < 0 for a in monomial)):
            return None
        total = total + c * product(f for f in factors if f is not None)
    return total


def _dim(atom: Symbol | Call) -> Dim:
    return DimExpr({(atom,): 1})


def _extreme_atom(atom: Symbol | Call, hidden: Collection[str], *, upper: bool) -> Dim | None:
    if isinstance(atom, Symbol):
        if atom.name not in hidden:
            return atom.dim
        bound = atom.maximum if upper else atom.minimum
        return None if bound is None else _extreme(bound, hidden, upper=upper)
    a = _extreme(atom.a, hidden, upper=upper)
    if atom.name in ("min", "max"):
        b = _extreme(atom.b, hidden, upper=upper)
        return None if a is None or b is None else (minimum if atom.name == "min" else maximum)(a, b)
    fixed = isinstance(atom.b, int) and atom.b > 0
    if not fixed or a is None:
        return None
    return a // atom.b if atom.name == "//" else atom.b - 1 if upper else 0
