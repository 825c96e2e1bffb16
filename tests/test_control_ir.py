"""Control flow in the IR: text, rules, evaluation, copies and passes of graphs with regions."""

from __future__ import annotations

import textwrap
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import tjit
from tjit.autograd.compiled import Joint, split_joint
from tjit.dtypes import f64
from tjit.errors import ArgumentError, DimensionError, ParseError, VerifyError
from tjit.ir import dims
from tjit.ir.clone import clone_nodes, clone_region
from tjit.ir.dims import Symbol
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph, Node, Value
from tjit.ir.parser import parse_graph
from tjit.ir.printer import print_graph
from tjit.ir.scope import bound_names, each_node, mentioned, used_names
from tjit.ir.types import TensorType
from tjit.ir.verify import verify
from tjit.passes.algebra import simplify_algebra
from tjit.passes.carried import uncarry_invariants
from tjit.passes.constants import fold_constants
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.passes.loop_invariants import hoist_invariants
from tjit.passes.partial_sums import narrow_sums
from tjit.passes.pipeline import run_passes


def _graph(text: str) -> Graph:
    return parse_graph(textwrap.dedent(text).strip())


NESTED = """
    graph f(%y: f64[N], %c: bool[], %k: i64[]) -> f64[N], f64[], i64[] where N in [2, inf] {
      %0: f64[N], %1: f64[] = for(%y, 0.5, counter="i0", trip=N - 1) {  # model.py:3
        body(%y_1: f64[N], %s: f64[]) {
          %2: f64[N] = for(%y_1, counter="i1", trip=i0 + 1) {
            body(%y_2: f64[N]) {
              %3: f64[i1 + 1] = slice(%y_2, starts=(0,), stops=(i1 + 1,), steps=(1,))
              %4: f64[] = sum(%3, dims=(0,), keepdim=False)
              %5: f64[1] = reshape(%4, shape=(1,))
              %6: f64[N] = slice_update(%y_2, %5, starts=(i0 + 1,), stops=(i0 + 2,), steps=(1,))
              yield %6
            }
          }
          %7: i64[] = full(value=i0, shape=(), dtype=i64, device=cpu)
          %8: f64[] = cast(%7, dtype=f64)
          %9: f64[] = add(%s, %8)
          yield %2, %9
        }
      }
      bind(%k, symbol="u0", low=0, high=N - 1)
      %10: f64[1] = slice(%0, starts=(u0,), stops=(u0 + 1,), steps=(1,))
      %11: f64[] = reshape(%10, shape=())
      %12: f64[], %13: i64[] = if(%c, %11) {
        then(%input: f64[]) { yield 1.5:f64, 3:i64 }
        else(%input_1: f64[]) { yield %input_1, %k }
      }
      %14: i64[], %15: f64[] = while(0:i64, %1) {
        test(%n: i64[], %x: f64[]) { %16: bool[] = lt(%n, 3)  yield %16 }
        body(%n_1: i64[], %x_1: f64[]) {
          %17: i64[] = add(%n_1, 1)
          %18: f64[] = mul(%x_1, %12)
          yield %17, %18
        }
      }
      %19: i64[] = add(%13, %14)
      return %0, %15, %19
    }"""


def test_text_of_nested_control_flow_parses_back():
    text = textwrap.dedent(NESTED).strip()
    graph = parse_graph(text)

    verify(graph)
    assert print_graph(graph) == text


BAD_TEXT = {
    'for(%x, counter="i0", trip=N) { body(%a: f64[N]) { yield %a } } %1: f64[i0] = neg(%x)': "`i0` is not a symbol",
    'for(%x, counter="N", trip=3) { body(%a: f64[N]) { yield %a } }': "`for` binds `N`, which is a symbol already",
    'for(%x, counter="min", trip=3) { body(%a: f64[N]) { yield %a } }': "for binds a symbol, which cannot be called",
    'for(%x, counter="i0", trip=1.5) { body(%a: f64[N]) { yield %a } }': "for needs an int or a dim as trip, not 1.5",
    'for(%x, counter="i0", trip=i0) { body(%a: f64[N]) { yield %a } }': "`i0` is not a symbol",
    'for(%x, counter="i0") { body(%a: f64[N]) { yield %a } }': "for: ",
}


@pytest.mark.parametrize("node", BAD_TEXT, ids=BAD_TEXT.get)
def test_symbols_in_text_are_seen_where_they_are_bound_alone(node):
    with pytest.raises(ParseError, match=BAD_TEXT[node]):
        _graph(f"graph f(%x: f64[N]) -> f64[N] {{ %0: f64[N] = {node} return %0 }}")


def test_a_counter_has_its_bounds_in_text_too():
    graph = _graph(
        """
        graph f(%x: f64[8]) -> f64[8] {
          %0: f64[8] = for(%x, counter="i0", trip=max(0, N - 2)) {
            body(%a: f64[8]) {
              %1: f64[min(i0, N)] = full(value=1.0, shape=(min(i0, N),), dtype=f64, device=cpu)
              yield %a
            }
          }
          return %0
        }""".replace("%x: f64[8])", "%x: f64[8], %n: f64[N])")
    )

    assert "%1: f64[i0] = full" in print_graph(graph)


