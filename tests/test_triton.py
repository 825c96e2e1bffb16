"""Kernels as Triton source: they agree with NumPy in the interpreter and compile for sm_80 and sm_90 without a GPU."""

from __future__ import annotations

import ast
import math
import operator
import pathlib
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import tjit
import tjit.dtypes as dt
import tjit.nn.functional as F
from tjit.codegen.kernel import (
    Accumulator,
    Axis,
    Buffer,
    Compute,
    Const,
    ContractKernel,
    Index,
    Load,
    Loop,
    LoopKernel,
    NestKernel,
    Reduce,
    Reduced,
    ScatterKernel,
    Store,
)
from tjit.codegen.triton import compile_kernel, emit_kernel
from tjit.codegen.triton.interpreter import interpret
from tjit.errors import CodegenError
from tjit.ir.dims import Symbol, minimum
from tjit.ir.op import Op
from tjit.location import Location

GOLDEN = pathlib.Path(__file__).parent / "golden" / "triton"


def toy(name, scalar):
    """An op known only by its scalar body."""
    return Op(name=name, kind="elementwise", infer=None, reference=scalar, vjp=None, samples=(), scalar=scalar)


def unary(name):
    return toy(name, lambda b, x: getattr(b, name)(x))


def binary(name):
    return toy(name, lambda b, x, y: getattr(b, name)(x, y))


GELU = toy(
    "gelu",
    lambda b, x: b.mul(b.mul(b.const(0.5, x), x), b.add(b.const(1.0, x), b.erf(b.mul(x, b.const(math.sqrt(0.5), x))))),
)


def compute(op, *operands, dtype=None, line=5):
    op = op if isinstance(op, Op) else (unary if len(operands) == 1 else binary)(op)
    return Compute(op, operands, (), dtype or operands[-1].dtype, Location("model.py", line))


def axis(name, extent):
    return Axis(Symbol(name, 0, extent - 1), extent)


def buffer(name, dtype, *shape, strides=None, row=False):
    if strides is None:
        strides, step = [], 1
        for n in reversed(shape):
            strides.insert(0, step)
            step = step * n
    return Buffer(name, dtype, tuple(shape), tuple(strides), row)


def read(b, *index, **rest):
    return Load(b, tuple(getattr(i, "index", i) for i in index), **rest)


def write(b, index, value):
    return Store(b, tuple(getattr(i, "index", i) for i in index), value, Location("model.py", 9))


def loop_kernel(name, inputs, outputs, parallel, *loops, vector=None):
    return LoopKernel(name, inputs, outputs, parallel, loops, vector, location=Location("model.py", 3))


def run(kernel, *arrays, symbols=None, constants=None) -> Any:
    """Outputs of `kernel` in the interpreter, after compiling it for both architectures."""
    tk = emit_kernel(kernel, constants)
    ast.parse(tk.source)
    pytest.importorskip("triton")
    for arch in (80, 90):
        assert compile_kernel(tk, arch).startswith(b"\x7fELF")
    by_buffer = dict(zip(kernel.buffers, arrays, strict=True))
    values = symbols or {}
    for b in kernel.outputs:
        if b not in by_buffer:
            shape = [n if isinstance(n, int) else values[str(n)] for n in b.shape]
            by_buffer[b] = np.full(shape, 77, b.dtype.numpy)
    interpret(tk, [by_buffer[b] for b in tk.buffers], values)
    results = [by_buffer[b] for b in kernel.outputs]
    return results[0] if len(results) == 1 else results


def elementwise(name, dtype=dt.f32, shape=(5, 300), op=GELU):
    p, q = axis("p0", shape[0]), axis("p1", shape[1])
    x, out = buffer("%x", dtype, *shape), buffer("b0", dtype, *shape)
    return loop_kernel(name, (x,), (out,), (p, q), Loop((), (write(out, (p, q), compute(op, read(x, p, q))),)))


def test_elementwise_with_broadcast_and_strides(rng):
    p, r = axis("p0", 7), axis("r0", 130)
    x, w = buffer("%x", dt.f32, 7, 130, strides=(1, 7)), buffer("%w", dt.f32, 130)
    c, out = buffer("%c", dt.f32), buffer("b0", dt.f32, 7, 130)
    value = compute("add", compute("mul", read(x, p, r), read(w, r)), read(c))
    kernel = loop_kernel("scale", (x, w, c), (out,), (p,), Loop((r,), (write(out, (p, r), value),)), vector=r)
    a, b, s = rng.standard_normal((130, 7), "f4"), rng.standard_normal(130, "f4"), np.array(2.0, "f4")

    got = run(kernel, a, b, s)

    np.testing.assert_array_equal(got, a.T * b + s)


def test_gelu_chain(rng):
    x = rng.standard_normal((5, 300), "f4")

    got = run(elementwise("gelu"), x)

    expected = 0.5 * x.astype("f8") * (1 + np.vectorize(math.erf)(x.astype("f8") * math.sqrt(0.5)))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", [dt.f16, dt.bf16], ids=str)
