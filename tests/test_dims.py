"""Dims: a normalised expression has the value that the same expression of plain integers has."""

from __future__ import annotations

import pickle

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tjit.errors import ArgumentError
from tjit.ir.dims import (
    Dim,
    DimExpr,
    InconclusiveDimError,
    Symbol,
    coefficient,
    counter,
    evaluate,
    fold,
    inconclusive,
    lower_bound,
    maximum,
    minimum,
    substitute,
    symbols,
    upper_bound,
)
from tjit.ir.parser import parse_graph
from tjit.ir.printer import print_graph

A, B, N = Symbol("A"), Symbol("B", 1, 8), Symbol("N", 2)
I = Symbol("I", 0, N.dim - 1)  # noqa: E741
SYMBOLS = {s.name: s for s in (A, B, N, I)}
PYTHON = {
    "+": lambda a, b: a + b,
    "-": lambda a, b: a - b,
    "*": lambda a, b: a * b,
    "//": lambda a, b: a // b,
    "%": lambda a, b: a % b,
    "min": min,
    "max": max,
}
DIMS = {**PYTHON, "min": minimum, "max": maximum}

# An expression is an int, a symbol's name, or (name, a, b).
positive = st.recursive(
    st.integers(1, 12) | st.sampled_from(["B", "N"]),
    lambda inner: st.tuples(st.sampled_from(["+", "*", "min", "max"]), inner, inner),
    max_leaves=3,
)
expressions = st.recursive(
    st.integers(-12, 12) | st.sampled_from(list(SYMBOLS)),
    lambda inner: (
        st.tuples(st.sampled_from(["+", "-", "*", "min", "max"]), inner, inner)
        | st.tuples(st.sampled_from(["//", "%"]), inner, positive)
    ),
    max_leaves=8,
)


@st.composite
def environments(draw) -> dict[str, int]:
    n = draw(st.integers(2, 20))
    return {"A": draw(st.integers(0, 20)), "B": draw(st.integers(1, 8)), "N": n, "I": draw(st.integers(0, n - 1))}


def _value(e, env: dict[str, int]) -> int:
    if isinstance(e, tuple):
        return PYTHON[e[0]](_value(e[1], env), _value(e[2], env))
    return env[e] if isinstance(e, str) else e


def _dim(e) -> Dim:
    if isinstance(e, tuple):
        return DIMS[e[0]](_dim(e[1]), _dim(e[2]))
    return SYMBOLS[e].dim if isinstance(e, str) else e


def _nested(values: dict[str, int]):
    return {
        "constant": lambda c: c,
        "symbol": lambda s: values[s.name],
        "apply": lambda name, a, b: PYTHON[name](a, b),
    }


many = settings(deadline=None, max_examples=400)


@given(expressions, environments())
@many
def test_an_expression_has_the_value_of_its_integers(e, env):
    assert evaluate(_dim(e), env) == _value(e, env)


@given(expressions, environments())
@many
def test_fold_gives_the_value_too(e, env):
    assert fold(_dim(e), **_nested(env)) == _value(e, env)


@given(expressions, environments())
@many
def test_bounds_hold(e, env):
    d = _dim(e)
    high = upper_bound(d)

    assert lower_bound(d) <= _value(e, env)
    assert high is None or _value(e, env) <= high


@given(expressions, expressions, environments())
@many
def test_a_symbol_is_replaced_everywhere(e, other, env):
    inner = _value(other, env)
    assume(inner >= 0)  # as A promises
    outer = {**env, "A": inner}

    assert evaluate(substitute(_dim(e), {A: _dim(other)}), env) == _value(e, outer)


@given(expressions, environments())
@many
def test_coefficient_is_the_slope(e, env):
    d = _dim(e)
    k = coefficient(d, A)
    if k is None:
        return
    step = evaluate(d, {**env, "A": env["A"] + 1}) - evaluate(d, env)

    assert evaluate(k, env) == step


