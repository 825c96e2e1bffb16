"""Loops over scalars and elements as one kernel: the results of Python's loops, bit for bit."""

from __future__ import annotations

import numpy as np
import pytest
from nest_programs import FailedError, graph_of, kernel_of, run

from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.nest import is_nest
from tjit.dtypes import bool_, f32, f64, i32, i64, u8
from tjit.ir.dims import Symbol, maximum
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Literal
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


def test_arrays_that_change_places_are_no_nest():
    graph = graph_of([TensorType(f64, (N,))] * 2, lambda p, x, y: p.loop(3, [x, y], lambda p, i, x, y: (y, x)))

    assert not is_nest(graph.nodes[-1])