def test_halves_are_computed_in_f32(dtype, rng):
    op = toy("chain", lambda b, x: b.sub(b.add(x, b.const(2048.0, x)), b.const(2048.0, x)))
    x = rng.standard_normal((5, 300)).astype(dtype.numpy)

    got = run(elementwise("half", dtype, op=op), x)

    expected = ((x.astype("f4") + np.float32(2048)) - np.float32(2048)).astype(dtype.numpy)
    np.testing.assert_array_equal(got.view("u2"), expected.view("u2"))


def test_symbolic_sizes_use_wide_offsets(rng):
    B = Symbol("B").dim
    p, r = axis("p0", B), axis("r0", 10)
    x, w, out = buffer("%x", dt.f32, B, 10), buffer("%w", dt.f32, B), buffer("b0", dt.f32, B, 10)
    value = compute("sub", read(x, p, r), read(w, p))
    kernel = loop_kernel("shift", (x, w), (out,), (p,), Loop((r,), (write(out, (p, r), value),)), vector=r)
    a, b = rng.standard_normal((231, 10), "f4"), rng.standard_normal(231, "f4")

    tk = emit_kernel(kernel)
    got = run(kernel, a, b, symbols={"B": 231})

    assert tk.signature["B"] == "i64"
    assert "tl.load(x_ptr + i, mask=mask)" in tk.source
    np.testing.assert_array_equal(got, a - b[:, None])


def softmax(rows, columns):
    p, r = axis("p0", rows), axis("r0", columns)
    x, out = buffer("%x", dt.f32, rows, columns), buffer("b0", dt.f32, rows, columns)
    row = buffer("row0", dt.f32, columns, row=True)
    m = Reduce("m", "max", read(x, p, r), dt.f32, Location("model.py", 7))
    t = compute("exp", compute("sub", read(x, p, r), Reduced(m)))
    s = Reduce("s", "sum", t, dt.f32, Location("model.py", 7))
    last = write(out, (p, r), compute("div", read(row, r), Reduced(s)))
    loops = (Loop((r,), (m,)), Loop((r,), (s, write(row, (r,), t))), Loop((r,), (last,)))
    return loop_kernel("softmax", (x,), (out,), (p,), *loops, vector=r)


@pytest.mark.parametrize(("rows", "columns"), [(3, 1000), (9, 10), (1, 128), (2, 20000), (5, 1)])
def test_softmax_of_rows_short_and_long(rows, columns, rng):
    x = rng.standard_normal((rows, columns), "f4") * 4

    got = run(softmax(rows, columns), x)

    e = np.exp(x.astype("f8") - x.max(1, keepdims=True))
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=2e-6)


def test_softmax_of_symbolic_rows(rng):
    B, C = Symbol("B").dim, Symbol("C").dim
    x = rng.standard_normal((2, 3000), "f4")

    got = run(softmax(B, C), x, symbols={"B": 2, "C": 3000})

    e = np.exp(x.astype("f8") - x.max(1, keepdims=True))
    np.testing.assert_allclose(got, e / e.sum(1, keepdims=True), rtol=2e-6)


def test_layer_norm(rng):
    rows, columns = 6, 70
    p, r = axis("p0", rows), axis("r0", columns)
    x, w, out = buffer("%x", dt.f32, rows, columns), buffer("%w", dt.f32, columns), buffer("b0", dt.f32, rows, columns)
    n, eps = Const(float(columns), dt.f32), Const(1e-5, dt.f32)
    total = Reduce("total", "sum", read(x, p, r), dt.f32)
    mean = compute("div", Reduced(total), n)
    centred = compute("sub", read(x, p, r), mean)
    squares = Reduce("squares", "sum", compute("mul", centred, centred), dt.f32)
    scale = compute("rsqrt", compute("add", compute("div", Reduced(squares), n), eps))
    value = compute("mul", compute("mul", centred, scale), read(w, r))
    loops = (Loop((r,), (total,)), Loop((r,), (squares,)), Loop((r,), (write(out, (p, r), value),)))
    kernel = loop_kernel("layer_norm", (x, w), (out,), (p,), *loops, vector=r)
    a, b = rng.standard_normal((rows, columns), "f4"), rng.standard_normal(columns, "f4")

    got = run(kernel, a, b)

    c = a - a.mean(1, keepdims=True, dtype="f8")
    np.testing.assert_allclose(got, c / np.sqrt((c * c).mean(1, keepdims=True) + 1e-5) * b, rtol=1e-5, atol=1e-6)