def test_copies_define_values_and_symbols_of_their_own():
    graph = _graph(NESTED)
    taken = used_names(graph)
    again = clone_nodes(graph.nodes, {}, {}, taken)
    both = replace(graph, nodes=graph.nodes + again)

    verify(both)
    assert bound_names(again) == {"i0_1", "i1_1", "u0_1"}
    assert taken == {"N", "i0", "i1", "u0", "i0_1", "i1_1", "u0_1"}
    assert all(a.location == b.location for a, b in zip(each_node(graph.nodes), each_node(again), strict=True))


def test_a_copy_reads_other_values_and_has_other_dims():
    (loop, *_) = _graph(NESTED).nodes
    y, old = Value(TensorType(f64, (9,)), "z"), loop.operands[0]
    assert isinstance(old, Value)
    copy = clone_nodes([loop], {old: y}, {"N": 9})
    graph = Graph("g", (y,), copy, (copy[0].results[0],))

    verify(graph)
    assert copy[0].attrs["trip"] == 8
    assert mentioned(copy[0]) == {"i0", "i1"}


def test_a_copied_region_may_lose_its_counter():
    (loop, *_) = _graph(NESTED).nodes
    region = clone_region(loop.regions[0], {}, {"i0": 3})

    (inner, *_) = region.nodes
    assert inner.attrs["trip"] == 4
    assert [str(n.results[0].type) for n in inner.regions[0].nodes[:1]] == ["f64[i1 + 1]"]
    assert {s.maximum for s in dims.symbols(inner.regions[0].nodes[0].results[0].type.shape[0])} == {3}


def _nested(y: np.ndarray, c: bool, k: int) -> tuple[np.ndarray, float, int]:
    """What the graph `NESTED` computes, in NumPy."""
    y, s = y.copy(), 0.5
    for i in range(len(y) - 1):
        for j in range(i + 1):
            y[i + 1] = y[: j + 1].sum()
        s += i
    factor, m = (1.5, 3) if c else (y[k], k)
    return y, s * factor**3, m + 3


