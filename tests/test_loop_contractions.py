"""Contractions that leave loops: the same values, and one product where there was one for each trip."""

from __future__ import annotations

import textwrap

import numpy as np
import pytest

import tjit
from tjit.ir.parser import parse_graph
from tjit.ir.scope import each_node
from tjit.passes.loop_contractions import batch_contractions

T, N, D, M = 19, 3, 8, 5


def _arrays(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    numbers = np.random.default_rng(0)
    return [numbers.normal(size=s) for s in shapes]


def _inside(fn, *arrays: np.ndarray) -> int:
    """How many contractions stand in loops after the passes."""
    graph = tjit.compile(fn).lower(*map(tjit.tensor, arrays)).passes()
    return sum(n.op.name == "dot" for node in graph.nodes for r in node.regions for n in each_node(r.nodes))


def _check(fn, arrays: list[np.ndarray], wanted: np.ndarray, inside: int) -> None:
    found = tjit.compile(fn)(*map(tjit.tensor, arrays))

    np.testing.assert_allclose(np.asarray(found), wanted, rtol=1e-12)
    assert _inside(fn, *arrays) == inside


def test_rows_times_what_stays():
    def f(x, w):
        h = tjit.zeros(N, M, dtype=tjit.float64)
        for t in range(x.shape[0]):
            h = tjit.tanh(x[t] @ w + 0.5 * h)
        return h

    x, w = _arrays((T, N, D), (D, M))
    h = np.zeros((N, M))
    for t in range(T):
        h = np.tanh(x[t] @ w + 0.5 * h)
    _check(f, [x, w], h, inside=0)


def test_what_stays_times_columns_from_the_end():
    def f(x, w):
        h = tjit.zeros(M, N, dtype=tjit.float64)
        for t in range(x.shape[0]):
            h = tjit.tanh(w @ x[x.shape[0] - 1 - t] + 0.5 * h)
        return h

    x, w = _arrays((T, D, N), (M, D))
    h = np.zeros((M, N))
    for t in range(T):
        h = np.tanh(w @ x[T - 1 - t] + 0.5 * h)
    _check(f, [x, w], h, inside=0)


def test_matrix_times_vectors_of_some_trips():
    def f(x, w):
        h = tjit.zeros(M, dtype=tjit.float64)
        for t in range(1, x.shape[0] - 1):
            h = tjit.tanh(w @ x[t] + 0.5 * h)
        return h

    x, w = _arrays((T, D), (M, D))
    h = np.zeros(M)
    for t in range(1, T - 1):
        h = np.tanh(w @ x[t] + 0.5 * h)
    _check(f, [x, w], h, inside=0)


def test_transposed_parts_and_a_computed_constant():
    def f(x, w):
        h = tjit.zeros(N, M, dtype=tjit.float64)
        for t in range(x.shape[0]):
            h = tjit.tanh(x[t].T @ (2.0 * w) + 0.5 * h)
        return h

    x, w = _arrays((T, D, N), (D, M))
    h = np.zeros((N, M))
    for t in range(T):
        h = np.tanh(x[t].T @ (2 * w) + 0.5 * h)
    _check(f, [x, w], h, inside=0)


def test_sum_of_products():
    def f(x, y, s):
        total, rows = 1.0 * s, tjit.zeros(M, dtype=tjit.float64)
        for t in range(x.shape[0]):
            z = tjit.tanh(y[t])
            total = total + x[t].T @ z
            rows = rows + z.sum(0)
        return total + rows

    x, y, s = _arrays((T, N, D), (T, N, M), (D, M))
    z = np.tanh(y)
    _check(f, [x, y, s], s + np.einsum("tnd,tnm->dm", x, z) + z.sum((0, 1)), inside=0)


def test_gradient_of_a_recurrent_layer():
    def f(x, w, u, b):
        h = tjit.zeros(N, D, dtype=tjit.float64)
        for t in range(x.shape[0]):
            h = tjit.tanh(x[t] @ w + h @ u + b)
        return (h * h).sum()

    def gradients(fn):
        leaves = [tjit.tensor(a).requires_grad_() for a in _arrays((T, N, D), (D, D), (D, D), (D,))]
        fn(*leaves).backward()
        return [leaf.grad for leaf in leaves]

    for u, v in zip(gradients(f), gradients(tjit.compile(f)), strict=True):
        np.testing.assert_allclose(np.asarray(v), np.asarray(u), rtol=1e-10)


@pytest.mark.parametrize("size", [0, 1, 4, 9])
def test_symbolic_trips(size):
    @tjit.compile(dynamic=True)
    def f(x, w, z):
        s = 1.0 * z
        for t in range(x.shape[0]):
            y = tjit.exp(x[t] @ w)
            s = s + x[t].T @ y
        return s

    for n in (3, size):  # the second size is served by the same program
        x, w, z = _arrays((n, N, D), (D, M), (D, M))
        wanted = z + sum((x[t].T @ np.exp(x[t] @ w) for t in range(n)), np.zeros((D, M)))
        np.testing.assert_allclose(np.asarray(f(*map(tjit.tensor, (x, w, z)))), wanted, rtol=1e-11)


@pytest.mark.parametrize("rows", [0, 1])
def test_trips_without_rows(rows):
    def f(x, w, z):
        s, r = 1.0 * z, tjit.zeros(M, dtype=tjit.float64)
        for t in range(x.shape[0]):
            y = tjit.exp(x[t] @ w)
            s, r = s + x[t].T @ y, r + y.sum(0)
        return s + r

    x, w, z = _arrays((T, rows, D), (D, M), (D, M))
    y = np.exp(x @ w)
    _check(f, [x, w, z], z + np.einsum("tnd,tnm->dm", x, y) + y.sum((0, 1)), inside=0)


def _stay(fn, *shapes: tuple[int, ...]) -> None:
    arrays = _arrays(*shapes)
    wanted = np.asarray(fn(*map(tjit.tensor, arrays)))
    _check(fn, arrays, wanted, inside=1)


def test_a_sum_that_is_read_on_the_way_stays():
    def f(x, y, s):
        for t in range(x.shape[0]):
            s = tjit.tanh(s) + x[t].T @ y[t]
        return s

    _stay(f, (T, N, D), (T, N, M), (D, M))


def test_parts_of_different_trips_stay():
    def f(x, y, s):
        for t in range(x.shape[0]):
            s = s + x[t].T @ y[x.shape[0] - 1 - t]
        return s

    _stay(f, (T, N, D), (T, N, M), (D, M))


def test_every_other_part_stays():
    def f(x, w):
        h = tjit.zeros(N, M, dtype=tjit.float64)
        for t in range(x.shape[0] // 2):
            h = tjit.tanh(x[2 * t] @ w + 0.5 * h)
        return h

    _stay(f, (18, N, D), (D, M))


def test_a_product_as_large_as_what_stays_stays():
    def f(x, w):
        h = tjit.zeros(2 * D, M, dtype=tjit.float64)
        for t in range(x.shape[0]):
            h = tjit.tanh(x[t] @ w + 0.5 * h)
        return h

    _stay(f, (T, 2 * D, D), (D, M))


def test_a_term_that_a_branch_makes_stays():
    text = """
        graph f(%x: f64[3], %c: bool[]) -> f64[3], f64[3] {
          %0: f64[3], %1: f64[3] = for(%x, %x, counter="i0", trip=9) {
            body(%s: f64[3], %r: f64[3]) {
              %2: f64[3], %3: f64[3] = if(%c) {
                then() {
                  %4: f64[3] = sin(%x)
                  yield %4, %x
                }
                else() {
                  %5: f64[3] = cos(%x)
                  yield %x, %5
                }
              }
              %6: f64[3] = add(%s, %2)
              %7: f64[3] = add(%r, %3)
              yield %6, %7
            }
          }
          return %0, %1
        }
    """
    graph = parse_graph(textwrap.dedent(text).strip())

    assert batch_contractions(graph) is graph
