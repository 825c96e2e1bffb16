"""The IR's text: what is printed parses back, and what breaks a rule is named with its place."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from counting import calls_of
from hypothesis import given, settings
from hypothesis import strategies as st

from tjit import dtypes
from tjit.devices import Device, cpu
from tjit.dtypes import bf16, bool_, f16, f32, f64, i64
from tjit.errors import ParseError, TypeRuleError, VerifyError
from tjit.ir.dims import Symbol, maximum, minimum
from tjit.ir.graph import Graph, GraphBuilder, Literal, Node, Region, Value
from tjit.ir.op import OPS, Op, register
from tjit.ir.parser import parse_graph
from tjit.ir.printer import print_graph, print_literal
from tjit.ir.types import TensorType
from tjit.ir.verify import verify
from tjit.location import Location


def _same(x: TensorType, *others: TensorType) -> TensorType:
    for y in others:
        if y.shape and y != x:
            raise TypeRuleError(f"toy_add takes one type, not {x} and {y}")
    return x


def _toy(name: str, kind: str, infer) -> Op:
    given: dict[str, Any] = {"scalar": lambda *_: None, "index": lambda *_: None, "decompose": lambda *_: None}
    return Op(name=name, kind=kind, infer=infer, reference=np.add, vjp=None, samples=(), dtypes="any", **given)


TOYS = (
    _toy("toy_neg", "elementwise", lambda x, **attrs: x),
    _toy("toy_add", "elementwise", _same),
    _toy("toy_gt", "elementwise", lambda x, y: x.with_dtype(bool_)),
    _toy("toy_sum", "reduce", lambda x, dims, keepdim: x.with_shape(())),
    _toy("toy_sort", "index", lambda x: (x, x.with_dtype(i64))),
    _toy("toy_check", "control", lambda x, y, **attrs: ()),
    _toy("toy_full", "create", lambda dtype, shape: TensorType(dtype, shape)),
    _toy("toy_softmax", "composite", None),
    _toy("toy_if", "control", None),
    _toy("toy_for", "control", None),
)
NEG, ADD, GT, SUM, SORT, CHECK, FULL, SOFTMAX, IF, FOR = TOYS
B = Symbol("B")
HERE = Location("model.py", 6)


@pytest.fixture(autouse=True)
def _toy_ops() -> Iterator[None]:
    for op in TOYS:
        register(op)
    yield
    for op in TOYS:
        del OPS[op.name]


def _layer() -> Graph:
    g = GraphBuilder("layer")
    x = g.input(TensorType(f32, (B.dim, 784)), "x")
    w = g.input(TensorType(f32, (B.dim, 784)), "w")
    s = g.add_one(ADD, x, w, location=HERE)
    total = g.add_one(SUM, s, dims=(0, 1), keepdim=False, location=Location("model.py", 7))
    flag = g.add_one(GT, total, Literal(0.0, f32), location=Location("model.py", 7))
    inner = Value(s.type)
    other = Node(NEG, [s], {}, [inner], location=Location("model.py", 7))
    branches = [Region("then", (), (), (s,)), Region("else", (), (other,), (inner,))]
    (out,) = g.add(IF, [flag], regions=branches, types=[s.type], location=Location("model.py", 7))
    return g.finish([out, w], {1: 1})


def test_a_graph_prints_as_in_the_design():
    text = print_graph(_layer())

    assert text == (
        "graph layer(%x: f32[B, 784], %w: f32[B, 784]) -> f32[B, 784], f32[B, 784] {\n"
        "  %0: f32[B, 784] = toy_add(%x, %w)                    # model.py:6\n"
        "  %1: f32[] = toy_sum(%0, dims=(0, 1), keepdim=False)  # model.py:7\n"
        "  %2: bool[] = toy_gt(%1, 0.0)                         # model.py:7\n"
        "  %3: f32[B, 784] = toy_if(%2) {                       # model.py:7\n"
        "    then { yield %0 }\n"
        "    else { %4: f32[B, 784] = toy_neg(%0)  yield %4 }\n"
        "  }\n"
        "  return %3, %w to %w\n"
        "}"
    )


def test_without_locations_there_are_no_comments():
    assert "#" not in print_graph(_layer(), locations=False)


def _loop() -> Graph:
    g = GraphBuilder("loop")
    n = Symbol("n", 0, B.dim)
    x = g.input(TensorType(f32, (4,)), "x")
    g.input(TensorType(f32, (B.dim,)), "y")
    i, carried = Value(TensorType(i64, ()), "i"), Value(x.type, "x")
    inner = GraphBuilder("body")
    a = inner.add_one(NEG, carried, start=(0, n.dim * 2 + 1), location=HERE)
    b = inner.add_one(NEG, a, location=Location("model.py", 9))
    then = Region("then", (), (), (b,))
    (c,) = inner.add(IF, [Literal(True, bool_)], regions=[then], types=[b.type])
    body = Region("body", (i, carried), tuple(inner.nodes), (c, Literal(1.5, f32)))
    results = g.add(FOR, [x, Literal(3, i64)], {"limit": n.dim}, regions=[body], types=[x.type, x.type], location=HERE)
    return g.finish([*results, Literal(float("-inf"), f32)])


def test_long_regions_take_several_lines():
    text = print_graph(_loop())

    assert text == (
        "graph loop(%x: f32[4], %y: f32[B]) -> f32[4], f32[4], f32[] where n in [0, B] {\n"
        "  %0: f32[4], %1: f32[4] = toy_for(%x, 3:i64, limit=n) {  # model.py:6\n"
        "    body(%i: i64[], %x_1: f32[4]) {\n"
        "      %2: f32[4] = toy_neg(%x_1, start=(0, 2*n + 1))      # model.py:6\n"
        "      %3: f32[4] = toy_neg(%2)                            # model.py:9\n"
        "      %4: f32[4] = toy_if(true:bool) {\n"
        "        then { yield %3 }\n"
        "      }\n"
        "      yield %4, 1.5:f32\n"
        "    }\n"
        "  }\n"
        "  return %0, %1, -inf:f32\n"
        "}"
    )


def _attrs() -> Graph:
    g = GraphBuilder("Model.forward")
    x = g.input(TensorType(f32, (B.dim,), Device("cuda", 1)), "0.weight")
    b = B.dim
    values = {
        "text": 'a "quoted" # word\n',
        "nothing": None,
        "yes": True,
        "number": -3,
        "real": 1e-05,
        "huge": float("inf"),
        "dtype": bf16,
        "where_to": Device("cuda", 0),
        "home": cpu,
        "empty": (),
        "one": (1,),
        "deep": ((1, 2), (f32, ("x",))),
        "dims": (b, 4 * b - 1, b // 2, b % 3 + 1, minimum(b, 7) * b, maximum(b, 7), -b + 2, (b // 2) * 2 // 3),
        "quotient": b // 2,
    }
    y = g.add_one(NEG, x, **values)
    g.add(CHECK, [y, Literal(1.0, f32)], {"message": "no"}, location=HERE)
    low, high = g.add(SORT, [y])
    z = g.add_one(FULL, dtype=f64, shape=(b, 2))
    return g.finish([y, low, high, z])


def _bounds() -> Graph:
    g = GraphBuilder("bounds")
    b = Symbol("B", 1, 1024)
    n = Symbol("n", 2, b.dim - 1)
    x = g.input(TensorType(f32, (n.dim, b.dim, Symbol("m", 2).dim)), "x")
    return g.finish([g.add_one(NEG, x)])


def _wide() -> Graph:
    g = GraphBuilder("wide")
    inputs = [g.input(TensorType(f32, (100, 100 + i)), f"parameter_number_{i}") for i in range(8)]
    return g.finish([g.add_one(NEG, x, location=HERE) for x in inputs], {i: i for i in range(8)})


def _empty() -> Graph:
    return GraphBuilder("<lambda>").finish([])


ALL = (_layer, _loop, _attrs, _bounds, _wide, _empty)


@pytest.mark.parametrize("make", ALL)
@pytest.mark.parametrize("locations", [True, False])
def test_text_parses_back_to_the_same_text(make, locations):
    graph = make()
    verify(graph)
    text = print_graph(graph, locations)

    again = parse_graph(text)

    verify(again)
    assert print_graph(again, locations) == text


def test_attrs_come_back_equal():
    graph = _attrs()

    again = parse_graph(print_graph(graph))

    assert [n.attrs for n in again.nodes] == [n.attrs for n in graph.nodes]
    assert [n.operands[1:] for n in again.nodes] == [n.operands[1:] for n in graph.nodes]


def test_locations_and_writes_come_back():
    again = parse_graph(print_graph(_layer()))

    assert [n.location and n.location.line for n in again.nodes] == [6, 7, 7, 7]
    assert again.nodes[3].regions[1].nodes[0].location == Location("model.py", 7)
    assert again.writes == {1: 1}


def test_bounds_of_symbols_stand_in_the_header():
    text = print_graph(_bounds())

    assert text.split("{")[0] == (
        "graph bounds(\n  %x: f32[n, B, m],\n) -> f32[n, B, m] where B in [1, 1024], n in [2, B - 1], m in [2, inf] "
    )
    (x,) = parse_graph(text).inputs
    given: Any = _bounds().inputs[0].type.shape
    read: Any = x.type.shape
    assert [d.terms for d in read] == [d.terms for d in given]
    n, b, m = (next(iter(d.terms))[0] for d in read)
    assert (b.minimum, b.maximum, n.minimum, str(n.maximum), m.minimum, m.maximum) == (1, 1024, 2, "B - 1", 2, None)


def test_expressions_parse_under_the_bounds_of_their_symbols():
    b = Symbol("B", 8)
    (x,) = parse_graph("graph f(%x: f32[min(B, 4), B]) -> f32[4, B] where B in [8, inf] { return %x }").inputs

    assert x.type.shape == (4, b.dim)


def test_names_are_made_unique_identifiers():
    g = GraphBuilder("f")
    for hint in ("x", "x", "x_1", "layer.0.weight", "0", None, None, ""):
        g.input(TensorType(f32, ()), hint)
    text = print_graph(g.finish([]))

    names = [line.split(":")[0].strip() for line in text.split("\n") if ":" in line]

    assert names == ["%x", "%x_1", "%x_1_1", "%layer_0_weight", "%_0", "%input", "%input_1", "%input_2"]


@pytest.mark.parametrize(
    ("value", "dtype", "text"),
    [
        (0.1, f32, "0.1"),
        (0.1, bf16, "0.1"),
        (1 / 3, f16, "0.3333"),
        (1 / 3, f64, "0.3333333333333333"),
        (-0.0, f32, "-0.0"),
        (float("nan"), f32, "nan"),
        (1e300, f32, "inf"),
        (3, f32, "3.0"),
        (16777217.0, f32, "16777216.0"),
        (1e-45, f32, "1e-45"),
        (True, bool_, "true"),
        (-7, i64, "-7"),
    ],
)
def test_literals_print_as_the_shortest_number(value, dtype, text):
    literal = Literal(value, dtype)

    assert print_literal(literal) == text
    assert parse_graph(f"graph f() -> {dtype}[] {{ return {text}:{dtype} }}").outputs == (literal,)


@given(st.floats(width=32), st.sampled_from([f16, bf16, f32, f64]))
@settings(deadline=None)
def test_every_float_comes_back_exactly(value, dtype):
    literal = Literal(value, dtype)

    assert Literal(float(print_literal(literal)), dtype) == literal


def test_a_literal_is_bare_only_in_the_dtype_of_the_last_value():
    g = GraphBuilder("f")
    c, x = g.input(TensorType(bool_, ()), "c"), g.input(TensorType(f32, ()), "x")
    for operands in ([x, Literal(1, f32)], [x, Literal(1, i64)], [Literal(1, f32), x, c], [Literal(1, f32)]):
        g.add(SOFTMAX, operands, types=[x.type])
    lines = print_graph(g.finish([])).split("\n")

    assert [line.split("(")[-1] for line in lines[1:5]] == ["%x, 1.0)", "%x, 1:i64)", "1.0:f32, %x, %c)", "1.0:f32)"]


HEAD = "graph f(%x: f32[4, B], %c: bool[]) -> f32[4, B] {\n"

BAD = {
    "grph f": (1, 1, "expected `graph`, found `grph`"),
    "graph f(%x: f32[4]) -> f32[4] { return %x } ;": (1, 45, "`;` means nothing"),
    "graph f(%x: q32[4]) -> f32[4] { return %x }": (1, 13, "no dtype `q32`"),
    "graph f(%x: f32[4], %x: f32[]) -> f32[4] { return %x }": (1, 21, "%x is defined twice"),
    "graph f(%x: f32[4]) -> f32[5] { return %x }": (1, 33, "the outputs are f32[4], the header says f32[5]"),
    "graph f(%x: f32[4.5]) -> f32[5] { return %x }": (1, 17, "expected a dim, found `4.5`"),
    "graph f(%x: f32[f32]) -> f32[5] { return %x }": (1, 17, "expected a dim, found `f32`"),
    "graph f(%x: f32[4]) -> f32[4] where B in [1, 2] return": (1, 49, "expected `{` after the bounds"),
    "graph f(%x: f32[4]) -> f32[4] where B in [1, 2], B in [1, 2] {": (1, 50, "`B` is bounded already"),
    HEAD + "  %0: f32[4, B] = toy_neg(%y)\n": (2, 27, "%y is not defined here"),
    HEAD + "  %0: f32[4, B] = toy_ngg(%x)\n": (2, 19, "no op `toy_ngg`"),
    HEAD + "  %0: f32[4, B] toy_neg(%x)\n": (2, 17, "expected `=`, found `toy_neg`"),
    HEAD + "  %0: f32[5, B] = toy_neg(%x)\n": (2, 3, "toy_neg gives f32[4, B], the text says f32[5, B]"),
    HEAD + "  %0: f32[4, B] = toy_sum(%x)\n": (2, 3, "toy_sum: "),
    HEAD + "  %0: f32[4, B] = toy_add(%x, %c)\n  %1: f32[4] = toy_add(%x, %0)\n": (3, 3, "toy_add gives"),
    HEAD + "  %0: f32[4, B] = toy_neg(%x, n=N)\n": (2, 33, "`N` is not a symbol of this graph"),
    HEAD + "  %0: f32[4, B] = toy_neg(%x, n=1, n=2)\n": (2, 36, "attr `n` is given twice"),
    HEAD + "  %0: f32[4, B] = toy_neg(n=1, %x)\n": (2, 32, "expected an attr such as `dims=(0,)`"),
    HEAD + "  %0: f32[4, B] = toy_neg(%x, n=1 + (2,))\n": (2, 35, "`+` stands between dims only"),
    HEAD + "  %0: f32[4, B] = toy_neg(%x, n=B // 0)\n": (2, 35, "division of the dim B by zero"),
    HEAD + '  %0: f32[4, B] = toy_neg(%x, n="\\q")\n': (2, 33, "this string has an escape"),
    HEAD + "  %0: f32[4, B] = toy_add(%x, true)\n": (2, 31, "the number True does not fit f32"),
    HEAD + "  %0: f32[] = toy_neg(1.5)\n": (2, 23, "a number needs its dtype here"),
    HEAD + "  %0: f32[] = toy_neg(1.5:i64)\n": (2, 23, "the number 1.5 does not fit i64"),
    HEAD + "  %x: f32[4, B] = toy_neg(%x)\n": (2, 3, "%x is defined twice"),
    HEAD + "  %0: f32[4, B] = toy_neg(%0)\n": (2, 27, "%0 is not defined here"),
    HEAD + "  return %x to %y\n}": (2, 16, "%y is not defined here"),
    HEAD + "  return %x": (2, 12, "expected `}`, found the end of the text"),
    HEAD + "  %0: f32[4, B] = toy_if(%c) { then { %1: f32[4, B] = toy_neg(%x) yield %1 } }\n  return %1": (
        3,
        10,
        "%1 is not defined here",
    ),
    "graph f(%x: f32[4]) -> f32[4] { %0: f32[4] = toy_neg(%x) return %x to %0 }": (1, 71, "%0 is not an input"),
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: BAD[text][2])
def test_a_parse_error_names_line_and_column(text):
    line, column, message = BAD[text]

    with pytest.raises(ParseError) as caught:
        parse_graph(text)

    assert str(caught.value).startswith(f"line {line}, column {column}: {message}")


def test_a_parse_error_shows_the_line():
    with pytest.raises(ParseError) as caught:
        parse_graph(HEAD + "  %0: f32[4, B] = toy_neg(%y)")

    assert str(caught.value) == (
        "line 2, column 27: %y is not defined here\n      %0: f32[4, B] = toy_neg(%y)\n                              ^^"
    )


@given(st.data())
@settings(deadline=None, max_examples=200)
def test_damaged_text_is_refused_with_a_parse_error_only(data):
    text = print_graph(data.draw(st.sampled_from(ALL))())
    start = data.draw(st.integers(0, len(text)))
    end = data.draw(st.integers(start, min(len(text), start + 8)))
    damaged = text[:start] + data.draw(st.text('%0x:,()[]{}=-"#@ \n1B', max_size=4)) + text[end:]

    try:
        graph = parse_graph(damaged)
    except ParseError:
        return
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


def _broken() -> dict[str, Graph]:
    t = TensorType(f32, (4,))
    x, y, z = Value(t, "x"), Value(t), Value(t)
    a = Node(NEG, [x], {}, [y], location=HERE)
    b = Node(NEG, [y], {}, [z], location=HERE)

    def graph(*nodes: Node, outputs=(x,), writes=None, inputs=(x,)) -> Graph:
        return Graph("f", inputs, nodes, outputs, writes or {})

    def node(op: Op = NEG, operands=(x,), type: TensorType = t, regions=(), **attrs) -> Node:
        return Node(op, operands, attrs, [Value(type)], regions=regions, location=HERE)

    small, big = Value(TensorType(f32, (Symbol("B", 1, 4).dim,))), Value(TensorType(f32, (Symbol("B").dim,)))
    odd = Value(TensorType(f32, (Symbol("min").dim,)))
    twin = [Region("then", (), (), (x,)), Region("then", (), (), (x,))]
    return {
        "node %0 (toy_neg) uses a value before its definition": graph(b, a),
        "node %0 (toy_neg) uses a value that nothing defines": graph(b),
        "node %1 (toy_neg) defines a value that is defined already": graph(a, Node(NEG, [x], {}, [y])),
        "an input is a value that is defined already": graph(inputs=(x, x)),
        "an output of graph f is never defined": graph(outputs=(y,)),
        "node %0 (toy_neg) has results f32[5], its type rule gives f32[4]": graph(node(type=TensorType(f32, (5,)))),
        "node %0 (toy_neg) has results i64[4], its type rule gives f32[4]": graph(node(type=t.with_dtype(i64))),
        "node %0 (toy_sum) is refused by its type rule": graph(node(SUM)),
        "node %0 (toy_sum) is a reduce op and takes no numbers, not 1.0": graph(node(SUM, [Literal(1, f32)])),
        "node %0 (toy_neg) has the attr n = [1], which is not a number": graph(node(n=[1])),
        "node %0 (toy_neg) has the attr n = np.float64(1.0), which is": graph(node(n=(np.float64(1.0),))),
        "node %0 (toy_if) has regions of one name: then, then": graph(node(IF, regions=twin)),
        "node %0 (toy_if) yields a value from region then that is not": graph(
            node(IF, regions=[Region("then", (), (), (y,))])
        ),
        "node %0 (toy_other) has an op that is not in the registry": graph(node(_toy("toy_other", "control", None))),
        "output 0 is written to input 1, of 1 outputs and 1 inputs": graph(writes={0: 1}),
        "output 2 is written to input 0, of 1 outputs and 1 inputs": graph(writes={2: 0}),
        "output 0, f32[4] is written to input 1, which is f32[B]": graph(writes={0: 1}, inputs=(x, big)),
        "input 0 is written twice": graph(writes={0: 0, 1: 0}, outputs=(x, x)),
        "graph f uses the symbol B with the bounds [0, inf] and [1, 4]": graph(inputs=(x, big, small)),
        "graph f uses the symbol min with a reserved name": graph(inputs=(x, odd)),
    }


@pytest.mark.parametrize("message", _broken())
def test_a_broken_graph_is_refused(message):
    graph = _broken()[message]

    with pytest.raises(VerifyError) as caught:
        verify(graph)

    assert str(caught.value).startswith(message)
    assert caught.value.__notes__ == [f"the graph:\n{print_graph(graph)}"]


def test_a_verify_error_names_the_users_line():
    with pytest.raises(VerifyError) as caught:
        verify(_broken()["node %0 (toy_neg) uses a value before its definition"])

    assert str(caught.value) == "node %0 (toy_neg) uses a value before its definition\n  at model.py:6"


def test_a_value_of_a_region_is_not_seen_behind_it():
    x, y = Value(TensorType(f32, ()), "x"), Value(TensorType(f32, ()))
    inner = Region("then", (), (Node(NEG, [x], {}, [y]),), (y,))
    graph = Graph("f", (x,), (Node(IF, [x], {}, [Value(x.type)], regions=[inner]),), (y,))

    with pytest.raises(VerifyError, match="an output of graph f is never defined"):
        verify(graph)


def _long_graph(nodes: int) -> Graph:
    g = GraphBuilder("long")
    x = g.input(TensorType(f32, (B.dim, 784)), "x")
    y = x
    for line in range(nodes):
        y = g.add_one(ADD, y, x, location=Location("model.py", line))
    return g.finish([y])


def _round_trip(graph: Graph) -> str:
    again = parse_graph(print_graph(graph))
    verify(again)
    return print_graph(again)


def test_printing_verifying_and_parsing_are_linear_in_the_nodes():
    small, large = _long_graph(500), _long_graph(2000)
    assert _round_trip(large) == print_graph(large)

    work = [calls_of(lambda graph=graph: _round_trip(graph)) for graph in (small, large)]

    assert work[1] < 4.4 * work[0]
    assert work[1] < 2000 * 500  # calls for each node


def test_every_dtype_has_a_printed_name_that_parses():
    for dtype in dtypes.DTYPES:
        text = f"graph f(%x: {dtype}[]) -> {dtype}[] {{\n  return %x\n}}"

        assert print_graph(parse_graph(text)) == text
