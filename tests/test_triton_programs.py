"""Schedules of graphs, spelled as Triton kernels and interpreted, agree with the ops' references."""

from __future__ import annotations

import numpy as np
import pytest

import tjit.ops  # noqa: F401  (fills the registry)
from tjit.codegen.triton import compile_kernel, emit_kernel
from tjit.dtypes import DTYPES, as_dtype
from tjit.ir import dims
from tjit.ir.graph import Graph, GraphBuilder, Literal
from tjit.ir.op import OPS
from tjit.ir.parser import parse_graph
from tjit.ir.types import TensorType

pytest.importorskip("triton")
pytest.importorskip("tjit.codegen.schedule", reason="there is no scheduler yet")
from tjit.codegen.schedule import Placed, schedule
from tjit.codegen.steps import Step
from tjit.codegen.triton.interpreter import interpret

COMPILED = {"f32": 90, "bf16": 80, "i64": 80, "bool": 80}  # all dtypes do; these keep the test short
KINDS = ("elementwise", "movement", "create", "reduce", "contract", "index")
PRIMITIVES = [op for op in OPS.values() if op.kind in KINDS and op.name != "constant"]
ALLOWED = {
    "float": "float",
    "int": "int",
    "number": "float int",
    "bool": "bool",
    "integral": "int bool",
    "any": "float int bool",
}