@pytest.mark.parametrize(("size", "c", "k"), [(2, True, 0), (5, False, 3), (9, False, 8), (9, True, 2)])
def test_nested_control_flow_runs_as_in_numpy(size, c, k, rng):
    y = rng.standard_normal(size)

    found = evaluate(_graph(NESTED), [y, np.asarray(c), np.asarray(k)])

    for a, b in zip(found, _nested(y, c, k), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


def test_a_copy_computes_the_same(rng):
    graph = _graph(NESTED)
    values: dict = {}
    nodes = clone_nodes(graph.nodes, values, {}, used_names(graph))
    copy = replace(graph, nodes=nodes, outputs=tuple(values.get(o, o) for o in graph.outputs))
    arrays = [rng.standard_normal(6), np.asarray(False), np.asarray(4)]

    for a, b in zip(evaluate(copy, arrays), evaluate(graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("k", [-1, 4])
def test_a_bound_integer_out_of_range_is_an_error(k):
    with pytest.raises(DimensionError, match="index out of range"):
        evaluate(_graph(NESTED), [np.zeros(4), np.asarray(True), np.asarray(k)])


def test_no_trips_give_what_came_in():
    graph = _graph("""
        graph f(%x: f64[], %t: f64[T]) -> f64[], f64[] {
          %0: f64[] = for(%x, counter="i0", trip=T) { body(%a: f64[]) { %1: f64[] = exp(%a) yield %1 } }
          %2: f64[] = while(%x) {
            test(%b: f64[]) { %3: bool[] = gt(%b, 1.0) yield %3 }
            body(%c: f64[]) { %4: f64[] = exp(%c) yield %4 }
          }
          return %0, %2
        }""")

    assert evaluate(graph, [np.asarray(0.5), np.zeros(0)]) == [0.5, 0.5]


def test_types_are_checked_on_every_trip():
    graph = _graph("""
        graph f(%x: f64[5], %k: i64[]) -> f64[5] {
          %0: f64[5] = for(%x, counter="i0", trip=3) {
            body(%a: f64[5]) { %1: f64[i0] = iota(shape=(i0,), dim=0, dtype=f64) yield %a }
          }
          return %0
        }""")
    (loop,) = graph.nodes
    (node,) = loop.regions[0].nodes
    wrong = Node(node.op, node.operands, {**node.attrs, "shape": (2,)}, node.results)
    region = replace(loop.regions[0], nodes=(wrong,))
    broken = replace(graph, nodes=(Node(loop.op, loop.operands, loop.attrs, loop.results, regions=[region]),))

    with pytest.raises(ArgumentError, match=r"a result of iota is f64\[i0\], not float64\[2\]"):
        evaluate(broken, [np.zeros(5), np.asarray(0)])


HEAD = "graph f(%x: f64[N], %s: f64[], %c: bool[], %k: i64[]) -> f64[] {{ {} return %s }}"
BROKEN = {
    "%0: f64[] = if(%s) { then { yield %s } else { yield %s } }":
        "node %0 (if) needs a condition of type bool[], not f64[]",
    "%0: f64[] = if(%c) { then { yield %s } }": "node %0 (if) needs the regions then, else, not then",
    "%0: f64[] = if(%c) { else { yield %s } then { yield %s } }":
        "node %0 (if) needs the regions then, else, not else, then",
    "%0: f64[] = if(%c, %s) { then { yield %s } else(%a: f64[]) { yield %a } }": (
        "node %0 (if) has region then with inputs nothing, but carries f64[]"
    ),
    "%0: f64[] = if(%c) { then { yield %s } else { yield %k } }": (
        "node %0 (if) yields i64[] from region else, but its results are f64[]"
    ),
    "%0: i64[] = if(%c, %s) { then(%a: f64[]) { yield %k } else(%b: f64[]) { yield %k } }": (
        "node %0 (if) has first results i64[], but carries f64[]"
    ),
    "if(%c, %s) { then(%a: f64[]) { yield } else(%b: f64[]) { yield } }": (
        "node of line ? (if) has first results nothing, but carries f64[]"
    ),
    "%0: f64[] = while(%s) { body(%a: f64[]) { yield %a } }": "node %0 (while) needs the regions test, body, not body",
    "%0: f64[] = while(%s) { test(%a: f64[]) { yield %a } body(%b: f64[]) { yield %b } }": (
        "node %0 (while) yields f64[] from region test, which needs one bool[]"
    ),
    "%0: f64[] = while(%s) { test(%a: f64[]) { yield %c } body(%b: f64[]) { yield %k } }": (
        "node %0 (while) yields i64[] from region body, but it carries f64[]"
    ),
    '%0: f64[] = for(%s, counter="i", trip=3) { body(%a: f64[]) { yield } }': (
        "node %0 (for) yields nothing from region body, but it carries f64[]"
    ),
    '%0: f64[] = for(%s, counter="i", trip=3) { body(%a: i64[]) { yield %a } }': (
        "node %0 (for) has region body with inputs i64[], but carries f64[]"
    ),
    "%0: f64[] = neg(%s) { body { yield } }": "node %0 (neg) has regions, which only control ops have",
}  # fmt: skip


@pytest.mark.parametrize("text", BROKEN)
def test_regions_that_break_a_rule_are_refused(text):
    with pytest.raises(VerifyError) as caught:
        verify(_graph(HEAD.format(text)))

    assert str(caught.value) == BROKEN[text]


def _scoped() -> dict[str, Graph]:
    graph = _graph("""
        graph f(%x: f64[N], %k: i64[]) -> f64[N] {
          %0: f64[N] = for(%x, counter="i0", trip=N) {
            body(%a: f64[N]) {
              bind(%k, symbol="u0", low=0, high=9)
              %1: f64[i0] = iota(shape=(i0,), dim=0, dtype=f64)
              %2: f64[u0] = iota(shape=(u0,), dim=0, dtype=f64)
              yield %a
            }
          }
          return %0
        }""")
    (loop,) = graph.nodes
    bind, counted, bound = loop.regions[0].nodes

    def body(*nodes: Node) -> Node:
        region = replace(loop.regions[0], nodes=nodes)
        return Node(loop.op, loop.operands, loop.attrs, loop.results, regions=[region])

    narrow = Node(bind.op, bind.operands, {**bind.attrs, "high": 4}, [])
    again = Node(bind.op, bind.operands, {**bind.attrs, "symbol": "N"}, [])
    free = Node(bound.op, [], {"shape": (Symbol("u0", 0, 9).dim,), "dim": 0, "dtype": f64}, [Value(bound.result.type)])
    return {
        "node %1 (iota) uses the symbol u0 where it is not bound": replace(graph, nodes=(body(bound, bind),)),
        "node %2 (iota) uses the symbol u0 where it is not bound": replace(graph, nodes=(body(bind, counted), free)),
        "node %1 (iota) uses the symbol i0 where it is not bound": replace(graph, nodes=(loop, counted)),
        "node %1 (iota) uses the symbol u0 with the bounds [0, 4] and [0, 9]": replace(
            graph, nodes=(body(narrow, bound),)
        ),
        "node of line ? (bind) binds the symbol u0, which is a symbol of the graph already": replace(
            graph, nodes=(body(bind, bind),)
        ),
        "graph f uses the symbol N where it is not bound": replace(graph, nodes=(body(again),)),
        "graph f has an output f64[u0], whose extent u0 is not known when it is called": replace(
            graph, nodes=(bind, bound), outputs=(bound.result,)
        ),
    }


@pytest.mark.parametrize("message", _scoped())
def test_symbols_are_seen_where_they_are_bound_alone(message):
    with pytest.raises(VerifyError) as caught:
        verify(_scoped()[message])

    assert str(caught.value) == message


def test_types_inside_of_regions_are_inferred_again():
    graph = _graph(NESTED)
    (loop, *_) = graph.nodes
    inner = loop.regions[0].nodes[0]
    (first, *_) = inner.regions[0].nodes
    first.results[0].type = TensorType(f64, (4,))

    with pytest.raises(
        VerifyError, match=r"node %3 \(slice\) has results f64\[4\], its type rule gives f64\[i1 \+ 1\]"
    ):
        verify(graph)


def _after(run_pass, text: str) -> list[str]:
    """The lines between the first and the last of what a pass makes of a graph."""
    graph = _graph(text)
    after = run_pass(graph)

    verify(after)
    assert run_pass(after) is after
    return [line.strip() for line in print_graph(after, locations=False).split("\n")[1:-1]]


def test_what_a_loop_carries_for_nothing_is_dropped():
    assert _after(
        eliminate_dead_nodes,
        """
        graph f(%a: f64[], %b: f64[], %c: f64[], %d: f64[]) -> f64[] {
          %0: f64[], %1: f64[], %2: f64[], %3: f64[] = while(%a, %b, %c, %d) {
            test(%p: f64[], %q: f64[], %r: f64[], %s: f64[]) { %4: bool[] = lt(%q, 9.0) yield %4 }
            body(%t: f64[], %u: f64[], %v: f64[], %w: f64[]) {
              %5: f64[] = add(%t, %v)
              %6: f64[] = add(%u, 1.0)
              %7: f64[] = neg(%v)
              %8: f64[] = exp(%w)
              yield %5, %6, %7, %8
            }
          }
          return %0
        }""",
    ) == [
        "%0: f64[], %1: f64[], %2: f64[] = while(%a, %b, %c) {",
        "test(%p: f64[], %q: f64[], %r: f64[]) { %3: bool[] = lt(%q, 9.0)  yield %3 }",
        "body(%t: f64[], %u: f64[], %v: f64[]) {",
        "%4: f64[] = add(%t, %v)",
        "%5: f64[] = add(%u, 1.0)",
        "%6: f64[] = neg(%v)",
        "yield %4, %5, %6",
        "}",
        "}",
        "return %0",
    ]


def test_what_a_branch_yields_for_nothing_is_dropped():
    assert _after(
        eliminate_dead_nodes,
        """
        graph f(%c: bool[], %a: f64[], %b: f64[]) -> f64[] {
          %0: f64[], %1: f64[], %2: i64[] = if(%c, %a, %b) {
            then(%p: f64[], %q: f64[]) { %3: f64[] = add(%p, %q) yield %3, %q, 1:i64 }
            else(%r: f64[], %s: f64[]) { %4: f64[] = exp(%s) yield %r, %4, 2:i64 }
          }
          return %0
        }""",
    ) == [
        "%0: f64[] = if(%c, %a) {",
        "then(%p: f64[]) { %1: f64[] = add(%p, %b)  yield %1 }",
        "else(%r: f64[]) { yield %r }",
        "}",
        "return %0",
    ]


def test_control_flow_with_an_effect_stays_and_all_other_goes():
    text = """
        graph f(%a: f64[], %k: i64[], %c: bool[]) -> f64[] {{
          %0: f64[] = for(%a, counter="i0", trip=3) {{
            body(%p: f64[]) {{
              %1: f64[] = if(%c, %p) {{
                then(%q: f64[]) {{ {} %2: f64[] = exp(%q) yield %2 }}
                else(%r: f64[]) {{ yield %r }}
              }}
              yield %1
            }}
          }}
          return %a
        }}"""

    assert _after(eliminate_dead_nodes, text.format("")) == ["return %a"]
    assert _after(eliminate_dead_nodes, text.format('bind(%k, symbol="u0", low=0, high=3)')) == [
        'for(counter="i0", trip=3) {',
        "body {",
        "if(%c) {",
        'then { bind(%k, symbol="u0", low=0, high=3)  yield }',
        "else { yield }",
        "}",
        "yield",
        "}",
        "}",
        "return %a",
    ]


def test_what_every_branch_and_test_keeps_is_read_from_outside():
    assert _after(
        uncarry_invariants,
        """
        graph f(%c: bool[], %a: f64[], %b: f64[]) -> f64[], f64[], f64[], f64[], f64[] {
          %0: f64[], %1: f64[] = if(%c, %a, %b) {
            then(%p: f64[], %q: f64[]) { %2: f64[] = add(%p, %q) yield %2, %q }
            else(%r: f64[], %s: f64[]) { yield %r, %b }
          }
          %3: f64[], %4: f64[], %5: f64[] = while(%0, %1, 2.0:f64) {
            test(%t: f64[], %u: f64[], %m: f64[]) { %6: bool[] = lt(%t, %u) yield %6 }
            body(%v: f64[], %w: f64[], %n: f64[]) { %7: f64[] = mul(%v, %n) yield %7, %w, 2.0:f64 }
          }
          return %0, %1, %3, %4, %5
        }""",
    ) == [
        "%0: f64[] = if(%c, %a) {",
        "then(%p: f64[]) { %1: f64[] = add(%p, %b)  yield %1 }",
        "else(%r: f64[]) { yield %r }",
        "}",
        "%2: f64[] = full(value=2.0, shape=(), dtype=f64, device=cpu)",
        "%3: f64[] = while(%0) {",
        "test(%t: f64[]) { %4: bool[] = lt(%t, %b)  yield %4 }",
        "body(%v: f64[]) { %5: f64[] = mul(%v, %2)  yield %5 }",
        "}",
        "return %0, %b, %3, %b, %2",
    ]


def test_what_an_inner_loop_leaves_alone_the_outer_one_does_too():
    lines = _after(
        uncarry_invariants,
        """
        graph f(%a: f64[], %b: f64[]) -> f64[], f64[] {
          %0: f64[], %1: f64[] = for(%a, %b, counter="i0", trip=3) {
            body(%p: f64[], %q: f64[]) {
              %2: f64[], %3: f64[] = for(%p, %q, counter="i1", trip=4) {
                body(%r: f64[], %s: f64[]) { %4: f64[] = mul(%r, %s) yield %4, %s }
              }
              yield %2, %3
            }
          }
          return %0, %1
        }""",
    )

    assert lines[0] == '%0: f64[] = for(%a, counter="i0", trip=3) {'
    assert lines[3] == "body(%r: f64[]) { %2: f64[] = mul(%r, %b)  yield %2 }"
    assert lines[-1] == "return %0, %b"


def test_work_that_mentions_a_counter_or_may_fail_stays_in_its_loop():
    text = """
        graph f(%x: f64[9], %k: i64[]) -> f64[9] {
          %0: f64[9] = for(%x, counter="i0", trip=8) {
            body(%y: f64[9]) {
              bind(%k, symbol="u0", low=0, high=8)
              %1: f64[i0] = slice(%x, starts=(0,), stops=(i0,), steps=(1,))
              %2: f64[] = sum(%1, dims=(0,), keepdim=False)
              %3: f64[u0] = slice(%x, starts=(0,), stops=(u0,), steps=(1,))
              %4: f64[] = sum(%3, dims=(0,), keepdim=False)
              %5: f64[] = take(%x, %k, dim=0)
              %6: f64[] = exp(%5)
              %7: f64[] = sum(%y, dims=(0,), keepdim=False)
              %8: f64[] = add(%2, %4)
              %9: f64[] = add(%6, %7)
              %10: f64[9] = add(%y, %8)
              %11: f64[9] = add(%10, %9)
              yield %11
            }
          }
          return %0
        }"""

    assert hoist_invariants(graph := _graph(text)) is graph


def test_invariant_work_leaves_all_loops_around_it(rng):
    graph = _graph("""
        graph f(%x: f64[4], %w: f64[4]) -> f64[4] {
          %0: f64[4] = for(%x, counter="i0", trip=3) {
            body(%y: f64[4]) {
              %1: f64[4], %2: i64[] = while(%y, 0:i64) {
                test(%a: f64[4], %n: i64[]) {
                  %3: f64[] = max(%w, dims=(0,), keepdim=False)
                  %4: bool[] = lt(%3, 9.0)
                  %5: bool[] = lt(%n, 3)
                  %6: bool[] = bitwise_and(%4, %5)
                  yield %6
                }
                body(%b: f64[4], %m: i64[]) {
                  %7: f64[4] = mul(%w, 2.0)
                  %8: f64[4] = exp(%7)
                  %9: f64[4] = sub(%b, %8)
                  %10: i64[] = add(%m, 1)
                  yield %9, %10
                }
              }
              yield %1
            }
          }
          return %0
        }""")
    after = hoist_invariants(graph)
    arrays = [rng.standard_normal(4), rng.standard_normal(4)]

    verify(after)
    assert [n.op.name for n in after.nodes] == ["max", "mul", "exp", "for"]
    np.testing.assert_array_equal(evaluate(after, arrays)[0], evaluate(graph, arrays)[0])


def test_control_flow_of_known_course_is_folded():
    assert _after(
        lambda g: eliminate_dead_nodes(fold_constants(g)),
        """
        graph f(%x: f64[4], %k: i64[]) -> f64[4], f64[4], i64[], f64[2] {
          %0: f64[4] = for(%x, counter="i0", trip=0) { body(%a: f64[4]) { %1: f64[4] = exp(%a) yield %1 } }
          %2: f64[4], %3: i64[] = for(%0, 2:i64, counter="i1", trip=1) {
            body(%b: f64[4], %n: i64[]) {
              %4: f64[4] = for(%b, counter="i2", trip=i1 + 2) {
                body(%c: f64[4]) {
                  %5: f64[-i1 + i2 + 1] = slice(%c, starts=(i1,), stops=(i2 + 1,), steps=(1,))
                  %6: f64[4] = slice_update(%c, %5, starts=(i1,), stops=(i2 + 1,), steps=(1,))
                  yield %6
                }
              }
              %7: i64[] = full(value=i1 + 3, shape=(), dtype=i64, device=cpu)
              %8: i64[] = mul(%7, %n)
              yield %4, %8
            }
          }
          %9: bool[] = lt(2:i64, 3:i64)
          %10: i64[], %11: f64[2] = if(%9, %3) {
            then(%d: i64[]) {
              %12: f64[2] = full(value=1.0, shape=(2,), dtype=f64, device=cpu)
              yield 7:i64, %12
            }
            else(%e: i64[]) {
              bind(%k, symbol="u0", low=0, high=None)
              %13: f64[2] = full(value=u0, shape=(2,), dtype=f64, device=cpu)
              yield %e, %13
            }
          }
          %14: f64[4] = while(%x) {
            test(%g: f64[4]) { %15: bool[] = full(value=False, shape=(), dtype=bool, device=cpu) yield %15 }
            body(%h: f64[4]) { %16: f64[4] = neg(%h) yield %16 }
          }
          return %2, %14, %10, %11
        }""",
    ) == [
        '%0: f64[4] = for(%x, counter="i2", trip=2) {',
        "body(%c: f64[4]) {",
        "%1: f64[i2 + 1] = slice(%c, starts=(0,), stops=(i2 + 1,), steps=(1,))",
        "%2: f64[4] = slice_update(%c, %1, starts=(0,), stops=(i2 + 1,), steps=(1,))",
        "yield %2",
        "}",
        "}",
        "%3: f64[2] = full(value=1.0, shape=(2,), dtype=f64, device=cpu)",
        "%4: i64[] = full(value=7, shape=(), dtype=i64, device=cpu)",
        "return %0, %x, %4, %3",
    ]


def _split(graph: Graph, inputs: int) -> tuple[Joint, Graph, Graph]:
    """The forward and backward of a joint graph of one output and one gradient, whose last inputs are cotangents."""
    captured: Any = SimpleNamespace(
        graph=Graph("f", graph.inputs[:inputs], (), ()), requires=(0,), results=(), untracked=set(), checkpoint=False
    )
    joint = split_joint(captured, graph)
    verify(joint.forward)
    verify(joint.backward)
    return joint, joint.forward, joint.backward


def _run_split(graph: Graph, arrays: list[np.ndarray], cotangent: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The output and the gradient by the two programs."""
    joint, forward, backward = _split(graph, len(arrays))
    found = evaluate(forward, arrays)
    saved = [arrays[i] if kind == "input" else found[i] for kind, i in joint.saved]
    return found[0], evaluate(backward, [*saved, cotangent])[0]


BOUND_JOINT = """
    graph f(%x: f64[N], %k: i64[], %g: f64[]) -> f64[], f64[N] where N in [1, inf] {
      %0: i64[] = add(%k, 1)
      bind(%0, symbol="u0", low=0, high=N - 1)
      %1: f64[u0] = slice(%x, starts=(0,), stops=(u0,), steps=(1,))
      %2: f64[u0] = exp(%1)
      %3: f64[] = sum(%2, dims=(0,), keepdim=False)
      %4: f64[u0] = broadcast_to(%g, shape=(u0,))
      %5: f64[u0] = mul(%4, %2)
      %6: f64[N] = pad(%5, low=(0,), high=(-u0 + N,), value=0)
      return %3, %6
    }"""


def test_a_bound_symbol_is_bound_in_forward_and_backward(rng):
    graph = _graph(BOUND_JOINT)
    arrays = [rng.standard_normal(6), np.asarray(3)]
    cotangent = np.asarray(rng.standard_normal())

    found = _run_split(graph, arrays, cotangent)

    for a, b in zip(found, evaluate(graph, [*arrays, cotangent]), strict=True):
        np.testing.assert_array_equal(a, b)
    _, forward, backward = _split(graph, 2)
    assert [n.op.name for n in forward.nodes][:2] == ["add", "bind"]
    assert "bind" in [n.op.name for n in backward.nodes]
    assert {str(v.type) for v in backward.inputs} <= {"f64[N]", "i64[]", "f64[]"}


TAPED_JOINT = """
    graph f(%x: f64[4], %w: f64[4], %c: bool[], %g: f64[4]) -> f64[4], f64[4] {
      %tape: f64[3, 4] = full(value=0.0, shape=(3, 4), dtype=f64, device=cpu)
      %0: f64[4], %1: f64[3, 4] = for(%x, %tape, counter="i0", trip=3) {
        body(%y: f64[4], %t: f64[3, 4]) {
          %2: f64[4] = mul(%y, %w)
          %3: f64[4] = tanh(%2)
          %4: f64[1, 4] = reshape(%3, shape=(1, 4))
          %5: f64[3, 4] = slice_update(%t, %4, starts=(i0, 0), stops=(i0 + 1, 4), steps=(1, 1))
          yield %3, %5
        }
      }
      %6: f64[4] = exp(%w)
      %7: f64[4] = for(%g, counter="i1", trip=3) {
        body(%d: f64[4]) {
          %8: f64[1, 4] = slice(%1, starts=(2 - i1, 0), stops=(3 - i1, 4), steps=(1, 1))
          %9: f64[4] = reshape(%8, shape=(4,))
          %10: f64[4] = mul(%9, %9)
          %11: f64[4] = sub(1.0, %10)
          %12: f64[4] = mul(%d, %11)
          %13: f64[4] = mul(%12, %w)
          %14: f64[4] = if(%c) { then { yield %13 } else { %15: f64[4] = add(%13, %6) yield %15 } }
          yield %14
        }
      }
      return %0, %7
    }"""


def test_what_regions_capture_flows_from_forward_to_backward(rng):
    graph = _graph(TAPED_JOINT)
    arrays = [rng.standard_normal(4), rng.standard_normal(4), np.asarray(False)]
    cotangent = rng.standard_normal(4)

    found = _run_split(graph, arrays, cotangent)

    for a, b in zip(found, evaluate(graph, [*arrays, cotangent]), strict=True):
        np.testing.assert_array_equal(a, b)
    _, forward, backward = _split(graph, 3)
    assert [n.op.name for n in forward.nodes] == ["full", "for"]
    assert [n.op.name for n in backward.nodes] == ["exp", "for"]  # the forward's loop is not run again
    assert [str(v.type) for v in backward.inputs] == ["f64[4]", "bool[]", "f64[3, 4]", "f64[4]"]


def _same_bits(graph: Graph, after: Graph, arrays: list[np.ndarray]) -> None:
    for a, b in zip(evaluate(after, arrays), evaluate(graph, arrays), strict=True):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_array_equal(np.signbit(a), np.signbit(b))


PARTS = {
    "pad": "%3: f64[8] = pad(%v, low=(i0,), high=(-i0 + 6,), value=0)",
    "steps": (
        "%2: f64[3] = dilate(%v, steps=(2,), shape=(3,)) "
        "%3: f64[8] = pad(%2, low=(i0,), high=(-i0 + 5,), value=0.0)"
    ),
    "update": (
        "%2: f64[8] = full(value=0.0, shape=(8,), dtype=f64, device=cpu) "
        "%3: f64[8] = slice_update(%2, %v, starts=(i0,), stops=(i0 + 2,), steps=(1,))"
    ),
}  # fmt: skip


def _sum_of_parts(base: str, part: str, swapped: bool = False) -> Graph:
    operands = "%3, %d" if swapped else "%d, %3"
    return _graph(f"""
        graph f(%x: f64[8], %v: f64[2]) -> f64[8] {{
          %0: f64[8] = {base}
          %1: f64[8] = for(%0, counter="i0", trip=5) {{
            body(%d: f64[8]) {{ {part} %4: f64[8] = add({operands}) yield %4 }}
          }}
          return %1
        }}""")


ZEROS = "full(value=0.0, shape=(8,), dtype=f64, device=cpu)"
SIGNED = np.array([0.0, -0.0, 1.5, -0.0, -2.0, 0.0, -0.0, 3.0])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("base", [ZEROS, "abs(%x)", "mul(%x, %x)", "add(%x, 0.0)"])
def test_a_sum_with_what_is_zero_but_for_a_part_changes_the_part_alone(base, part, swapped):
    graph = _sum_of_parts(base, PARTS[part], swapped)
    after = eliminate_dead_nodes(narrow_sums(graph))

    verify(after)
    assert [n.op.name for n in after.nodes[-1].regions[0].nodes] == ["slice", "add", "slice_update"]
    _same_bits(graph, after, [SIGNED, np.array([-0.0, 2.0])])


@pytest.mark.parametrize("part", PARTS)
@pytest.mark.parametrize("base", ["neg(%x)", "full(value=-0.0, shape=(8,), dtype=f64, device=cpu)", "mul(%x, 2.0)"])
def test_a_sum_that_turns_minus_zero_to_zero_stays_but_for_fast_math(base, part):
    graph = _sum_of_parts(base, PARTS[part])

    assert narrow_sums(graph) is graph
    assert "slice_update(%d" in print_graph(narrow_sums(graph, fast_math=True))


def test_zeros_between_steps_are_no_minus_zeros():
    graph = _sum_of_parts("neg(%x)", PARTS["steps"].replace("value=0.0)", "value=-0.0)"))

    assert narrow_sums(graph) is graph


def test_minus_zeros_around_a_part_add_nothing_to_any_array():
    graph = _sum_of_parts("neg(%x)", PARTS["pad"].replace("value=0)", "value=-0.0)"))
    after = eliminate_dead_nodes(narrow_sums(graph))

    assert [n.op.name for n in after.nodes[-1].regions[0].nodes] == ["slice", "add", "slice_update"]
    _same_bits(graph, after, [SIGNED, np.array([-0.0, 2.0])])


@pytest.mark.parametrize("low", ["n - 5", "-1"])
def test_a_pad_that_may_cut_is_no_part(low):
    graph = _graph(
        f"""
        graph f(%d: i64[8], %n: f64[n], %v: i64[8 - {low}]) -> i64[8] {{
          %0: i64[8] = pad(%v, low=({low},), high=(0,), value=0)
          %1: i64[8] = add(%d, %0)
          return %1
        }}""".replace("8 - n - 5", "13 - n").replace("8 - -1", "9")
    )

    assert narrow_sums(graph) is graph


def test_a_loop_may_lose_a_zero_that_came_in_without_sign():
    text = """
        graph f(%v: f64[2]) -> f64[8] {
          %0: f64[8] = full(value=0.0, shape=(8,), dtype=f64, device=cpu)
          %1: f64[8] = for(%0, counter="i0", trip=5) {
            body(%d: f64[8]) {
              %2: f64[8] = pad(%v, low=(i0,), high=(-i0 + 6,), value=0)
              %3: f64[8] = add(%d, %2)
              %4: f64[8] = neg(%3)
              yield %4
            }
          }
          return %1
        }"""

    assert narrow_sums(graph := _graph(text)) is graph
    assert narrow_sums(graph := _graph(text.replace("neg(%3)", "abs(%3)"))) is not graph


def test_zeros_around_the_gradient_of_a_slice_change_no_bit_of_a_sum(rng):
    def value(x):
        return (x[1:] * 2).sum() + (x[:-1] ** 2).sum() + x[1:][2:5].exp().sum() + x[::2].sum() + x.sin().sum()

    @tjit.compile
    def gradient(x):
        return tjit.autograd.grad(value(x), [x])[0]

    x = tjit.tensor(rng.standard_normal(9), requires_grad=True)

    assert gradient.lower(x).text("graph").count("value=-0.0)") >= 3
    np.testing.assert_allclose(gradient(x).numpy(), tjit.autograd.grad(value(x), [x])[0].numpy(), rtol=1e-14)


def test_zeros_around_zeros_around_a_part_are_one():
    inner = "%2: f64[7] = pad(%v, low=(i0,), high=(-i0 + 5,), value=0) "
    graph = _sum_of_parts(ZEROS, inner + "%3: f64[8] = pad(%2, low=(1,), high=(0,), value=-0.0)")
    after = eliminate_dead_nodes(narrow_sums(graph))

    verify(after)
    assert [n.op.name for n in after.nodes[-1].regions[0].nodes] == ["slice", "add", "slice_update"]
    _same_bits(graph, after, [SIGNED, np.array([-0.0, 2.0])])


def test_an_element_that_was_just_written_is_not_read_from_memory():
    text = """
        graph f(%x: f64[8], %v: f64[V]) -> f64[8] {{
          %0: f64[8] = slice_update(%x, %v, starts=(1,), stops=({},), steps=(1,))
          %1: f64[V] = slice(%0, starts=(1,), stops=({},), steps=(1,))
          %2: f64[V] = exp(%1)
          %3: f64[8] = slice_update(%0, %2, starts=(3,), stops=({},), steps=(1,))
          return %3
        }}"""
    one = _graph(text.replace("V", "1").format(2, 2, 4))
    two = _graph(text.replace("V", "2").format(3, 3, 5))

    assert [n.op.name for n in simplify_algebra(one).nodes] == ["slice_update", "exp", "slice_update"]
    assert simplify_algebra(two) is two  # written and read in kernels of their own


def test_the_gradient_of_a_recurrence_touches_single_elements(rng):
    def value(y):
        y = y.clone()
        for i in range(1, y.shape[0]):
            y[i] = tjit.tanh(y[i - 1]) + y[i]
        return y.sum()

    @tjit.compile
    def gradient(y):
        return tjit.autograd.grad(value(y), [y])[0]

    y = tjit.tensor(rng.standard_normal(30), requires_grad=True)
    loops = [n for n in run_passes(gradient.lower(y).graph).nodes if n.op.name == "for"]
    inner = [n for loop in loops for n in loop.regions[0].nodes if n.op.name != "slice_update"]

    assert len(loops) == 2
    assert {v.type.size for n in inner for v in n.results} == {1}
    np.testing.assert_allclose(gradient(y).numpy(), tjit.autograd.grad(value(y), [y])[0].numpy(), rtol=1e-13)


TWO_PARTS = """
    graph f(%x: f64[8], %u: f64[2], %v: f64[1]) -> f64[8] {
      %0: f64[8] = full(value=0.0, shape=(8,), dtype=f64, device=cpu)
      %1: f64[8] = for(%0, counter="i0", trip=5) {
        body(%d: f64[8]) {
          %2: f64[8] = pad(%u, low=(i0,), high=(-i0 + 6,), value=0)
          %3: f64[8] = pad(%v, low=(i0 + AT,), high=(-i0 + 7 - AT,), value=-0.0)
          %4: f64[8] = add(%2, %3)
          %5: f64[8] = add(%d, %4)
          yield %5
        }
      }
      return %1
    }"""


def test_parts_that_are_apart_are_added_one_after_the_other():
    graph = _graph(TWO_PARTS.replace("AT", "2"))
    after = eliminate_dead_nodes(narrow_sums(graph))

    verify(after)
    assert [n.op.name for n in after.nodes[-1].regions[0].nodes] == ["slice", "add", "slice_update"] * 2
    _same_bits(graph, after, [SIGNED, np.array([-0.0, 2.0]), np.array([-0.0])])


def test_parts_that_may_meet_keep_the_order_of_their_sum():
    assert narrow_sums(graph := _graph(TWO_PARTS.replace("AT", "1"))) is graph


@pytest.mark.parametrize(
    ("first", "second", "zero"), [("0", "-0.0", "0.0"), ("-0.0", "-0.0", "-0.0"), ("0", "0", "0.0")]
)
def test_arrays_with_zeros_around_them_are_added_inside_of_the_zeros(first, second, zero):
    graph = _graph(f"""
        graph f(%x: f64[2], %y: f64[2]) -> f64[8] {{
          %0: f64[8] = pad(%x, low=(3,), high=(3,), value={first})
          %1: f64[8] = pad(%y, low=(3,), high=(3,), value={second})
          %2: f64[8] = add(%0, %1)
          return %2
        }}""")
    after = eliminate_dead_nodes(narrow_sums(graph))

    verify(after)
    assert print_graph(after).split("\n")[1:3] == [
        "  %0: f64[2] = add(%x, %y)",
        f"  %1: f64[8] = pad(%0, low=(3,), high=(3,), value={zero})",
    ]
    _same_bits(graph, after, [np.array([-0.0, 2.0]), np.array([-0.0, 0.0])])