@given(expressions, expressions)
@many
def test_sums_and_products_normalise(a, b):
    x, y = _dim(a), _dim(b)

    assert x + y == y + x
    assert x * y == y * x
    assert x - x == 0
    assert (x + y) - y == x
    assert 2 * (x + y) == 2 * x + 2 * y


@given(expressions, positive)
@many
def test_quotient_and_remainder_join(a, b):
    x, y = _dim(a), _dim(b)

    assert y * (x // y) + x % y == x


@given(expressions)
@many
def test_text_parses_back_to_an_equal_dim(e):
    d = _dim(e)
    text = f"graph f(%x: i64[{d}, A, B, N, I]) -> () where B in [1, 8], N in [2, inf], I in [0, N - 1] {{\n  return\n}}"
    graph = parse_graph(text)

    assert graph.inputs[0].type.shape[0] == d
    assert hash(graph.inputs[0].type.shape[0]) == hash(d)
    assert print_graph(parse_graph(print_graph(graph))) == print_graph(graph)


@given(expressions)
@settings(deadline=None)
def test_dims_pickle(e):
    assert pickle.loads(pickle.dumps(_dim(e))) == _dim(e)


def test_symbols_of_equal_dims_keep_their_own_bounds():
    small, big = Symbol("K", 0, 4).dim, Symbol("K", 0, 400).dim

    assert small == big
    assert (symbols(small)[0].maximum, symbols(big)[0].maximum) == (4, 400)


@pytest.mark.parametrize(
    ("dim", "text"),
    [
        (B.dim * 2 + 1, "2*B + 1"),
        ((A.dim + B.dim) * (A.dim - B.dim), "A*A - B*B"),
        ((4 * A.dim + 2) // 4, "A"),
        ((4 * A.dim + 6) // 4, "A + 1"),
        (A.dim // 2 * 2 + A.dim % 2, "A"),
        (A.dim * N.dim % N.dim, "0"),
        (I.dim % N.dim, "I"),
        (I.dim // N.dim, "0"),
        ((A.dim * N.dim + I.dim) // N.dim, "A"),
        ((A.dim * N.dim + I.dim) % N.dim, "I"),
        ((A.dim * A.dim + A.dim) // (A.dim + 1), "A"),
        ((A.dim * N.dim + N.dim) % (A.dim + 1), "0"),
        ((A.dim * A.dim + A.dim + 1) // (A.dim + 1), "((A + A*A + 1) // (A + 1))"),
        (minimum(B.dim, 8), "B"),
        (minimum(B.dim, 4), "min(4, B)"),
        (maximum(A.dim, 0), "A"),
        (-(A.dim // 3), "-(A // 3)"),
        (A.dim * (N.dim % 3), "A*(N % 3)"),
        ((A.dim + 1) % 3, "((A + 1) % 3)"),
    ],
)
def test_dims_simplify_and_print(dim, text):
    assert str(dim) == text


def test_a_dim_without_symbols_is_an_int():
    assert type(A.dim - A.dim) is int
    assert type(A.dim * 0) is int
    assert isinstance(A.dim + 1, DimExpr)


def test_division_by_zero_is_refused():
    with pytest.raises(ArgumentError, match="division of the dim A by zero"):
        A.dim % 0


def test_evaluate_names_what_is_missing():
    with pytest.raises(ArgumentError, match="the dim A \\+ B needs a value for B"):
        evaluate(A.dim + B.dim, {"A": 1})


def test_the_truth_of_a_dim_that_may_be_zero_is_not_known():
    assert bool(B.dim)
    with pytest.raises(ArgumentError, match="whether the symbolic dim A is 0 depends on the sizes"):
        bool(A.dim)


def test_a_counter_below_another_divides_by_it():
    outer = counter("i0", Symbol("N").dim).dim
    inner = counter("i1", outer).dim

    assert inner // outer == 0
    assert inner % outer is inner or inner % outer == inner


def test_that_dims_differ_is_asked_like_that_they_are_equal():
    with inconclusive():
        assert B.dim != 9
        with pytest.raises(InconclusiveDimError):
            bool(A.dim != 1)