def reduction(kind, shape, dims, dtype=dt.f32, result=None, across=False):
    """One reduction of x over `dims`."""
    axes = [axis(f"{'r' if i in dims else 'p'}{i}", n) for i, n in enumerate(shape)]
    parallel = tuple(a for i, a in enumerate(axes) if i not in dims)
    inner = tuple(a for i, a in enumerate(axes) if i in dims)
    x, out = buffer("%x", dtype, *shape), buffer("b0", result or dtype, *(a.extent for a in parallel))
    s = Reduce("s", kind, read(x, *axes), result or dtype)
    last = Loop((), (write(out, parallel, Reduced(s)),))
    vector = parallel[-1] if across else inner[-1]
    return loop_kernel(f"reduce_{kind}", (x,), (out,), parallel, Loop(inner, (s,)), last, vector=vector)


@pytest.mark.parametrize(("rows", "columns"), [(37, 70), (1000, 5), (3, 64), (64, 64)])
def test_column_sum(rows, columns, rng):
    x = rng.standard_normal((rows, columns), "f4")

    got = run(reduction("sum", (rows, columns), {0}, across=True), x)

    np.testing.assert_allclose(got, x.sum(0, dtype="f8"), rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(3, 5, 7, 11), (2, 3000, 1, 9)])
def test_sum_over_two_axes(shape, rng):
    x = rng.standard_normal(shape, "f4")

    got = run(reduction("sum", shape, {1, 3}), x)

    np.testing.assert_allclose(got, x.sum((1, 3), dtype="f8"), rtol=1e-5, atol=1e-3)


def test_sum_of_everything(rng):
    x = rng.standard_normal((50, 401), "f4")

    got = run(reduction("sum", x.shape, {0, 1}), x)

    np.testing.assert_allclose(got, x.sum(dtype="f8"), rtol=1e-5, atol=1e-3)