def references(graph: Graph, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph` by the references of its ops."""
    known = dict(zip(graph.inputs, inputs, strict=True))

    def value(operand):
        return np.asarray(operand.value, operand.dtype.numpy) if isinstance(operand, Literal) else known[operand]

    with np.errstate(all="ignore"):
        for node in graph.nodes:
            results = node.op.reference(*map(value, node.operands), **node.attrs)
            results = results if isinstance(results, tuple) else (results,)
            known.update(zip(node.results, map(np.asarray, results), strict=True))
    return [np.asarray(value(o)) for o in graph.outputs]


def run(graph: Graph, inputs: list[np.ndarray], symbols=None, arch: int | None = 80) -> list[np.ndarray]:
    """The outputs of `graph` by interpreted kernels, each compiled for `arch` too."""
    plan, symbols = schedule(graph), symbols or {}
    memory = dict(zip(plan.inputs, inputs, strict=True))

    def array(placed: Placed) -> np.ndarray:
        if placed not in memory:
            shape = [dims.evaluate(d, symbols) for d in placed.type.shape]
            made = np.full(shape, 77, placed.type.dtype.numpy) if placed.data is None else placed.data
            memory[placed] = made
        return memory[placed]

    for step in plan.steps:
        assert isinstance(step, Step)  # no graph here has control flow
        kernel = emit_kernel(step.kernel)
        if arch is not None:
            assert compile_kernel(kernel, arch)
        given = dict(zip(step.kernel.buffers, step.arguments, strict=True))
        interpret(kernel, [array(given[b]) for b in kernel.buffers], symbols)
    return [array(p) for p in plan.outputs]


def random_inputs(types, low, high, rng, ranges=()):
    made = []
    for n, t in enumerate(types):
        a, b = ranges[n] if ranges else (low, high)
        values = rng.uniform(a, b, t.shape)
        if t.dtype.kind == "int":
            a, b = max(int(np.ceil(a)), 0 if not t.dtype.is_signed else -100), int(np.floor(b))
            values = rng.integers(a, max(a, b) + 1, t.shape)
        made.append(np.asarray(values > 0 if t.dtype.kind == "bool" else values).astype(t.dtype.numpy))
    return made


def assert_close(got, expected, dtype, factor=1.0):
    if dtype.kind != "float":
        np.testing.assert_array_equal(got, expected)
        return
    rtol = {"f16": 2e-3, "bf16": 2e-2, "f32": 4e-6, "f64": 1e-13}[dtype.name] * factor
    np.testing.assert_allclose(got.astype("f8"), expected.astype("f8"), rtol=rtol, atol=rtol)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("op", PRIMITIVES, ids=lambda op: op.name)
def test_primitive_agrees_with_its_reference(op, dtype, rng):
    if dtype.kind not in ALLOWED[op.dtypes]:
        pytest.skip(f"{op.name} takes {op.dtypes}")
    for sample in op.samples:
        names = sample.dtypes or (None,) * len(sample.shapes)
        types = [TensorType(as_dtype(n) if n else dtype, s) for n, s in zip(names, sample.shapes, strict=True)]
        builder = GraphBuilder(op.name)
        operands = [builder.input(t, f"x{n}") for n, t in enumerate(types)]
        graph = builder.finish(builder.add(op, operands, sample.attrs))
        inputs = random_inputs(types, sample.low, sample.high, rng, sample.ranges)
        expected = references(graph, inputs)

        got = run(graph, inputs, arch=COMPILED.get(dtype.name))

        for a, b, value in zip(got, expected, graph.outputs, strict=True):
            assert a.shape == b.shape
            assert_close(a, b, value.type.dtype, op.tolerance * 4)


GRAPHS = {
    "softmax": """
graph softmax(%x: f32[6, 50]) -> f32[6, 50] {
  %0: f32[6, 1] = max(%x, dims=(1,), keepdim=True)
  %1: f32[6, 50] = broadcast_to(%0, shape=(6, 50))
  %2: f32[6, 50] = sub(%x, %1)
  %3: f32[6, 50] = exp(%2)
  %4: f32[6, 1] = sum(%3, dims=(1,), keepdim=True)
  %5: f32[6, 50] = broadcast_to(%4, shape=(6, 50))
  %6: f32[6, 50] = div(%3, %5)
  return %6
}
""",
    "columns": """
graph columns(%x: f32[200, 70]) -> f32[70], f32[200, 70] {
  %0: f32[70] = sum(%x, dims=(0,), keepdim=False)
  %1: f32[1, 70] = reshape(%0, shape=(1, 70))
  %2: f32[200, 70] = broadcast_to(%1, shape=(200, 70))
  %3: f32[200, 70] = sub(%x, %2)
  return %0, %3
}
""",
    "layer": """
graph layer(%x: f32[B, 45], %w: f32[45, 33], %b: f32[33]) -> f32[B, 33], f32[] {
  %0: f32[B, 33] = dot(%x, %w)
  %1: f32[1, 33] = reshape(%b, shape=(1, 33))
  %2: f32[B, 33] = broadcast_to(%1, shape=(B, 33))
  %3: f32[B, 33] = add(%0, %2)
  %4: f32[B, 33] = maximum(%3, 0.0)
  %5: f32[] = sum(%4, dims=(0, 1), keepdim=False)
  return %4, %5
}
""",
    "long": """
graph long(%x: f32[300, 301]) -> f32[] {
  %0: f32[300, 301] = mul(%x, %x)
  %1: f32[] = sum(%0, dims=(0, 1), keepdim=False)
  return %1
}
""",
    "turned": """
graph turned(%x: f32[30, 40], %y: f32[30, 20]) -> f32[40, 20] {
  %0: f32[40, 30] = permute(%x, dims=(1, 0))
  %1: f32[40, 30] = cos(%0)
  %2: f32[40, 20] = dot(%1, %y)
  %3: f32[40, 20] = neg(%2)
  return %3
}
""",
}


@pytest.mark.parametrize("name", GRAPHS)
def test_graph_agrees_with_its_references(name, rng):
    graph = parse_graph(GRAPHS[name])
    symbols = {"B": 75} if name == "layer" else {}
    shapes = [[dims.evaluate(d, symbols) for d in v.type.shape] for v in graph.inputs]
    inputs = [rng.standard_normal(s).astype("f4") for s in shapes]
    expected = references(parse_graph(GRAPHS[name].replace("B", "75")), inputs)

    got = run(graph, inputs, symbols)

    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-3)


HALVES = {
    "rows": """
graph rows(%x: f16[9, 40]) -> f16[9, 40], f16[9], bool[9, 40], i32[9, 40], f16[9, 1] {
  %0: f16[9, 40] = mul(%x, 1.3)
  %1: f16[9, 40] = add(%0, %x)
  %2: f16[9, 1] = max(%1, dims=(1,), keepdim=True)
  %3: f16[9, 40] = broadcast_to(%2, shape=(9, 40))
  %4: bool[9, 40] = eq(%1, %3)
  %5: f16[9, 40] = where(%4, %1, %0)
  %6: f16[9] = sum(%5, dims=(1,), keepdim=False)
  %7: f16[9, 40] = mul(%1, 8.0)
  %8: i32[9, 40] = cast(%7, dtype=i32)
  %9: f16[9, 1] = reshape(%6, shape=(9, 1))
  %10: f16[9, 1] = mul(%9, 1.1)
  return %1, %6, %4, %8, %10
}
""",
    "product": """
graph product(%x: f16[20, 33], %y: f16[33, 40]) -> f16[20, 40] {
  %0: f16[20, 33] = mul(%x, 1.3)
  %1: f16[20, 40] = dot(%0, %y)
  %2: f16[20, 40] = mul(%1, 1.3)
  %3: f16[20, 40] = add(%2, 0.3)
  return %3
}
""",
}


@pytest.mark.parametrize("dtype", ["f16", "bf16"])
@pytest.mark.parametrize("name", HALVES)
def test_halves_are_rounded_by_each_node(name, dtype, rng):
    graph = parse_graph(HALVES[name].replace("f16", dtype))
    inputs = [(rng.integers(-15, 16, v.type.shape) / 8).astype(v.type.dtype.numpy) for v in graph.inputs]
    expected = references(graph, inputs)

    got = run(graph, inputs)

    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a.astype("f4"), b.astype("f4"))
