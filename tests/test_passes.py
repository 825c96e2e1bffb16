"""Passes: what their docstrings show, and graphs that keep their values."""

from __future__ import annotations

import inspect
import itertools
import textwrap
from dataclasses import replace

import numpy as np
import pytest
from counting import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

import tjit
from tjit.capture.trace import inline, trace_graph
from tjit.dtypes import DTYPES, DType, bool_, f32, f64, i64
from tjit.errors import VerifyError
from tjit.ir.dims import Symbol, lower_bound
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph, GraphBuilder, Literal, Value
from tjit.ir.op import OPS
from tjit.ir.parser import parse_graph
from tjit.ir.printer import print_graph
from tjit.ir.types import TensorType
from tjit.ir.verify import verify
from tjit.location import Location
from tjit.ops.elementwise import add, mul
from tjit.passes import decomposition, rules
from tjit.passes.algebra import simplify_algebra
from tjit.passes.claims import is_claimed
from tjit.passes.common_nodes import merge_common_nodes
from tjit.passes.constants import fold_constants
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.passes.decomposition import decompose
from tjit.passes.matmul_chains import reorder_matmul_chains
from tjit.passes.pipeline import DEFAULT, UNCLAIMED, PassRun, run_passes
from tjit.passes.rules import RULES, Rule

PASSES = sorted({*DEFAULT, *UNCLAIMED}, key=lambda one: one.__name__)
HERE, THERE = Location("model.py", 3), Location("model.py", 4)


def _example(run_pass, word: str) -> str:
    doc = inspect.getdoc(run_pass) or ""
    lines = doc.split(f"{word}:\n", 1)[1].split("\n")
    end = lines.index("    }")
    return textwrap.dedent("\n".join(lines[: end + 1]))


def _graph(text: str) -> Graph:
    return parse_graph(textwrap.dedent(text).strip())


def _body(graph: Graph) -> list[str]:
    return [line.strip() for line in print_graph(graph, locations=False).split("\n")[1:-1]]


@pytest.mark.parametrize("run_pass", PASSES, ids=lambda p: p.__name__)
def test_docstring_example(run_pass):
    result = run_pass(parse_graph(_example(run_pass, "Before")))

    verify(result)
    assert print_graph(result) == _example(run_pass, "After")


@pytest.mark.parametrize("run_pass", PASSES, ids=lambda p: p.__name__)
def test_a_pass_changes_nothing_in_its_own_result(run_pass):
    after = parse_graph(_example(run_pass, "After"))

    assert run_pass(after) is after