@pytest.mark.parametrize("kind", ["max", "min", "argmax", "argmin"])
@pytest.mark.parametrize("columns", [9, 100, 20000])
def test_extremes_propagate_nan_and_take_the_first(kind, columns, rng):
    x = rng.integers(-3, 4, (4, columns)).astype("f4")
    x[1, columns // 2 :: 3] = np.nan
    x[2] = {"a": -np.inf, "m": np.inf}[kind[0]] * (-1 if kind.endswith("min") else 1)
    result = dt.i64 if kind.startswith("arg") else dt.f32

    got = run(reduction(kind, x.shape, {1}, result=result), x)

    np.testing.assert_array_equal(got, getattr(np, kind)(x, 1))


def test_column_argmax(rng):
    x = rng.integers(-3, 4, (200, 70)).astype("f8")

    got = run(reduction("argmax", x.shape, {0}, dt.f64, dt.i64, across=True), x)

    np.testing.assert_array_equal(got, x.argmax(0))


@pytest.mark.parametrize(
    ("kind", "dtype", "result"),
    [
        ("any", dt.bool_, None),
        ("all", dt.bool_, None),
        ("max", dt.u8, None),
        ("sum", dt.i32, dt.i64),
        ("prod", dt.i64, None),
        ("min", dt.bool_, None),
        ("argmax", dt.i32, dt.i64),
    ],
)
def test_reductions_of_ints_and_bools(kind, dtype, result, rng):
    x = rng.integers(1 if kind == "prod" else 0, 3, (6, 21)).astype(dtype.numpy)
    x[0] = kind == "all"

    got = run(reduction(kind, x.shape, {1}, dtype, result), x)

    np.testing.assert_array_equal(got, getattr(np, kind)(x, 1))


def test_gather_wraps_negative_and_clamps(rng):
    p, q, g = axis("p0", 6), axis("p1", 40), Symbol("g0")
    table, ids, out = buffer("%t", dt.f32, 10, 40), buffer("%i", dt.i64, 6), buffer("b0", dt.f32, 6, 40)
    value = read(table, g.dim, q, bindings=((g, read(ids, p), 10),))
    kernel = loop_kernel("gather", (table, ids), (out,), (p, q), Loop((), (write(out, (p, q), value),)))
    t, i = rng.standard_normal((10, 40), "f4"), np.array([0, -1, 9, -10, 99, -99])

    got = run(kernel, t, i)

    np.testing.assert_array_equal(got, t[[0, 9, 9, 0, 9, 0]])


def test_pad_reads_memory_only_inside(rng):
    p, q = axis("p0", 9), axis("p1", 8)
    x, out = buffer("%x", dt.f16, 5, 6), buffer("b0", dt.f16, 9, 8)
    i, j = p.index - 2, q.index - 1
    value = read(x, i, j, conditions=((i, 5), (j, 6)), fill=-1.5)
    kernel = loop_kernel("pad", (x,), (out,), (p, q), Loop((), (write(out, (p, q), value),)))
    a = rng.standard_normal((5, 6)).astype("f2")

    got = run(kernel, a)

    np.testing.assert_array_equal(got, np.pad(a, ((2, 2), (1, 1)), constant_values=-1.5))


def test_flip_and_floor_of_negative_indices():
    p = axis("p0", 11)
    x, out = buffer("%x", dt.i32, 11), buffer("b0", dt.i32, 11)
    index = (p.index - 5) // 2
    shifted = compute("add", read(x, 10 - p.index), Index(index, dt.i32))
    kernel = loop_kernel("flip", (x,), (out,), (p,), Loop((), (write(out, (p,), shifted),)))
    a = np.arange(11, dtype="i4") * 10

    got = run(kernel, a)

    np.testing.assert_array_equal(got, a[::-1] + (np.arange(11) - 5) // 2)


def test_mask_selects(rng):
    p = axis("p0", 500)
    x, keep, out = buffer("%x", dt.f64, 500), buffer("%keep", dt.bool_, 500), buffer("b0", dt.f64, 500)
    where = toy("where", lambda b, c, x, y: b.select(c, x, y))
    value = compute(where, read(keep, p), read(x, p), Const(0.1, dt.f64))
    kernel = loop_kernel("masked", (x, keep), (out,), (p,), Loop((), (write(out, (p,), value),)))
    a, k = rng.standard_normal(500), rng.random(500) < 0.5

    got = run(kernel, a, k)

    np.testing.assert_array_equal(got, np.where(k, a, 0.1))


def matmul(m, n, k, dtype=dt.f32, batch=None, epilogue=True, prologue=None):
    axes = (axis("b0", batch),) if batch is not None else ()
    am, an, ak = axis("m0", m), axis("n0", n), axis("k0", k)
    lead = (batch,) if batch is not None else ()
    x, w = buffer("%x", dtype, *lead, m, k), buffer("%w", dtype, *lead, k, n)
    bias, out = buffer("%bias", dtype, n), buffer("b0", dtype, *lead, m, n)
    accumulate = dt.f32 if dtype.kind == "float" and dtype.itemsize < 8 else dtype
    a, b = read(x, *axes, am, ak), read(w, *axes, ak, an)
    value = Accumulator(accumulate)
    if epilogue:
        relu = toy("relu", lambda b, x: b.maximum(x, b.const(0, x)))
        cast = toy("cast", lambda b, x: b.cast(x, accumulate))
        value = compute(relu, compute("add", value, compute(cast, read(bias, an), dtype=accumulate)))
    stores = (write(out, (*axes, am, an), value),)
    a = a if prologue is None else compute(prologue, a)
    inputs = (x, w, bias) if epilogue else (x, w)
    return ContractKernel(
        "matmul", inputs, (out,), axes, am, an, ak, a, b, accumulate, stores, location=Location("model.py", 6)
    )


@pytest.mark.parametrize(("m", "n", "k"), [(64, 64, 64), (70, 33, 45), (1, 10, 784), (130, 3, 1), (200, 150, 20)])
def test_matmul_with_bias_and_relu(m, n, k, rng):
    x, w, bias = (rng.standard_normal(s, "f4") for s in ((m, k), (k, n), n))

    got = run(matmul(m, n, k), x, w, bias)

    np.testing.assert_allclose(got, np.maximum(x @ w + bias, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [dt.f16, dt.bf16, dt.f64, dt.i64], ids=str)
def test_matmul_of_other_dtypes(dtype, rng):
    x, w = (rng.integers(-3, 4, s).astype(dtype.numpy) for s in ((40, 21), (21, 35)))

    got = run(matmul(40, 35, 21, dtype, epilogue=False), x, w)

    np.testing.assert_array_equal(got.astype("f8"), x.astype("f8") @ w.astype("f8"))


def test_batched_matmul_with_prologue(rng):
    x, w = rng.standard_normal((3, 20, 40), "f4"), rng.standard_normal((3, 40, 17), "f4")

    got = run(matmul(20, 17, 40, batch=3, epilogue=False, prologue="cos"), x, w)

    np.testing.assert_allclose(got, np.cos(x) @ w, rtol=1e-4, atol=1e-4)


def test_matmul_of_symbolic_sizes(rng):
    B = Symbol("B").dim
    x, w, bias = rng.standard_normal((75, 30), "f4"), rng.standard_normal((30, 20), "f4"), rng.standard_normal(20, "f4")

    got = run(matmul(B, 20, 30), x, w, bias, symbols={"B": 75})

    np.testing.assert_allclose(got, np.maximum(x @ w + bias, 0), rtol=1e-4, atol=1e-4)


def test_convolution_window_is_a_way_to_read(rng):
    m, n, k = axis("m0", 30), axis("n0", 4), axis("k0", 3)
    x, w, out = buffer("%x", dt.f32, 30), buffer("%w", dt.f32, 4, 3), buffer("b0", dt.f32, 4, 30)
    at = m.index + k.index - 1
    a = read(x, at, conditions=((at, 30),))
    stores = (write(out, (n, m), Accumulator(dt.f32)),)
    kernel = ContractKernel("conv", (x, w), (out,), (), m, n, k, a, read(w, n, k), dt.f32, stores)
    s, f = rng.standard_normal(30, "f4"), rng.standard_normal((4, 3), "f4")

    got = run(kernel, s, f)

    np.testing.assert_allclose(got, [np.correlate(s, row, "same") for row in f], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [dt.f32, dt.i64], ids=str)
@pytest.mark.parametrize("add", [True, False])
def test_scatter_takes_points_in_order(dtype, add, rng):
    p, q, g = axis("p0", 9), axis("p1", 33), Symbol("g0")
    src, ids, out = buffer("%s", dtype, 9, 33), buffer("%i", dt.i64, 9), buffer("%t", dtype, 5, 33)
    bindings = ((g, read(ids, p), 5),)
    kernel = ScatterKernel(
        "scatter", (src, ids, out), (out,), (p, q), out, (g.dim, q.index), bindings, read(src, p, q), add
    )
    s, t = rng.integers(-9, 9, (9, 33)).astype(dtype.numpy), np.zeros((5, 33), dtype.numpy)
    i = np.array([0, 1, 1, -1, 0, 0, 3, 3, 1])
    expected = t.copy()
    for at, row in zip(i, s, strict=True):
        expected[at] = expected[at] + row if add else row

    got = run(kernel, s, i, t)

    np.testing.assert_array_equal(got, expected)


def test_scatter_of_one_axis(rng):
    p, g = axis("p0", 50), Symbol("g0")
    src, ids, out = buffer("%s", dt.f32, 50), buffer("%i", dt.i64, 50), buffer("%t", dt.f32, 5)
    kernel = ScatterKernel("count", (src, ids, out), (out,), (p,), out, (g.dim,), ((g, read(ids, p), 5),), read(src, p))
    s, i, t = rng.standard_normal(50, "f4"), rng.integers(0, 5, 50), np.zeros(5, "f4")
    expected = t.copy()
    np.add.at(expected, i, s)

    got = run(kernel, s, i, t)

    np.testing.assert_array_equal(got, expected)


UNARY = """neg abs floor ceil trunc round sqrt rsqrt exp exp2 expm1 log log2 log10 log1p
sin cos tan asin acos atan sinh cosh tanh erf erfc sigmoid"""
BINARY = "add sub mul div floor_mod trunc_mod maximum minimum copysign atan2 pow"
INTS = """add sub mul floor_div floor_mod trunc_div trunc_mod maximum minimum pow bit_and bit_or bit_xor
shift_left shift_right"""
REFERENCES = {
    "neg": np.negative, "round": np.rint, "rsqrt": lambda x: 1 / np.sqrt(x), "asin": np.arcsin, "acos": np.arccos,
    "atan": np.arctan, "erf": np.vectorize(math.erf), "erfc": np.vectorize(math.erfc), "pow": np.power,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)), "sub": np.subtract, "mul": np.multiply, "div": np.divide,
    "floor_mod": np.mod, "trunc_mod": np.fmod, "atan2": np.arctan2, "floor_div": np.floor_divide,
    "trunc_div": lambda x, y: np.trunc(x / y), "bit_and": np.bitwise_and, "bit_or": np.bitwise_or,
    "bit_xor": np.bitwise_xor, "shift_left": lambda x, y: np.where(y > 31, 0, x << np.minimum(y, 31)),
    "shift_right": lambda x, y: x >> np.minimum(y, 31),
}  # fmt: skip


def scalar_kernel(name, dtype, operands):
    p = axis("p0", 64)
    inputs = tuple(buffer(f"%{c}", dtype, 64) for c in "xyz"[:operands])
    out = buffer("b0", dtype, 64)
    value = compute(name, *(read(b, p) for b in inputs))
    return loop_kernel(f"scalar_{name}", inputs, (out,), (p,), Loop((), (write(out, (p,), value),)))


@pytest.mark.parametrize("dtype", [dt.f32, dt.f64], ids=str)
@pytest.mark.parametrize("name", UNARY.split())
def test_float_function(name, dtype, rng):
    x = rng.uniform(0.01, 0.99, 64).astype(dtype.numpy)

    got = run(scalar_kernel(name, dtype, 1), x)

    reference = REFERENCES.get(name) or getattr(np, name)
    np.testing.assert_allclose(got, reference(x.astype("f8")), rtol=1e-6 if dtype is dt.f32 else 1e-14)


@pytest.mark.parametrize("name", BINARY.split())
def test_float_operation(name, rng):
    x, y = rng.uniform(0.1, 3, 64).astype("f4"), rng.uniform(0.1, 3, 64).astype("f4")
    if name != "pow":
        x[::3] *= -1
        y[::2] *= -1

    got = run(scalar_kernel(name, dt.f32, 2), x, y)

    reference = REFERENCES.get(name) or getattr(np, name)
    np.testing.assert_allclose(got, reference(x, y), rtol=1e-6)


@pytest.mark.parametrize("name", INTS.split())
def test_int_operation(name, rng):
    x, y = rng.integers(-9, 9, 64).astype("i4"), rng.integers(1, 40 if "shift" in name else 9, 64).astype("i4")

    got = run(scalar_kernel(name, dt.i32, 2), x, y)

    reference = REFERENCES.get(name) or getattr(np, name)
    np.testing.assert_array_equal(got, reference(x, y))


@pytest.mark.parametrize("source", dt.DTYPES, ids=str)
@pytest.mark.parametrize("target", dt.DTYPES, ids=str)
def test_cast(source, target):
    p = axis("p0", 32)
    x, out = buffer("%x", source, 32), buffer("b0", target, 32)
    value = compute(toy("cast", lambda b, x: b.cast(x, target)), read(x, p), dtype=target)
    kernel = loop_kernel("cast", (x,), (out,), (p,), Loop((), (write(out, (p,), value),)))
    a = np.linspace(0, 100, 32).astype(source.numpy)

    got = run(kernel, a)

    np.testing.assert_array_equal(got.astype("f8"), a.astype(target.numpy).astype("f8"))


@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
@pytest.mark.parametrize("dtype", [dt.f32, dt.bool_], ids=str)
def test_comparison(name, dtype, rng):
    p = axis("p0", 64)
    x, y, out = buffer("%x", dtype, 64), buffer("%y", dtype, 64), buffer("b0", dt.bool_, 64)
    value = compute(name, read(x, p), read(y, p), dtype=dt.bool_)
    kernel = loop_kernel(f"compare_{name}", (x, y), (out,), (p,), Loop((), (write(out, (p,), value),)))
    a, b = rng.integers(0, 2, (2, 64)).astype(dtype.numpy)
    if dtype is dt.f32:
        a[::7] = np.nan

    got = run(kernel, a, b)

    np.testing.assert_array_equal(got, getattr(operator, name)(a, b))


SPECIAL = np.array([0.0, -0.0, 1.5, -1.5, np.inf, -np.inf, np.nan, 2.5], "f4")


@pytest.mark.parametrize("name", ["neg", "sigmoid", "round", "floor_mod", "maximum", "minimum", "div"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_special_values(name):
    x, y = np.repeat(SPECIAL, 8), np.tile(SPECIAL, 8)
    reference = REFERENCES.get(name) or getattr(np, name)
    operands = (x,) if name in ("neg", "sigmoid", "round") else (x, y)

    got = run(scalar_kernel(name, dt.f32, len(operands)), *operands)

    expected = reference(*operands)
    np.testing.assert_allclose(got, expected, rtol=1e-6)
    numbers = ~np.isnan(expected) & ((expected != 0) | (name not in ("maximum", "minimum")))
    np.testing.assert_array_equal(np.signbit(got)[numbers], np.signbit(expected)[numbers])


def test_int_powers_and_far_shifts():
    x = np.repeat(np.array([0, 1, -1, 2, -2, 3, 7, -5], "i4"), 8)
    y = np.tile(np.array([-3, -2, -1, 0, 1, 2, 5, 33], "i4"), 8)

    got = run(scalar_kernel("pow", dt.i32, 2), x, y)

    def power(a, b):
        if b < 0:
            return 1 if a == 1 else (1 if b % 2 == 0 else -1) if a == -1 else 0
        return (a**b + 2**31) % 2**32 - 2**31

    np.testing.assert_array_equal(got, [power(a, b) for a, b in zip(x.tolist(), y.tolist(), strict=True)])


@pytest.mark.parametrize("dtype", [dt.f32, dt.f64, dt.i64], ids=str)
def test_fma(dtype, rng):
    p = axis("p0", 64)
    x, y, out = buffer("%x", dtype, 64), buffer("%y", dtype, 64), buffer("b0", dtype, 64)
    op = toy("fma", lambda b, x, y: b.fma(x, y, b.const(3, x)))
    kernel = loop_kernel(
        "fma", (x, y), (out,), (p,), Loop((), (write(out, (p,), compute(op, read(x, p), read(y, p))),))
    )
    a, b = rng.integers(-9, 9, (2, 64)).astype(dtype.numpy)

    got = run(kernel, a, b)

    np.testing.assert_array_equal(got, a * b + 3)


@pytest.mark.parametrize("dtype", [dt.f64, dt.bf16, dt.bool_, dt.u8], ids=str)
def test_fill_with_a_constant(dtype):
    p = axis("p0", 70)
    out = buffer("b0", dtype, 70)
    value = 0.1 if dtype.kind == "float" else 1
    kernel = loop_kernel("full", (), (out,), (p,), Loop((), (write(out, (p,), Const(value, dtype)),)))

    got = run(kernel)

    np.testing.assert_array_equal(got.astype("f8"), np.full(70, value, dtype.numpy).astype("f8"))


@pytest.mark.parametrize(("rows", "columns"), [(8, 70), (300, 33), (1, 5)])
def test_softmax_over_columns(rows, columns, rng):
    p, r = axis("p0", columns), axis("r0", rows)
    x, out = buffer("%x", dt.f32, rows, columns), buffer("b0", dt.f32, rows, columns)
    row = buffer("row0", dt.f32, rows, row=True)
    m = Reduce("m", "max", read(x, r, p), dt.f32)
    t = compute("exp", compute("sub", read(x, r, p), Reduced(m)))
    s = Reduce("s", "sum", t, dt.f32)
    last = write(out, (r, p), compute("div", read(row, r), Reduced(s)))
    loops = (Loop((r,), (m,)), Loop((r,), (s, write(row, (r,), t))), Loop((r,), (last,)))
    a = rng.standard_normal((rows, columns), "f4")

    got = run(loop_kernel("column_softmax", (x,), (out,), (p,), *loops, vector=p), a)

    e = np.exp(a.astype("f8") - a.max(0))
    np.testing.assert_allclose(got, e / e.sum(0), rtol=2e-6)


@pytest.mark.parametrize("columns", [50, 20000])
def test_row_buffer_read_at_another_index_and_axis(columns, rng):
    p, r, q = axis("p0", 3), axis("r0", columns), axis("r1", columns - 1)
    x, out = buffer("%x", dt.f32, 3, columns), buffer("b0", dt.f16, 3, columns - 1)
    row = buffer("row0", dt.f16, columns, row=True)
    fill = write(row, (r,), compute("exp", read(x, p, r)))
    value = compute("sub", read(row, columns - 1 - q.index), read(row, q), dtype=dt.f16)
    kernel = loop_kernel(
        "ends", (x,), (out,), (p,), Loop((r,), (fill,)), Loop((q,), (write(out, (p, q), value),)), vector=r
    )
    a = rng.standard_normal((3, columns), "f4")

    got = run(kernel, a)

    e = np.exp(a).astype("f2").astype("f4")
    np.testing.assert_allclose(got, (e[:, :0:-1] - e[:, :-1]).astype("f2"), rtol=1e-3)


@pytest.mark.parametrize("columns", [40, 20000])
def test_reductions_of_what_does_not_vary(columns, rng):
    p, r = axis("p0", 5), axis("r0", columns)
    x, w = buffer("%x", dt.f32, 5), buffer("%w", dt.f32, columns)
    outs = tuple(buffer(f"b{i}", dtype, 5) for i, dtype in enumerate((dt.f32, dt.f32, dt.i64, dt.i64)))
    values = (Const(1.0, dt.f32), read(x, p), Index(r.index, dt.i64))
    sums = [Reduce(f"s{i}", "sum", v, v.dtype) for i, v in enumerate(values)]
    sums.append(Reduce("at", "argmax", read(w, r), dt.i64))
    order = [sums[0], sums[1], sums[2], sums[3]]
    stores = tuple(write(out, (p,), Reduced(s)) for out, s in zip(outs, order, strict=True))
    kernel = loop_kernel("constants", (x, w), outs, (p,), Loop((r,), tuple(sums)), Loop((), stores), vector=r)
    a, b = rng.standard_normal(5, "f4"), rng.standard_normal(columns, "f4")

    ones, rows, indices, at = run(kernel, a, b)

    np.testing.assert_array_equal(ones, np.full(5, columns))
    np.testing.assert_allclose(rows, a * columns, rtol=1e-5)
    np.testing.assert_array_equal(indices, np.full(5, columns * (columns - 1) // 2))
    np.testing.assert_array_equal(at, np.full(5, b.argmax()))


def test_empty_shapes():
    assert run(elementwise("none", shape=(0, 3)), np.zeros((0, 3), "f4")).shape == (0, 3)
    np.testing.assert_array_equal(run(reduction("sum", (3, 0), {1}), np.zeros((3, 0), "f4")), np.zeros(3))
    np.testing.assert_array_equal(run(reduction("sum", (2, 0, 4), {1, 2}), np.zeros((2, 0, 4), "f4")), np.zeros(2))
    np.testing.assert_array_equal(
        run(matmul(3, 4, 0, epilogue=False), np.zeros((3, 0), "f4"), np.zeros((0, 4), "f4")), np.zeros((3, 4))
    )


def test_a_later_loop_reads_what_an_earlier_one_wrote(rng):
    p, r = axis("p0", 4), axis("r0", 100)
    x, mid, out = buffer("%x", dt.f32, 4, 100), buffer("b0", dt.f32, 4, 100), buffer("b1", dt.f32, 4, 100)
    first = Loop((r,), (write(mid, (p, r), compute("exp", read(x, p, r))),))
    second = Loop((r,), (write(out, (p, r), read(mid, p, 99 - r.index)),))
    a = rng.standard_normal((4, 100), "f4")

    got, reversed_ = run(loop_kernel("twice", (x,), (mid, out), (p,), first, second, vector=r), a)

    np.testing.assert_array_equal(reversed_, got[:, ::-1])


@pytest.mark.parametrize(
    "kernel", [elementwise("gelu"), softmax(3000, 1000), matmul(100, 50, 70)], ids=lambda k: k.name
)
def test_golden_text(kernel, request):
    path = GOLDEN / f"{kernel.name}.py.txt"
    text = emit_kernel(kernel).source
    if request.config.getoption("--update-golden"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    assert text == path.read_text()
    assert text == emit_kernel(kernel).source


def test_blocks_can_be_tuned(rng):
    x, w, bias = (rng.standard_normal(s, "f4") for s in ((50, 40), (40, 30), 30))

    got = run(matmul(50, 30, 40), x, w, bias, constants={"BLOCK_M": 16, "BLOCK_N": 32, "BLOCK_K": 16})

    np.testing.assert_allclose(got, np.maximum(x @ w + bias, 0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("make", [softmax, lambda r, c: reduction("argmax", (r, c), {0}, result=dt.i64, across=True)])
def test_large_sizes_use_wide_offsets(make):
    pytest.importorskip("triton")
    tk = emit_kernel(make(70000, 70000))

    assert ".to(tl.int64)" in tk.source
    assert all(compile_kernel(tk, arch) for arch in (80, 90))


def test_everything_symbolic(rng):
    M, N, K, Q = (Symbol(s).dim for s in "MNKQ")
    sizes = {"M": 20, "N": 17, "K": 33, "Q": 2}
    x, w, bias = (
        rng.standard_normal((2, 20, 33), "f4"),
        rng.standard_normal((2, 33, 17), "f4"),
        rng.standard_normal(17, "f4"),
    )

    product = run(matmul(M, N, K, batch=Q), x, w, bias, symbols=sizes)
    columns = run(reduction("max", (K, N), {0}, across=True), w[0].copy(), symbols=sizes)
    rows = run(reduction("sum", (K, Q, N), {0, 2}), w.transpose(1, 0, 2).copy(), symbols=sizes)

    np.testing.assert_allclose(product, np.maximum(x @ w + bias, 0), rtol=1e-4, atol=1e-4)
    np.testing.assert_array_equal(columns, w[0].max(0))
    np.testing.assert_allclose(rows, w.sum((1, 2)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("parts", [4, 1000])
def test_last_part_of_a_split_reduction_is_shorter(parts, rng):
    length = 70 if parts == 4 else 3
    total = parts * length - 1
    part = axis("part", parts)
    inside = Axis(Symbol("r0s", 0, length - 1), minimum(length, total - part.index * length))
    x, out = buffer("%x", dt.f32, total), buffer("b0", dt.f32, parts)
    s = Reduce("s", "sum", read(x, part.index * length + inside.index), dt.f32)
    loops = (Loop((inside,), (s,)), Loop((), (write(out, (part,), Reduced(s)),)))
    a = rng.standard_normal(total, "f4")

    got = run(loop_kernel("part", (x,), (out,), (part,), *loops, vector=inside), a)

    np.testing.assert_allclose(got, [c.sum() for c in np.split(a, range(length, total, length))], rtol=1e-4, atol=1e-5)


def test_nests_are_refused():
    with pytest.raises(CodegenError, match=r"kernel walk is a nest.*\n.*\n.*nests=False"):
        emit_kernel(NestKernel("walk", (), (), (), location=Location("model.py", 3)))


@pytest.mark.parametrize(
    ("fn", "said"),
    [
        (lambda x: tjit.cumsum(x, 2), "has a scan"),
        (lambda x: tjit.sort(x, 2)[0], "is a sort"),
    ],
    ids=["scan", "sort"],
)
def test_what_triton_does_not_spell_is_refused(fn, said, tmp_path, monkeypatch):
    x = np.ones((2, 32, 16), "f4")
    lowered = tjit.compile(fn).lower(x)
    monkeypatch.setenv("TJIT_DUMP", "triton")
    monkeypatch.setenv("TJIT_DUMP_DIR", str(tmp_path))

    with pytest.raises(CodegenError, match=rf"{said}, which Triton's emitter does not spell\n  at test_triton\.py"):
        lowered.text("triton")
    tjit.compile(fn)(x)

    (dumped,) = tmp_path.iterdir()
    assert said in dumped.read_text()


def test_attention_is_spelled_as_its_parts():
    lowered = tjit.compile(lambda x: F.scaled_dot_product_attention(x, x, x)).lower(np.ones((2, 32, 16), "f4"))

    text = lowered.text("triton")

    ast.parse(text)
    assert text.count("tl.dot") == 2


def test_no_triton_until_a_compile_is_asked():
    code = (
        "import sys; sys.modules['triton'] = None\n"
        "from tjit.codegen.triton import TritonKernel, compile_kernel\n"
        "try: compile_kernel(TritonKernel('k', '', {}, (1, 1, 1), {}, (), ()), 80)\n"
        "except Exception as e: print(type(e).__name__, e)\n"
    )

    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout

    assert said == "CodegenError compiling for a GPU needs triton\n  hint: pip install tjit[gpu]\n"
