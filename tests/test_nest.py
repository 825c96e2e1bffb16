"""Loops over scalars and elements as one kernel: the results of Python's loops, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from nest_programs import FailedError, graph_of, kernel_of, run
from random_graphs import random_arrays, random_graph

import tjit
from tjit.codegen.kernel import kernel_symbols
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.llvm.nest import emit_nest
from tjit.codegen.llvm.objects import assembly
from tjit.codegen.llvm.target import TARGETS, named_target
from tjit.codegen.nest import is_nest
from tjit.dtypes import bool_, f32, f64, i32, i64, u8
from tjit.errors import CheckError, DimensionError
from tjit.ir.dims import Symbol, maximum, symbols
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph, Literal, Value
from tjit.ir.types import TensorType

N, M = Symbol("N").dim, Symbol("M").dim
ZERO, ONE = Literal(0, i64), Literal(1, i64)


def check(graph, *inputs, exact=True, fixed=False):
    """Compare the kernel with the evaluated graph; returns the results."""
    results = run(graph, *inputs, fixed=fixed)
    for found, wanted in zip(results, evaluate(graph, inputs), strict=True):
        assert found.dtype == wanted.dtype
        if exact:
            np.testing.assert_array_equal(found, wanted)
        else:
            np.testing.assert_allclose(found, wanted, rtol=1e-13)
    return results


def running_sum(p, y, s):
    def body(p, i, y, s):
        t = p.add(p.part(y, i), s)
        return p.put(y, t, i + 1), t

    p.loop(N - 1, [y, s], body)


def test_elements_and_a_carried_number(rng):
    graph = graph_of([TensorType(f64, (N,)), TensorType(f64, ())], running_sum)

    y, s = check(graph, rng.standard_normal(9), np.array(0.5))

    assert y[-1] == s


def test_the_kernel_prints_its_loops():
    graph = graph_of([TensorType(f64, (N,)), TensorType(f64, ())], running_sum)
    counter = graph.nodes[-1].attrs["counter"]

    text = print_kernel(kernel_of(graph)[0])

    assert text.replace(counter, "i0").splitlines() == [
        "kernel nest(b0: f64[] strides (), out b1: f64[N] strides (1), out b2: f64[] strides ())",
        "  v0: f64 = b0[]",
        "  v1 = v0",
        "  for (i0: N - 1)",
        "    v2: f64 = b1[i0]",
        "    v3: f64 = add(v2, v1)",
        "    b1[i0 + 1] = v3",
        "    v1 = v3",
        "  b2[] = v1",
    ]


def floyd_warshall(p, path):
    def k_loop(p, k, path):
        def i_loop(p, i, path):
            def j_loop(p, j, path):
                other = p.add(p.part(path, i, k), p.part(path, k, j))
                shorter = p.lt(other, p.part(path, i, j))
                return p.choose(shorter, [path], lambda p, x: [p.put(x, other, i, j)], lambda p, x: [x])

            return p.loop(N, [path], j_loop)

        return p.loop(N, [path], i_loop)

    p.loop(N, [path], k_loop)


@pytest.mark.parametrize("n", [0, 1, 2, 13])
def test_floyd_warshall(n, rng):
    path = rng.random((n, n))
    path[path > 0.7] = -0.01

    check(graph_of([TensorType(f64, (N, N))], floyd_warshall), path)


def mandelbrot(p, count, x, y):
    def rows(p, i, count):
        def columns(p, j, count):
            def more(p, re, im, n):
                size = p.add(p.mul(re, re), p.mul(im, im))
                return p.bitwise_and(p.lt(n, 40), p.le(size, 4.0))

            def step(p, re, im, n):
                next_re = p.add(p.sub(p.mul(re, re), p.mul(im, im)), p.part(x, j))
                return next_re, p.add(p.mul(p.mul(2.0, re), im), p.part(y, i)), p.add(n, 1)

            _, _, n = p.loop_while([Literal(0.0, f64), Literal(0.0, f64), ZERO], more, step)
            return [p.put(count, n, i, j)]

        return p.loop(N, [count], columns)

    p.loop(M, [count], rows)


def test_an_escape_loop_inside_of_two_loops():
    types = [TensorType(i64, (M, N)), TensorType(f64, (N,)), TensorType(f64, (M,))]
    x, y = np.linspace(-2.25, 0.75, 11), np.linspace(-1.25, 1.25, 7)

    (count,) = check(graph_of(types, mandelbrot), np.zeros((7, 11), np.int64), x, y)

    assert count.max() == 40
    assert len(set(count.flat)) > 5


def crc16(p, message, crc):
    def byte(p, n, crc):
        crc = p.bitwise_xor(crc, p.cast(p.part(message, n), dtype=i64))

        def bit(p, _, crc):
            half = p.bitwise_right_shift(crc, 1)
            odd = p.cast(p.bitwise_and(crc, 1), dtype=bool_)
            return p.choose(odd, [], lambda p: [p.bitwise_xor(half, 0x8408)], lambda p: [half])

        return p.loop(8, [crc], bit)

    p.loop(N, [crc], byte)


def test_crc_of_bytes(rng):
    message = rng.integers(0, 256, 37).astype(np.uint8)
    expected = 0xFFFF
    for value in message.tolist():
        expected ^= value
        for _ in range(8):
            expected = (expected >> 1) ^ (0x8408 if expected & 1 else 0)

    (crc,) = check(graph_of([TensorType(u8, (N,)), TensorType(i64, ())], crc16), message, np.array(0xFFFF, np.int64))

    assert crc == expected


def test_numbers_that_change_places():
    graph = graph_of(
        [TensorType(i64, ()), TensorType(i64, ()), TensorType(f32, (N,))],
        lambda p, a, b, x: p.loop(N, [a, b, ZERO], lambda p, i, a, b, n: (b, p.add(a, b), p.add(n, p.full(i)))),
    )

    a, b, n = run(graph, np.array(0), np.array(1), np.zeros(10, np.float32))

    assert (a, b, n) == (55, 89, 45)


def nussinov(p, table, sequence):
    def rows(p, step, table):
        i = N - 1 - step

        def columns(p, c, table):
            j = i + 1 + c
            best = p.maximum(p.part(table, i, j - 1), p.part(table, i + 1, j))
            inner = p.part(table, i + 1, j - 1)
            apart = p.lt(p.full(i), p.full(j - 1))
            pair = p.eq(p.add(p.part(sequence, i), p.part(sequence, j)), 3)

            def add_pair(p, inner):
                return [p.choose(pair, [inner], lambda p, x: [p.add(x, 1)], lambda p, x: [x])[0]]

            (inner,) = p.choose(apart, [inner], add_pair, lambda p, inner: [inner])
            best = p.maximum(best, inner)

            def split(p, s, best):
                k = i + 1 + s
                return [p.maximum(best, p.add(p.part(table, i, k), p.part(table, k + 1, j)))]

            (best,) = p.loop(maximum(j - i - 1, 0), [best], split)
            return [p.put(table, best, i, j)]

        return p.loop(maximum(N - i - 1, 0), [table], columns)

    p.loop(N, [table], rows)


def test_nussinov(rng):
    n = 13
    sequence = rng.integers(0, 4, n)

    (table,) = check(
        graph_of([TensorType(i64, (N, N)), TensorType(i64, (N,))], nussinov), np.zeros((n, n), np.int64), sequence
    )

    assert table[0, -1] > 1


def histogram(p, counts, data):
    def body(p, i, counts):
        k = p.bind(p.part(data, i), 0, M - 1)
        return [p.put(counts, p.add(p.part(counts, k), 1), k)]

    p.loop(N, [counts], body)


HISTOGRAM = [TensorType(i64, (M,)), TensorType(i32, (N,))]


def test_elements_at_computed_places(rng):
    check(graph_of(HISTOGRAM, histogram), np.zeros(5, np.int64), rng.integers(0, 5, 40).astype(np.int32))


@pytest.mark.parametrize("wrong", [5, -1, 1 << 30])
def test_a_computed_place_out_of_range_ends_the_kernel(wrong):
    data = np.array([1, wrong, 2], np.int32)

    with pytest.raises(FailedError) as error:
        run(graph_of(HISTOGRAM, histogram), np.zeros(5, np.int64), data)

    assert error.value.args == (0, "bind")


@pytest.mark.parametrize("op", ["take", "gather"])
def test_an_element_taken_by_a_number(op, rng):
    def body(p, i, s, x, places):
        if op == "take":
            picked = p.take(x, p.part(places, i), dim=0)
        else:
            picked = p.reshape(p.gather(x, p.reshape(p.part(places, i), shape=(1,)), dim=0), shape=())
        return [p.add(s, picked)]

    shape = (1,) if op == "gather" else (N,)
    graph = graph_of(
        [TensorType(f64, shape), TensorType(i64, (M,))],
        lambda p, x, places: p.loop(M, [Literal(0.0, f64)], lambda p, i, s: body(p, i, s, x, places)),
    )
    x = rng.random(1 if op == "gather" else 6)

    check(graph, x, rng.integers(0, len(x), 9))
    with pytest.raises(FailedError):
        run(graph, x, np.array([0, len(x)]))


def test_a_check_ends_the_kernel():
    def body(p, i, x):
        p.check(p.gt(p.part(x, i), 0.0))
        return [p.put(x, 7.0, i)]

    graph = graph_of([TensorType(f64, (N,))], lambda p, x: p.loop(N, [x], body))

    check(graph, np.ones(4))
    with pytest.raises(FailedError) as error:
        run(graph, np.array([1.0, 0.0, 1.0]))
    assert error.value.args == (0, "check")


def test_a_branch_at_the_top(rng):
    def make(p, c, x, s):
        def then(p, x, s):
            return p.put(x, s, 0), p.add(s, 1.0), p.full(3)

        p.choose(c, [x, s], then, lambda p, x, s: (x, s, ZERO))

    graph = graph_of([TensorType(bool_, ()), TensorType(f64, (N,)), TensorType(f64, ())], make)

    for choice in (True, False):
        check(graph, np.array(choice), rng.random(3), np.array(2.5))


@pytest.mark.parametrize("dtype", [f32, f64, i32, u8])
def test_memory_of_any_strides(dtype, rng):
    def body(p, i, x, y):
        return p.put(x, p.add(p.part(x, i, 1), p.part(y, i, i)), i, 0), p.put(y, p.part(x, i, 1), 0, i)

    graph = graph_of([TensorType(dtype, (N, 3)), TensorType(dtype, (N, N))], lambda p, x, y: p.loop(N, [x, y], body))
    x = rng.integers(0, 9, (3, 5)).astype(dtype.numpy).T
    y = rng.integers(0, 9, (5, 5)).astype(dtype.numpy).T

    check(graph, x, y, fixed=True)


def two_versions(p, x, s):
    def body(p, i, x, s):
        later = p.put(x, s, i)
        return later, p.add(p.part(x, i), p.part(later, i))

    p.loop(N, [x, s], body)


def test_a_version_that_is_read_after_it_is_overwritten_is_no_nest():
    graph = graph_of([TensorType(f64, (N,)), TensorType(f64, ())], two_versions)

    assert not is_nest(graph.nodes[-1])


def test_a_version_may_be_read_where_it_was_not_overwritten(rng):
    def body(p, i, x, s):
        later = p.put(x, s, i + 1)
        return later, p.add(p.part(x, i), p.part(later, i + 1))

    graph = graph_of([TensorType(f64, (N,)), TensorType(f64, ())], lambda p, x, s: p.loop(N - 1, [x, s], body))

    check(graph, rng.random(6), np.array(1.0))


def test_arrays_that_change_places(rng):
    graph = graph_of([TensorType(f64, (N,))] * 3, lambda p, *x: p.loop(4, x, lambda p, i, x, y, z: (y, z, x)))

    check(graph, *(rng.random(5) for _ in range(3)))


def test_a_loop_is_cut_where_it_writes_what_it_reads():
    graph = graph_of([TensorType(f64, (N, N))], floyd_warshall)

    text = print_kernel(kernel_of(graph)[0])
    code = assembly(emit_nest(kernel_of(graph)[0], named_target("x86-64-v3")), named_target("x86-64-v3"), scalar=True)

    assert sum(" from " in line or " to " in line for line in text.splitlines()) == 3
    assert "vaddpd" in code


# Arrays inside of nests: lines and small blocks, reductions, what is put aside


def matrix(*shape):
    return TensorType(f64, shape)


def dot(p, x, y):
    k = x.type.shape[0]
    return p.reshape(p.dot(p.reshape(x, shape=(1, k)), p.reshape(y, shape=(k, 1))), shape=())


def lu(p, a):
    def rows(p, i, a):
        def left(p, j, a):
            a = p.put(a, p.sub(p.part(a, i, j), dot(p, p.part(a, i, slice(0, j)), p.part(a, slice(0, j), j))), i, j)
            return [p.put(a, p.div(p.part(a, i, j), p.part(a, j, j)), i, j)]

        def right(p, c, a):
            j = i + c
            return [
                p.put(a, p.sub(p.part(a, i, j), dot(p, p.part(a, i, slice(0, i)), p.part(a, slice(0, i), j))), i, j)
            ]

        return p.loop(N - i, p.loop(i, [a], left), right)

    p.loop(N, [a], rows)


def cholesky(p, a):
    def rows(p, i, a):
        def left(p, j, a):
            a = p.put(a, p.sub(p.part(a, i, j), dot(p, p.part(a, i, slice(0, j)), p.part(a, j, slice(0, j)))), i, j)
            return [p.put(a, p.div(p.part(a, i, j), p.part(a, j, j)), i, j)]

        (a,) = p.loop(i, [a], left)
        row = p.part(a, i, slice(0, i))
        a = p.put(a, p.sub(p.part(a, i, i), p.sum(p.mul(row, row), dims=(0,), keepdim=False)), i, i)
        return [p.put(a, p.sqrt(p.part(a, i, i)), i, i)]

    p.loop(N, [a], rows)


@pytest.mark.parametrize("make", [lu, cholesky])
@pytest.mark.parametrize("n", [1, 2, 13, 40])
def test_factorisations(make, n, rng):
    root = rng.random((n, n))

    check(graph_of([matrix(N, N)], make), root @ root.T + n * np.eye(n), exact=False)


def test_triangular_solve(rng):
    def rows(p, i, x, lower, b):
        known = dot(p, p.part(lower, i, slice(0, i)), p.part(x, slice(0, i)))
        return [p.put(x, p.div(p.sub(p.part(b, i), known), p.part(lower, i, i)), i)]

    graph = graph_of(
        [matrix(N, N), matrix(N), matrix(N)],
        lambda p, lower, b, x: p.loop(N, [x], lambda p, i, x: rows(p, i, x, lower, b)),
    )

    check(graph, np.tril(rng.random((33, 33))) + np.eye(33), rng.random(33), np.zeros(33), exact=False)


def gram_schmidt(p, a, q, r):
    def columns(p, k, a, q, r):
        column = p.part(a, slice(None), k)
        r = p.put(r, p.sqrt(dot(p, column, column)), k, k)
        length = p.broadcast_to(p.part(r, k, k), shape=(M,))
        q = p.put(q, p.div(column, length), slice(None), k)

        def rest(p, c, a, r):
            j = k + 1 + c
            r = p.put(r, dot(p, p.part(q, slice(None), k), p.part(a, slice(None), j)), k, j)
            scaled = p.mul(p.part(q, slice(None), k), p.broadcast_to(p.part(r, k, j), shape=(M,)))
            return p.put(a, p.sub(p.part(a, slice(None), j), scaled), slice(None), j), r

        a, r = p.loop(N - 1 - k, [a, r], rest)
        return a, q, r

    p.loop(N, [a, q, r], columns)


def test_gram_schmidt(rng):
    check(
        graph_of([matrix(M, N), matrix(M, N), matrix(N, N)], gram_schmidt),
        rng.random((14, 9)),
        np.zeros((14, 9)),
        np.zeros((9, 9)),
        exact=False,
    )


def durbin(p, y, alpha, beta, r):
    def body(p, c, y, alpha, beta):
        k = c + 1
        beta = p.mul(beta, p.sub(1.0, p.mul(alpha, alpha)))
        total = dot(p, p.flip(p.part(r, slice(0, k)), dims=(0,)), p.part(y, slice(0, k)))
        alpha = p.div(p.neg(p.add(p.part(r, k), total)), beta)
        head = p.part(y, slice(0, k))
        wide = p.broadcast_to(alpha, shape=(k,))
        y = p.put(y, p.add(head, p.mul(wide, p.flip(head, dims=(0,)))), slice(0, k))
        return p.put(y, alpha, k), alpha, beta

    p.loop(N - 1, [y, alpha, beta], body)


def test_what_a_loop_would_overwrite_is_computed_first(rng):
    n = 19
    r = rng.random(n) / n
    y = np.zeros(n)
    y[0] = -r[0]
    graph = graph_of([matrix(N), matrix(), matrix(), matrix(N)], durbin)

    check(graph, y, np.array(-r[0]), np.array(1.0), r, exact=False)
    assert len(kernel_of(graph)[0].scratch) == 1


def seidel(p, a):
    def rows(p, c, a):
        i = c + 1
        inner = slice(1, N - 1)
        row = p.add(p.part(a, i - 1, inner), p.part(a, i + 1, inner))
        row = p.add(row, p.part(a, i, slice(2, N)))

        def columns(p, d, a):
            j = d + 1
            return [p.put(a, p.div(p.add(p.part(a, i, j - 1), p.part(row, j - 1)), 9.0), i, j)]

        return p.loop(N - 2, [a], columns)

    p.loop(N - 2, [a], rows)


def test_what_a_loop_inside_would_overwrite_is_put_aside(rng):
    graph = graph_of([matrix(N, N)], seidel)

    check(graph, rng.random((11, 11)))
    assert len(kernel_of(graph)[0].scratch) == 1


def sweep(p, u, v, q):
    inner = slice(1, N - 1)

    def columns(p, c, u, q):
        j = c + 1
        pivot = p.sub(2.5, p.mul(0.5, p.part(u, inner, j - 1)))
        q = p.put(q, p.div(p.mul(0.5, p.part(q, inner, j - 1)), pivot), inner, j)
        return p.put(u, p.div(p.part(v, inner, j), pivot), inner, j), q

    p.loop(N - 2, [u, q], columns)


def test_lines_of_an_implicit_sweep_need_no_copies(rng):
    graph = graph_of([matrix(N, N)] * 3, lambda p, u, v, q: sweep(p, u, v, q))

    check(graph, *(rng.random((9, 9)) for _ in range(3)))
    assert not kernel_of(graph)[0].scratch


SHIFTS = {"behind": (0, 1), "ahead": (2, 1), "here": (1, 1)}


@pytest.mark.parametrize("shift", SHIFTS.values(), ids=SHIFTS)
def test_a_line_moved_within_itself(shift, rng):
    read, written = shift

    def body(p, i, x):
        part = p.part(x, i, slice(read, N - 2 + read))
        return [p.put(x, p.mul(part, 2.0), i, slice(written, N - 2 + written))]

    check(graph_of([matrix(M, N)], lambda p, x: p.loop(M, [x], body)), rng.random((4, 9)))


def test_products_of_sparse_rows(rng):
    def rows(p, i, y, starts, columns, values, x):
        low = p.bind(p.part(starts, i), 0, Symbol("K").dim)
        high = p.bind(p.part(starts, i + 1), 0, Symbol("K").dim)
        row = p.part(columns, slice(low, high))
        return [p.put(y, dot(p, p.part(values, slice(low, high)), p.take(x, row, dim=0)), i)]

    K = Symbol("K").dim
    graph = graph_of(
        [matrix(M), TensorType(i64, (M + 1,)), TensorType(i64, (K,)), matrix(K), matrix(N)],
        lambda p, y, starts, columns, values, x: p.loop(
            M, [y], lambda p, i, y: rows(p, i, y, starts, columns, values, x)
        ),
    )
    starts = np.array([0, 3, 3, 7, 12])
    columns, values, x = rng.integers(0, 6, 12), rng.random(12), rng.random(6)

    check(graph, np.zeros(4), starts, columns, values, x, exact=False)
    columns[4] = 6
    with pytest.raises(FailedError):
        run(graph, np.zeros(4), starts, columns, values, x)


@pytest.mark.parametrize("kind", ["sum", "prod", "max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [f32, f64, i64])
def test_reductions(kind, dtype, rng):
    attrs = {"dims": (0,), "keepdim": False}

    def body(p, i, y, x):
        return [p.put(y, p.op(kind, p.part(x, i, slice(0, i + 1)), **attrs), i)]

    result = i64 if kind.startswith("arg") else dtype
    graph = graph_of(
        [TensorType(result, (N,)), TensorType(dtype, (N, N))],
        lambda p, y, x: p.loop(N, [y], lambda p, i, y: body(p, i, y, x)),
    )
    x = rng.integers(1, 9, (20, 20)).astype(dtype.numpy) / (1 if dtype is i64 else 8)

    for found, wanted in zip(
        run(graph, np.zeros(20, result.numpy), x.astype(dtype.numpy)),
        evaluate(graph, [np.zeros(20, result.numpy), x.astype(dtype.numpy)]),
        strict=True,
    ):
        np.testing.assert_allclose(found, wanted, rtol=1e-5 if dtype is f32 else 1e-12)


def test_small_vectors_that_are_replaced_whole(rng):
    def body(p, i, x, v):
        shifted = p.add(x, p.mul(v, 0.1))
        return shifted, p.sub(v, p.mul(p.flip(x, dims=(0,)), 0.5))

    check(graph_of([matrix(3), matrix(3)], lambda p, x, v: p.loop(7, [x, v], body)), rng.random(3), rng.random(3))


def test_a_small_matrix_times_a_vector(rng):
    def body(p, i, x, a):
        return [p.reshape(p.dot(a, p.reshape(x, shape=(3, 1))), shape=(3,))]

    graph = graph_of([matrix(3), matrix(3, 3)], lambda p, x, a: p.loop(5, [x], lambda p, i, x: body(p, i, x, a)))

    check(graph, rng.random(3), rng.random((3, 3)), exact=False)


def test_large_blocks_and_long_lines_of_functions_are_no_nests():
    def jacobi(p, i, a, b):
        inner = (slice(1, N - 1), slice(1, N - 1))
        return [p.put(a, p.part(b, *inner), *inner)]

    block = graph_of([matrix(N, N)] * 2, lambda p, a, b: p.loop(9, [a], lambda p, i, a: jacobi(p, i, a, b)))
    line = graph_of([matrix(N)], lambda p, a: p.loop(9, [a], lambda p, i, a: [p.exp(a)]))
    product = graph_of(
        [matrix(N), matrix(N, N)],
        lambda p, x, a: p.loop(9, [x], lambda p, i, x: [p.reshape(p.dot(a, p.reshape(x, shape=(N, 1))), shape=(N,))]),
    )

    assert not any(is_nest(graph.nodes[-1]) for graph in (block, line, product))


def test_an_array_made_inside(rng):
    def body(p, i, s, x):
        line = p.put(p.mul(x, 2.0), p.cast(p.full(i), dtype=f64), i)
        return [p.add(s, p.sum(line, dims=(0,), keepdim=False))]

    graph = graph_of([matrix(N), matrix()], lambda p, x, s: p.loop(N, [s], lambda p, i, s: body(p, i, s, x)))

    check(graph, rng.random(6), np.array(0.0), exact=False)


def test_what_is_captured_is_not_overwritten(rng):
    def body(p, i, s, x):
        changed = p.put(x, s, i)
        (s,) = p.choose(p.lt(s, 3.0), [s], lambda p, s: [p.add(s, p.part(changed, i))], lambda p, s: [s])
        return [p.add(s, p.part(x, i))]

    graph = graph_of([matrix(N), matrix()], lambda p, x, s: p.loop(N, [s], lambda p, i, s: body(p, i, s, x)))

    check(graph, rng.random(6), np.array(0.5))


def control_nodes(seed):
    """The nests among the control nodes of a random graph, each as a graph of its own with its inputs."""
    graph = random_graph(seed)
    arrays = random_arrays(graph, seed)
    given = {s.name for v in graph.inputs for d in v.type.shape for s in symbols(d)}
    for n, node in enumerate(graph.nodes):
        if node.op.name in ("for", "while", "if") and is_nest(node):
            reads = tuple(v for v in node.reads() if isinstance(v, Value) and v not in graph.inputs)
            alone = Graph("alone", (*graph.inputs, *reads), (node,), node.results)
            if {s.name for s in kernel_symbols(kernel_of(alone)[0])} <= given:
                try:
                    values = evaluate(Graph("before", graph.inputs, graph.nodes[:n], reads), arrays)
                except (CheckError, DimensionError):
                    return  # the program ends before
                yield alone, [np.array(v, order="C") for v in (*arrays, *values)]


@pytest.mark.parametrize("start", range(0, 80, 20))
def test_nests_of_random_graphs(start):
    for seed in range(start, start + 20):
        for graph, inputs in control_nodes(seed):
            try:
                expected = evaluate(graph, inputs)
            except (CheckError, DimensionError):
                with pytest.raises(FailedError):
                    run(graph, *inputs)
                continue
            for found, wanted in zip(run(graph, *inputs), expected, strict=True):
                loose = found.dtype == np.float32
                np.testing.assert_allclose(found, wanted, rtol=1e-4 if loose else 1e-9, atol=1e-6 if loose else 1e-9)


@pytest.mark.parametrize("op", ["scatter", "scatter_add", "index_add", "index_copy"])
def test_elements_written_at_computed_places(op, rng):
    def body(p, i, x, places, values):
        row, new = p.part(places, i, slice(None)), p.part(values, i, slice(None))
        return [p.op(op, x, row, p.mul(new, 2.0), dim=0)]

    graph = graph_of(
        [matrix(N), TensorType(i64, (M, 3)), matrix(M, 3)],
        lambda p, x, places, values: p.loop(M, [x], lambda p, i, x: body(p, i, x, places, values)),
    )
    places = rng.integers(0, 5, (4, 3))

    check(graph, rng.random(5), places, rng.random((4, 3)))
    places[2, 1] = 5
    with pytest.raises(FailedError):
        run(graph, rng.random(5), places, rng.random((4, 3)))


@pytest.mark.parametrize("kind", ["max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("dtype", [f32, f64])
def test_a_nan_is_extreme(kind, dtype, rng):
    x = rng.standard_normal((4, 37)).astype(dtype.numpy)
    x[1, 30] = x[2, 0] = np.nan
    x[3] = -np.inf

    def body(p, i, y, x):
        return [p.put(y, p.op(kind, p.part(x, i, slice(None)), dims=(0,), keepdim=False), i)]

    result = i64 if kind.startswith("arg") else dtype
    graph = graph_of(
        [TensorType(result, (M,)), TensorType(dtype, (M, N))],
        lambda p, y, x: p.loop(M, [y], lambda p, i, y: body(p, i, y, x)),
    )

    check(graph, np.zeros(4, result.numpy), x)


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_compiles_nests(target):
    for types, make in (([matrix(M, N), matrix(M, N), matrix(N, N)], gram_schmidt), (HISTOGRAM, histogram)):
        kernel, _ = kernel_of(graph_of(types, make))

        assert kernel.name in assembly(emit_nest(kernel, named_target(target)), named_target(target), scalar=True)


def test_one_program_serves_all_sizes(rng):
    def factor(a):
        for i in range(a.shape[0]):
            for j in range(i):
                a[i, j] = (a[i, j] - np.dot(a[i, :j], a[j, :j])) / a[j, j]
            a[i, i] = np.sqrt(a[i, i] - np.dot(a[i, :i], a[i, :i]))

    compiled = tjit.compile(factor, dynamic=True)
    for n in (3, 7, 40, 1, 2):
        root = rng.random((n, n))
        a = root @ root.T + n * np.eye(n)
        expected = np.linalg.cholesky(a)
        compiled(a)

        np.testing.assert_allclose(np.tril(a), expected, rtol=1e-12)
    assert compiled.cache_info().misses == 1