FLOATS = (0.0, -0.0, 1.0, -1.0, 1.5, -2.25, 0.3, 1e-4, 6e4, -3e4, 1e-7, np.inf, -np.inf, np.nan)
EXTREMES = (1e38, -1e38, 1e-45, 3e-39, 2.0**127)
INTS = (0, 1, -1, 2, 7, -13, 127, -128, 255, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
NUMBERS = (0.0, -0.0, 1.0, -1.0, 2.0, -8.0, 0.25, 3.0, 2.0**-14, 2.0**-15, 2.0**126, 2.0**-127, 1e300)


def _specials(dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        if dtype.kind == "bool":
            return np.array([False, True])
        if dtype.kind == "int":
            return np.unique([Literal(n, dtype).value for n in INTS]).astype(dtype.numpy)
        return np.array([*FLOATS, *EXTREMES]).astype(dtype.numpy)


def _assert_same_bits(found: np.ndarray, wanted: np.ndarray) -> None:
    assert found.dtype == wanted.dtype
    wide = np.float64 if found.dtype.kind not in "biu" else found.dtype
    a, b = found.astype(wide), wanted.astype(wide)
    np.testing.assert_array_equal(a, b)  # nan equals nan
    if wide is np.float64:
        number = ~np.isnan(a)
        np.testing.assert_array_equal(np.signbit(a[number]), np.signbit(b[number]), "the sign of a zero")


def _side(rule: Rule, side: str, types: list[TensorType], numbers: dict) -> Graph:
    """The graph of a rule's pattern or replacement, for numbers that are known."""
    names = [p for p in rule.parameters if p not in rule.numbers]
    function = getattr(rule, side)
    return trace_graph("f", lambda *xs: function(**dict(zip(names, xs, strict=True)), **numbers), types, names)


def _types(rule: Rule, dtype: DType, shape: tuple[int, ...]) -> list[TensorType]:
    return [TensorType(bool_ if p == "c" else dtype, shape) for p in rule.parameters if p not in rule.numbers]


def check_rule(rule: Rule, dtype: DType) -> None:
    """Compare both sides of a rule, to the bit, on every combination of special numbers."""
    columns = [_specials(t.dtype) for t in _types(rule, dtype, ())]
    rows = zip(*itertools.product(*columns), strict=True)
    arrays = [np.array(row).astype(c.dtype) for row, c in zip(rows, columns, strict=True)]
    types = _types(rule, dtype, arrays[0].shape)
    candidates = NUMBERS if dtype.kind == "float" else (0, 1, -1, 2, 7, 255, -128)
    checked = 0
    for numbers in itertools.product(candidates, repeat=len(rule.numbers)):
        literals = [Literal(n, dtype).value for n in numbers]
        if rule.when is None or rule.when(*literals, dtype):
            named = dict(zip(rule.numbers, literals, strict=True))
            wanted, found = (evaluate(_side(rule, side, types, named), arrays) for side in ("pattern", "replacement"))
            _assert_same_bits(found[0], wanted[0])
            checked += 1
    assert checked or rule.when


EXACT = [(rule, t) for rule in RULES for t in DTYPES if t.kind in rule.exact]


@pytest.mark.parametrize(("rule", "dtype"), EXACT, ids=lambda p: p.name)
def test_an_exact_rule_keeps_every_bit(rule, dtype):
    check_rule(rule, dtype)


FAST = [rule for rule in RULES if rule.fast]


@pytest.mark.parametrize("rule", FAST, ids=lambda rule: rule.name)
def test_a_rule_of_fast_math_is_not_exact(rule):
    with pytest.raises(AssertionError):
        check_rule(rule, f32)


@pytest.mark.parametrize("rule", FAST, ids=lambda rule: rule.name)
def test_a_rule_of_fast_math_holds_for_ordinary_numbers(rule, rng):
    types = _types(rule, f64, (100,))
    arrays = [rng.uniform(0.5, 3, 100) for _ in types]
    numbers = dict.fromkeys(rule.numbers, 3.0)

    wanted, found = (evaluate(_side(rule, side, types, numbers), arrays) for side in ("pattern", "replacement"))

    np.testing.assert_allclose(found[0], wanted[0], rtol=1e-13, atol=1e-15)


@pytest.mark.parametrize(
    "wrong",
    [
        Rule("add_zero", lambda x: add(x, 0.0), lambda x: x, ("float",)),
        Rule("mul_zero", lambda x: mul(x, 0.0), lambda x: tjit.zeros_like(x), ("float",)),
        Rule("swapped", lambda x, y: tjit.sub(x, y), lambda x, y: tjit.sub(y, x), ("float",)),
        Rule("div_any", lambda x, k: tjit.div(x, k), lambda x, k: mul(x, 1 / k), ("float",), when=lambda k, _: k != 0),
    ],
    ids=lambda rule: rule.name,
)
def test_a_wrong_rule_is_caught(wrong, monkeypatch):
    monkeypatch.setattr(rules, "RULES", (*RULES, wrong))
    caught = []
    for rule in rules.RULES:
        if "float" in rule.exact:
            try:
                check_rule(rule, f32)
            except AssertionError:
                caught.append(rule)

    assert caught == [wrong]


def test_rules_have_one_name_each():
    names = [rule.name for rule in RULES]

    assert len(set(names)) == len(names)


def _applied(rule: Rule, kind: str, fast: bool) -> tuple[list[str], list[str]]:
    """The simplified pattern, and the replacement."""
    dtype = {"float": f32, "int": i64, "bool": bool_}[kind]
    numbers = dict.fromkeys(rule.numbers, 4.0 if kind == "float" else 4)
    graphs = [_side(rule, side, _types(rule, dtype, (5,)), numbers) for side in ("pattern", "replacement")]
    sides = [_body(eliminate_dead_nodes(simplify_algebra(graph, fast_math=fast))) for graph in graphs]
    return sides[0], sides[1]


@pytest.mark.parametrize(
    ("rule", "kind"), [(r, k) for r in RULES for k in r.exact], ids=lambda p: getattr(p, "name", p)
)
def test_an_exact_rule_is_applied(rule, kind):
    simplified, replacement = _applied(rule, kind, fast=False)

    assert simplified == replacement


@pytest.mark.parametrize("rule", FAST, ids=lambda rule: rule.name)
def test_a_fast_rule_is_applied_with_fast_math_alone(rule):
    exact, _ = _applied(rule, "float", fast=False)
    fast, replacement = _applied(rule, "float", fast=True)

    assert fast == replacement
    assert exact != fast or rule.name == "div_number"  # by 4, exactly


def test_a_pattern_matches_operands_in_either_order():
    graph = _graph(
        "graph f(%x: f32[4], %y: f32[4]) -> f32[4] { %0: f32[4] = neg(%x) %1: f32[4] = add(%0, %y) return %1 }"
    )

    assert _body(eliminate_dead_nodes(simplify_algebra(graph))) == ["%0: f32[4] = sub(%y, %x)", "return %0"]


def test_a_rule_that_drops_the_shaped_operand_keeps_the_shape():
    graph = _graph("""
        graph f(%x: f32[], %y: f32[4]) -> f32[4] {
          %0: f32[4] = where(true:bool, %x, %y)
          return %0
        }""")

    after = run_passes(graph)

    assert _body(after) == ["%0: f32[4] = broadcast_to(%x, shape=(4,))", "return %0"]


def test_a_clone_stays_only_as_an_output():
    graph = _graph("""
        graph f(%x: f32[4]) -> f32[4], f32[4] {
          %0: f32[4] = clone(%x)
          %1: f32[4] = exp(%0)
          return %0, %1
        }""")

    assert _body(simplify_algebra(graph)) == ["%0: f32[4] = clone(%x)", "%1: f32[4] = exp(%x)", "return %0, %1"]


MOVES = {
    "permute": (
        "f32[2, 3, 4]", "permute(%x, dims=(1, 2, 0))", "f32[3, 4, 2]", "permute(%0, dims=(2, 0, 1))", "f32[2, 3, 4]",
    ),
    "permute_two": (
        "f32[2, 3, 4]", "permute(%x, dims=(1, 2, 0))", "f32[3, 4, 2]", "permute(%0, dims=(1, 2, 0))", "f32[4, 2, 3]",
    ),
    "reshape": ("f32[6]", "reshape(%x, shape=(2, 3))", "f32[2, 3]", "reshape(%0, shape=(6,))", "f32[6]"),
    "broadcast": (
        "f32[3, 1]", "broadcast_to(%x, shape=(3, 5))", "f32[3, 5]", "broadcast_to(%0, shape=(2, 3, 5))", "f32[2, 3, 5]",
    ),
    "slice": (
        "f32[20]", "slice(%x, starts=(2,), stops=(20,), steps=(3,))", "f32[6]",
        "slice(%0, starts=(1,), stops=(6,), steps=(2,))", "f32[3]",
    ),
    "slice_first": (
        "f32[20]", "slice(%x, starts=(2,), stops=(20,), steps=(1,))", "f32[18]",
        "slice(%0, starts=(1,), stops=(16,), steps=(4,))", "f32[4]",
    ),
    "pad": (
        "f32[2]", "pad(%x, low=(1,), high=(0,), value=0)", "f32[3]", "pad(%0, low=(0,), high=(2,), value=0)", "f32[5]",
    ),
    "flip": ("f32[2, 3]", "flip(%x, dims=(0,))", "f32[2, 3]", "flip(%0, dims=(0, 1))", "f32[2, 3]"),
    "cast_back": ("f32[4]", "cast(%x, dtype=f64)", "f64[4]", "cast(%0, dtype=f32)", "f32[4]"),
    "cast_down": ("f16[4]", "cast(%x, dtype=f32)", "f32[4]", "cast(%0, dtype=bf16)", "bf16[4]"),
    "cast_int": ("i64[4]", "cast(%x, dtype=i32)", "i32[4]", "cast(%0, dtype=u8)", "u8[4]"),
}  # fmt: skip


def _two(case: str) -> Graph:
    source, first, middle, second, target = MOVES[case]
    return _graph(f"graph f(%x: {source}) -> {target} {{ %0: {middle} = {first} %1: {target} = {second} return %1 }}")


@pytest.mark.parametrize("case", MOVES)
def test_moves_in_a_row_become_one(case, rng):
    graph = _two(case)
    x = graph.inputs[0].type
    array = (rng.standard_normal(x.shape) * 1000).astype(x.dtype.numpy)
    after = eliminate_dead_nodes(simplify_algebra(graph))

    verify(after)
    assert len(after.nodes) <= 1
    _assert_same_bits(evaluate(after, [array])[0], evaluate(graph, [array])[0])


def _casts() -> list[tuple[DType, DType, DType]]:
    return list(itertools.product(DTYPES, DTYPES, DTYPES))


def test_casts_join_only_where_the_value_stays():
    with np.errstate(all="ignore"):
        for source, middle, target in _casts():
            if middle in (source, target):
                continue
            t = [TensorType(d, (len(_specials(source)),)) for d in (source, middle, target)]
            g = GraphBuilder("f")
            x = g.input(t[0], "x")
            y = g.add_one(OPS["cast"], g.add_one(OPS["cast"], x, dtype=middle), dtype=target)
            graph = g.finish([y])
            after = simplify_algebra(graph)
            if after is not graph:
                _assert_same_bits(evaluate(after, [_specials(source)])[0], evaluate(graph, [_specials(source)])[0])


@pytest.mark.parametrize(
    "node",
    [
        "cast(%x, dtype=f64)",
        "pad(%x, low=(-1,), high=(1,), value=0)",
        "flip(%x, dims=(0,))",
        "sum(%x, dims=(0,), keepdim=True)",
    ],
)
def test_a_move_that_does_something_stays(node):
    dtype = "f64" if "f64" in node else "f32"
    size = 1 if "sum" in node else 4
    graph = _graph(f"graph f(%x: f32[4]) -> {dtype}[{size}] {{ %0: {dtype}[{size}] = {node} return %0 }}")

    assert simplify_algebra(graph) is graph


def test_symbolic_shapes_join_too():
    graph = _graph("""
        graph f(%x: f32[B, 4]) -> f32[2*B, 2] {
          %0: f32[4*B] = reshape(%x, shape=(4*B,))
          %1: f32[2*B, 2] = reshape(%0, shape=(2*B, 2))
          return %1
        }""")

    assert _body(run_passes(graph)) == ["%0: f32[2*B, 2] = reshape(%x, shape=(2*B, 2))", "return %0"]


def test_numbers_are_computed_in_their_dtype():
    graph = _graph("graph f() -> f16[] { %0: f16[] = add(0.1:f16, 0.2:f16) return %0 }")
    (value,) = evaluate(fold_constants(graph), [])

    assert value.dtype == np.float16
    assert value == np.float16(0.1) + np.float16(0.2)
    assert [n.op.name for n in fold_constants(graph).nodes] == ["full"]


def test_zeros_of_a_sum_are_zeros_but_minus_zeros_are_left():
    text = """
        graph f() -> f32[3] {{
          %0: f32[3, 4] = full(value={}, shape=(3, 4), dtype=f32, device=cpu)
          %1: f32[3] = sum(%0, dims=(1,), keepdim=False)
          return %1
        }}"""

    assert "sum" not in str(fold_constants(_graph(text.format("0.0"))))
    assert "sum" in str(fold_constants(_graph(text.format("-0.0"))))


def test_a_number_does_not_take_the_shape_away():
    graph = _graph("""
        graph f(%x: f32[]) -> f32[4] {
          %0: f32[4] = full(value=1.0, shape=(4,), dtype=f32, device=cpu)
          %1: f32[4] = add(%x, %0)
          return %1
        }""")

    assert fold_constants(graph) is graph


@pytest.mark.parametrize(("a", "b"), [("0.0", "-0.0"), ("1", "1.0"), ("1", "True"), ("nan", "0.0")])
def test_numbers_that_python_calls_equal_are_not_merged(a, b):
    fill = "%{}: f32[2] = full(value={}, shape=(2,), dtype=f32, device=cpu)"
    graph = _graph(f"graph f() -> f32[2], f32[2] {{ {fill.format(0, a)} {fill.format(1, b)} return %0, %1 }}")

    assert merge_common_nodes(graph) is graph


def test_literals_of_two_zeros_are_not_merged():
    graph = _graph("""
        graph f(%x: f32[2]) -> f32[2], f32[2] {
          %0: f32[2] = add(%x, 0.0)
          %1: f32[2] = add(%x, -0.0)
          return %0, %1
        }""")

    assert merge_common_nodes(graph) is graph


def test_a_quotient_is_not_merged_with_its_inverse():
    graph = _graph("""
        graph f(%x: f32[2], %y: f32[2]) -> f32[2], f32[2] {
          %0: f32[2] = div(%x, %y)
          %1: f32[2] = div(%y, %x)
          return %0, %1
        }""")

    assert merge_common_nodes(graph) is graph


def _chain(shapes: list[str], left_first: bool = True) -> Graph:
    g = GraphBuilder("chain")
    b = Symbol("B", 1).dim
    values = [g.input(TensorType(f64, tuple(b if d == "B" else int(d) for d in s.split("x")))) for s in shapes]
    while len(values) > 1:
        at = 0 if left_first else len(values) - 2
        values[at : at + 2] = [g.add_one(OPS["matmul"], values[at], values[at + 1])]
    return g.finish(values)


def _multiplications(graph: Graph, sizes: dict[str, int] | None = None) -> int:
    total = 0
    for node in graph.nodes:
        a, b = (o.type.shape for o in node.operands)
        m, n = (a[0] if len(a) == 2 else 1), (b[1] if len(b) == 2 else 1)
        total += tjit.ir.dims.evaluate(m * a[-1] * n, sizes or {})
    return total


@given(st.lists(st.integers(1, 9), min_size=4, max_size=8), st.booleans(), st.booleans(), st.booleans())
@settings(deadline=None, max_examples=60)
def test_chains_are_multiplied_in_the_best_order(extents, row, column, left_first):
    shapes = [f"{a}x{b}" for a, b in itertools.pairwise(extents)]
    shapes[0] = str(extents[1]) if row else shapes[0]
    shapes[-1] = str(extents[-2]) if column else shapes[-1]
    graph = _chain(shapes, left_first)
    rng = np.random.default_rng(0)
    arrays = [rng.integers(-3, 4, v.type.shape).astype(np.float64) for v in graph.inputs]  # sums are exact

    after = reorder_matmul_chains(graph)

    verify(after)
    np.testing.assert_array_equal(evaluate(after, arrays)[0], evaluate(graph, arrays)[0])
    assert reorder_matmul_chains(after) is after
    full = [1 if row else extents[0], *extents[1:-1], 1 if column else extents[-1]]
    assert _multiplications(after) == _cheapest(tuple(full))


def _cheapest(extents: tuple[int, ...]) -> int:
    if len(extents) == 2:
        return 0
    return min(
        _cheapest(extents[: k + 1]) + _cheapest(extents[k:]) + extents[0] * extents[k] * extents[-1]
        for k in range(1, len(extents) - 1)
    )


def test_a_product_that_is_read_twice_stays():
    graph = _graph("""
        graph f(%a: f32[64, 64], %b: f32[64, 64], %v: f32[64]) -> f32[64], f32[64, 64] {
          %0: f32[64, 64] = matmul(%a, %b)
          %1: f32[64] = matmul(%0, %v)
          return %1, %0
        }""")

    assert reorder_matmul_chains(graph) is graph


def test_a_vector_in_the_middle_is_no_chain():
    graph = _graph("""
        graph f(%a: f32[8, 8], %v: f32[8], %b: f32[8, 8]) -> f32[8] {
          %0: f32[8] = matmul(%a, %v)
          %1: f32[8] = matmul(%0, %b)
          return %1
        }""")

    assert reorder_matmul_chains(graph) is graph


def test_an_unknown_extent_is_reordered_where_it_is_never_worse():
    vector, rows = _chain(["8x8", "8xB", "B"]), _chain(["Bx8", "8x8", "8x8"])

    assert [n.result.type.ndim for n in reorder_matmul_chains(vector).nodes] == [1, 1]
    assert reorder_matmul_chains(rows) is rows  # 8x8 @ 8x8 first costs more for one row


def test_the_work_for_a_very_long_chain_grows_with_its_length():
    small, large = (_chain(["6x6"] * n + ["6"]) for n in (150, 600))
    after = reorder_matmul_chains(large)

    work = [calls_of(lambda graph=graph: reorder_matmul_chains(graph)) for graph in (small, large)]

    assert work[1] < 4.8 * work[0]  # all ways to put parentheses would be 64 times as many
    verify(after)
    assert _multiplications(after) < _multiplications(large)


COMPOSITES = [op for op in OPS.values() if op.kind == "composite"]


def _call(op, sample) -> tuple[Graph, list[np.ndarray]]:
    rng = np.random.default_rng(1)
    g = GraphBuilder(op.name)
    arrays, values = [], []
    for i, shape in enumerate(sample.shapes):
        dtype = tjit.dtypes.as_dtype(sample.dtypes[i]) if i < len(sample.dtypes) and sample.dtypes[i] else f64
        low, high = sample.ranges[i] if sample.ranges else (sample.low, sample.high)
        arrays.append(np.asarray(rng.uniform(low, high, shape)).astype(dtype.numpy))
        values.append(g.input(TensorType(dtype, shape)))
    return g.finish(g.add(op, values, sample.attrs, location=HERE)), arrays


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_a_decomposition_has_the_value_and_the_location_of_its_composite(op):
    for sample in op.samples:
        graph, arrays = _call(op, sample)

        claimed = run_passes(graph)
        plain = run_passes(claimed, UNCLAIMED)

        assert not [n for n in claimed.nodes if n.op.kind == "composite" and not is_claimed(n)]
        assert not [n for n in plain.nodes if n.op.kind == "composite"]
        for after in (claimed, plain):
            assert {n.location for n in after.nodes} <= {HERE}
            for found, wanted in zip(evaluate(after, arrays), evaluate(graph, arrays), strict=True):
                np.testing.assert_allclose(found, wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("op", COMPOSITES, ids=lambda op: op.name)
def test_composites_that_are_alike_have_the_same_parts_of_other_operands(op):
    for sample in op.samples:
        once, arrays = _call(op, sample)
        g = GraphBuilder("f")
        calls = [g.add(op, [g.input(v.type) for v in once.inputs], sample.attrs, location=at) for at in (HERE, THERE)]
        after = decompose(g.finish([*calls[0], *calls[1]]))

        verify(after)
        alone = decompose(once)
        lines = [node.location for node in after.nodes]
        assert lines == [HERE] * len(alone.nodes) + [THERE] * len(alone.nodes)
        other = [np.flip(a).copy() for a in arrays]
        wanted = [*evaluate(alone, arrays), *evaluate(alone, other)]
        for ours, theirs in zip(evaluate(after, [*arrays, *other]), wanted, strict=True):
            np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("first", "second", "traced"),
    [
        ("matmul(%x, %y)", "matmul(%y, %x)", 1),
        ("matmul(%x, %x)", "matmul(%y, %y)", 1),
        ("matmul(%x, %x)", "matmul(%x, %y)", 2),
        ("linear(%x, %y)", "linear(%y, %x)", 1),
        ("matmul(%x, %x)", "linear(%x, %x)", 2),
    ],
)
def test_composites_are_traced_once_for_operands_alike(first, second, traced, monkeypatch):
    calls = []
    monkeypatch.setattr(decomposition, "inline", lambda *args: calls.append(args) or inline(*args))
    graph = _graph(f"""
        graph f(%x: f32[4, 4], %y: f32[4, 4]) -> f32[4, 4], f32[4, 4] {{
          %0: f32[4, 4] = {first}
          %1: f32[4, 4] = {second}
          return %0, %1
        }}""")

    after = decompose(graph)

    assert len(calls) == traced
    x, y = np.arange(16, dtype=np.float32).reshape(4, 4), np.ones((4, 4), np.float32)
    for ours, theirs in zip(evaluate(after, [x, y]), evaluate(graph, [x, y]), strict=True):
        np.testing.assert_array_equal(ours, theirs)


def test_composites_of_symbolic_sizes_are_traced_each():
    n, same = Symbol("N", 1), Symbol("N", 5)  # equal, and yet more is known of the second
    g = GraphBuilder("f")
    calls = [g.add(OPS["matmul"], [g.input(TensorType(f32, (s.dim, s.dim)))] * 2) for s in (n, same)]

    after = decompose(g.finish([*calls[0], *calls[1]]))

    shapes = [node.result.type.shape[0] for node in after.nodes]
    assert [lower_bound(d) for d in shapes] == [1] * (len(shapes) // 2) + [5] * (len(shapes) // 2)


def test_a_claimed_composite_stays():
    b = GraphBuilder("f")
    x = b.input(TensorType(f32, (2, 16, 8)))
    attrs = {"is_causal": True, "scale": 0.5, "zero_blind": True}
    graph = b.finish(b.add(OPS["scaled_dot_product_attention"], (x, x, x), attrs)[:1])

    assert decompose(graph) is graph
    assert not [n for n in run_passes(graph, UNCLAIMED).nodes if n.op.kind == "composite"]


@st.composite
def graphs(draw) -> Graph:
    g = GraphBuilder("random")
    shape = (2, 3)
    floats: list[Value] = [g.input(TensorType(f32, shape), "x"), g.input(TensorType(f32, shape), "y")]
    bools: list[Value] = [g.input(TensorType(bool_, shape), "c")]
    number = st.sampled_from([0.0, -0.0, 1.0, -1.0, 2.0, 4.0, 0.3, np.inf, np.nan]).map(lambda n: Literal(n, f32))

    def one(values):
        return draw(st.sampled_from(values))

    def operand():
        return draw(number) if draw(st.booleans()) else one(floats)

    for _ in range(draw(st.integers(1, 14))):
        kind = draw(st.integers(0, 8))
        if kind <= 1:
            floats.append(g.add_one(OPS[one(["neg", "abs", "floor", "clone", "relu"])], one(floats)))
        elif kind <= 3:
            pair = [one(floats), operand()]
            pair = pair[::-1] if draw(st.booleans()) else pair
            floats.append(g.add_one(OPS[one(["add", "sub", "mul", "div", "maximum"])], *pair))
        elif kind == 4:
            floats.append(g.add_one(OPS["where"], one(bools), one(floats), operand()))
        elif kind == 5:
            bools.append(g.add_one(OPS[one(["lt", "eq"])], one(floats), operand()))
            bools.append(g.add_one(OPS["bitwise_not"], one(bools)))
        elif kind == 6:
            value = draw(st.sampled_from([0.0, -0.0, 1.0, 3.0]))
            floats.append(g.add_one(OPS["full"], value=value, shape=shape, dtype=f32, device=tjit.devices.cpu))
        elif kind == 7:
            t = g.add_one(OPS["permute"], one(floats), dims=(1, 0))
            floats.append(g.add_one(OPS["permute"], g.add_one(OPS["neg"], t), dims=(1, 0)))
        else:
            t = g.add_one(OPS["reshape"], one(floats), shape=(6,))
            floats.append(g.add_one(OPS["reshape"], t, shape=shape))
    return g.finish([one(floats), one(floats), one(bools)])


@given(graphs(), st.integers(0, 1000))
@settings(deadline=None, max_examples=300)
def test_random_graphs_keep_every_bit(graph, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.choice(_specials(f32), (2, 2, 3))
    arrays = [x, y, rng.random((2, 3)) < 0.5]

    after = run_passes(graph)

    assert len(after.nodes) <= len(graph.nodes)
    for found, wanted in zip(evaluate(after, arrays), evaluate(graph, arrays), strict=True):
        _assert_same_bits(found, wanted)


@given(graphs())
@settings(deadline=None, max_examples=100)
def test_every_pass_is_idempotent_on_random_graphs(graph):
    for run_pass in PASSES:
        once = run_pass(graph)
        verify(once)

        assert run_pass(once) is once


@given(graphs())
@settings(deadline=None, max_examples=50)
def test_text_of_random_graphs_parses_back(graph):
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


def test_every_pass_is_observed_with_its_time():
    graph = parse_graph(_example(simplify_algebra, "Before"))
    seen: list[PassRun] = []

    after = run_passes(graph, observe=seen.append)

    assert [run.name for run in seen] == [one.__name__ for one in DEFAULT]
    assert seen[0].before is graph
    assert seen[-1].after is after
    assert all(run.seconds >= 0 for run in seen)


def swap_nodes(graph: Graph) -> Graph:
    return Graph(graph.name, graph.inputs, graph.nodes[::-1], graph.outputs)


def crash(graph: Graph) -> Graph:
    raise ZeroDivisionError("by accident")


def test_a_pass_that_breaks_a_graph_is_named_with_both_graphs():
    graph = _graph("""
        graph f(%x: f32[4]) -> f32[4] {
          %0: f32[4] = exp(%x)  # model.py:4
          %1: f32[4] = neg(%0)  # model.py:5
          return %1
        }""")

    with pytest.raises(VerifyError) as caught:
        run_passes(graph, [swap_nodes])

    assert str(caught.value) == "node %0 (neg) uses a value before its definition\n  at model.py:5"
    after, before = caught.value.__notes__
    assert after == f"the graph:\n{print_graph(swap_nodes(graph))}"
    assert before == f"after pass swap_nodes; before it:\n{print_graph(graph)}"


def test_a_pass_that_crashes_stops_and_is_named():
    graph = parse_graph(_example(simplify_algebra, "Before"))

    with pytest.raises(ZeroDivisionError) as caught:
        run_passes(graph, [crash])

    assert caught.value.__notes__ == [f"in pass crash, on\n{print_graph(graph)}"]


def test_new_nodes_have_the_location_of_the_node_they_replace():
    g = GraphBuilder("f")
    x = g.input(TensorType(f32, (4,)), "x")
    a = g.add_one(OPS["neg"], x, location=Location("model.py", 1))
    b = g.add_one(OPS["add"], x, a, location=Location("model.py", 2))
    c = g.add_one(OPS["silu"], b)

    after = run_passes(g.finish([c]))

    assert after.nodes[0].location == Location("model.py", 2)
    assert {n.location for n in after.nodes[1:]} == {None}


def test_regions_are_simplified_and_see_what_is_around_them():
    text = """
        graph f(%x: f32[4], %c: bool[]) -> f32[4] {
          %0: f32[4] = exp(%x)
          %1: f32[4] = toy_if(%c) {
            then {
              %2: f32[4] = exp(%x)
              %3: f32[4] = mul(%2, 1.0)
              %4: f32[4] = cos(%2)
              yield %3
            }
            else { %5: f32[4] = sin(%x)  yield %5 }
          }
          %6: f32[4] = sin(%x)
          %7: f32[4] = add(%1, %6)
          %8: f32[4] = add(%7, %0)
          return %8
        }"""
    toy = tjit.ir.op.Op(name="toy_if", kind="control", infer=None, reference=np.add, vjp=None, samples=())
    tjit.ir.op.register(toy)
    try:
        after = run_passes(_graph(text))

        assert _body(after) == [
            "%0: f32[4] = exp(%x)",
            "%1: f32[4] = toy_if(%c) {",
            "then { yield %0 }",
            "else { %2: f32[4] = sin(%x)  yield %2 }",
            "}",
            "%3: f32[4] = sin(%x)",
            "%4: f32[4] = add(%1, %3)",
            "%5: f32[4] = add(%4, %0)",
            "return %5",
        ]
    finally:
        del OPS["toy_if"]


def test_what_an_earlier_pass_left_right_is_refused_out_of_place():
    def drop_dead(graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[:-1])

    def reverse(graph: Graph) -> Graph:
        return replace(graph, nodes=graph.nodes[::-1])

    graph = _graph(
        "graph f(%x: f32[4]) -> f32[4] { %0: f32[4] = exp(%x) %1: f32[4] = neg(%0) %2: f32[4] = neg(%1) return %1 }"
    )

    with pytest.raises(VerifyError, match="uses a value before its definition"):
        run_passes(graph, (drop_dead, reverse))


def _long(blocks: int) -> Graph:
    """Four nodes a block."""
    g = GraphBuilder("long")
    x = g.input(TensorType(f32, (8, 8)), "x")
    y = x
    for i in range(blocks):
        y = g.add_one(OPS["neg"], g.add_one(OPS["neg"], y))
        y = g.add_one(OPS["matmul"], g.add_one(OPS["add"], y, Literal(float(i), f32)), x)
    return g.finish([y])


def test_the_work_of_passes_grows_as_the_graph():
    small, large = _long(125), _long(1250)

    work = [calls_of(lambda graph=graph: run_passes(graph)) for graph in (small, large)]

    assert work[1] < 13 * work[0]


WRITTEN_TWICE = """graph f(%x: f32[4], %y: f32[2], %z: f32[2]) -> f32[4] {{
  %0: f32[4] = slice_update(%x, %y, starts=(1,), stops=(3,), steps=(1,))
  {read}
  return %1
}}
"""
SAME_PLACE = "starts=(1,), stops=(3,), steps=(1,)"


@pytest.mark.parametrize(
    ("read", "left"),
    [
        (f"%1: f32[4] = slice_update(%0, %z, {SAME_PLACE})", ["slice_update"]),
        (f"%2: f32[2] = slice(%0, {SAME_PLACE}) %1: f32[4] = slice_update(%0, %2, {SAME_PLACE})", ["slice_update"]),
        (
            f"%2: f32[2] = slice(%0, starts=(0,), stops=(2,), steps=(1,)) %3: f32[2] = add(%2, %z) "
            f"%1: f32[4] = slice_update(%0, %3, {SAME_PLACE})",
            ["slice_update", "slice", "add", "slice_update"],
        ),
    ],
    ids=["unread", "what is there", "read between"],
)
def test_an_update_goes_where_the_next_is_at_its_place_if_no_one_reads_it(read, left):
    graph = parse_graph(WRITTEN_TWICE.format(read=read.replace(" %1:", "\n  %1:").replace(" %3:", "\n  %3:")))

    after = eliminate_dead_nodes(simplify_algebra(graph))

    assert [node.op.name for node in after.nodes] == left
