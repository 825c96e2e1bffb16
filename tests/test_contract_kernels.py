"""Contraction kernels against NumPy in float64: shapes, strides, dtypes, targets, tasks; other memory is untouched."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import pytest

from tjit.codegen.kernel import (
    Accumulator,
    Axis,
    Blocking,
    Buffer,
    Compute,
    ContractKernel,
    Expr,
    Load,
    Store,
    kernel_symbols,
)
from tjit.codegen.llvm.contract import Dependency, contract_scratch_bytes, contract_tasks, emit_contract
from tjit.codegen.llvm.contract_operands import plain_operands
from tjit.codegen.llvm.contract_plan import plan_contract
from tjit.codegen.llvm.objects import compile_module, module_text
from tjit.codegen.llvm.planned import once_a_kernel
from tjit.codegen.llvm.target import TARGETS, Target, host_target
from tjit.dtypes import DType, bf16, f16, f32, f64, i8, i16, i32, i64, u8
from tjit.ir.dims import Dim, Symbol, evaluate
from tjit.ir.op import OPS
from tjit.ops.arithmetic import ADD, MUL
from tjit.runtime.image import load
from tjit.runtime.link import link

SIZES = (0, 1, 2, 3, 5, 8, 13, 14, 15, 16, 17, 31, 32, 33, 47, 64, 97, 130)
TOLERANCE = {
    f16: 2e-3,
    bf16: 1.6e-2,
    f32: 2e-6,
    f64: 1e-14,
    i8: 0,
    i16: 0,
    i32: 0,
    i64: 0,
    u8: 0,
}  # times the size of the terms
NARROW = ((i8, i8), (u8, u8), (i16, i16), (i8, u8), (i16, i8), (i32, i8), (bf16, bf16))
ZONE = 256  # bytes on either side of every array that must stay as they were


def axis(name: str, extent: Dim) -> Axis:
    return Axis(Symbol(name, 0, extent - 1 if isinstance(extent, int) else None), extent)


def contiguous(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    strides: list[Dim] = []
    total: Dim = 1
    for extent in reversed(shape):
        strides.insert(0, total)
        total = total * extent
    return tuple(strides)


def matrices(name: str, dtype: DType, batch: Sequence[Dim], rows: Dim, columns: Dim, *, transposed: bool) -> Buffer:
    """Matrices of rows x columns; transposed: a column's elements are neighbours."""
    shape = (*batch, rows, columns)
    if not transposed:
        return Buffer(name, dtype, shape, contiguous(shape))
    *outer, column, row = contiguous((*batch, columns, rows))
    return Buffer(name, dtype, shape, (*outer, row, column))


def matmul(
    m: Dim,
    n: Dim,
    k: Dim,
    dtype: DType = f32,
    *,
    batch: Sequence[Dim] = (),
    transposed: str = "",
    out: DType | None = None,
) -> ContractKernel:
    """c = a @ b; `transposed` names the operands among "abc" whose columns are contiguous."""
    accumulate = f64 if dtype is f64 else f32 if dtype.is_floating_point else i64 if dtype is i64 else i32
    outer = tuple(axis(f"b{i}", extent) for i, extent in enumerate(batch))
    along = axis("m", m), axis("n", n), axis("k", k)
    index = tuple(x.index for x in outer)
    im, jn, pk = (x.index for x in along)
    a = matrices("a", dtype, batch, m, k, transposed="a" in transposed)
    b = matrices("b", dtype, batch, k, n, transposed="b" in transposed)
    c = matrices("c", out or dtype, batch, m, n, transposed="c" in transposed)
    store = Store(c, (*index, im, jn), Accumulator(out or dtype))
    return ContractKernel(
        "matmul",
        (a, b, c),
        (c,),
        outer,
        *along,
        Load(a, (*index, im, pk)),
        Load(b, (*index, pk, jn)),
        accumulate,
        (store,),
    )


def compute(name: str, *operands: Expr) -> Compute:
    return Compute(OPS[name], operands, (), operands[0].dtype)


class Compiled:
    """A kernel's machine code, loaded."""

    def __init__(self, kernel: ContractKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        module, dependencies = emit_contract(kernel, target)
        self.image = load(
            link([compile_module(module, target), *(compile_dependency(d, target) for d in dependencies)])
        )
        signature = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        self.function = signature(self.image.address(kernel.name))

    def run(self, arrays: Sequence[np.ndarray], tasks: int | None = None, **symbols: int) -> None:
        most = evaluate(contract_tasks(self.kernel, self.target), symbols)
        scratch = zoned(evaluate(contract_scratch_bytes(self.kernel, self.target), symbols))
        values = np.array([symbols[s.name] for s in kernel_symbols(self.kernel)] or [0], np.int64)
        error = np.zeros(1, np.int32)
        pointers = (values, error, scratch, *arrays)
        args = (ctypes.c_void_p * len(pointers))(*(p.ctypes.data for p in pointers))
        for task in range(min(tasks or most, most)):
            self.function(args, task, min(tasks or most, most))
        assert_zones_untouched(scratch)


_objects: dict[tuple[str, str], bytes] = {}


def compile_dependency(dependency: Dependency, target: Target) -> bytes:
    key = target.name, dependency.name
    if key not in _objects:
        _objects[key] = compile_module(dependency.emit(), target)
    return _objects[key]


@lru_cache(maxsize=1)
def targets() -> tuple[Target, ...]:
    """The host, and the presets it can run."""
    host = host_target()
    names = {64: ("x86-64", "x86-64-v3", "x86-64-v4"), 32: ("x86-64", "x86-64-v3"), 16: ("x86-64",)}
    if host.architecture == "aarch64":
        return host, TARGETS["aarch64"]
    return host, *(TARGETS[name] for name in names[host.vector_bytes])


def zoned(nbytes: int) -> np.ndarray:
    """Bytes, aligned, with a zone of known bytes on either side."""
    memory = np.full(nbytes + 2 * ZONE + 64, 0xA5, np.uint8)
    start = ZONE + -(memory.ctypes.data + ZONE) % 64
    return memory[start : start + nbytes]


def assert_zones_untouched(array: np.ndarray) -> None:
    memory: Any = array
    while memory.base is not None:
        memory = memory.base
    start = array.ctypes.data - memory.ctypes.data
    assert (memory[:start] == 0xA5).all()
    assert (memory[start + array.nbytes :] == 0xA5).all()


def numbers(rng: np.random.Generator, buffer: Buffer, symbols: dict[str, int]) -> tuple[np.ndarray, np.ndarray]:
    """Random memory for a buffer, in zones, and the view of it that the buffer's strides give."""
    shape = tuple(evaluate(d, symbols) for d in buffer.shape)
    strides = tuple(evaluate(d, symbols) for d in buffer.strides)
    last = sum((e - 1) * s for e, s in zip(shape, strides, strict=True)) if 0 not in shape else -1
    dtype = buffer.dtype.numpy
    memory = zoned((last + 1) * dtype.itemsize).view(dtype)
    if buffer.dtype.is_floating_point:
        memory[...] = rng.standard_normal(last + 1).astype(dtype)
    else:
        bounds = np.iinfo(dtype)
        memory[...] = rng.integers(max(bounds.min, -(1 << 31)), min(bounds.max, 1 << 31), last + 1, endpoint=True)
    view = np.lib.stride_tricks.as_strided(memory, shape, tuple(s * dtype.itemsize for s in strides))
    return memory, view


def check(
    kernel: ContractKernel, rng: np.random.Generator, target: Target, reference: Any = None, **symbols: int
) -> None:
    """Run with one and with all tasks, and compare with `reference` (of the views, in float64) or the product."""
    memory, views = zip(*(numbers(rng, buffer, symbols) for buffer in kernel.buffers), strict=True)
    wide = [np.asarray(v, np.float64 if kernel.accumulate.is_floating_point else np.int64) for v in views]
    steps = evaluate(kernel.k.extent, symbols)
    expected = reference(*wide) if reference else wide[0] @ wide[1]
    compiled = Compiled(kernel, target)
    output = memory[kernel.buffers.index(kernel.outputs[0])]
    view = views[kernel.buffers.index(kernel.outputs[0])]

    results = []
    for tasks in (None, 1, 3):
        compiled.run(memory, tasks, **symbols)
        results.append(output.copy())

    for array in memory:
        assert_zones_untouched(array)
    assert all(np.array_equal(r.view(np.uint8), results[0].view(np.uint8)) for r in results)
    tolerance = TOLERANCE.get(kernel.outputs[0].dtype, 0) * (8 + steps) ** 0.5 * 4
    if kernel.accumulate.is_floating_point:
        np.testing.assert_allclose(np.asarray(view, np.float64), expected, rtol=tolerance, atol=tolerance)
    else:
        np.testing.assert_array_equal(view, expected.astype(view.dtype))


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64, f16, bf16, i8, i16, i32, i64, u8], ids=str)
def test_products_of_every_dtype_agree(dtype, target, rng):
    for transposed in ("", "a", "b", "ab", "abc"):
        m, n, k = rng.choice(SIZES, 3).tolist()

        check(matmul(m, n, k, dtype, transposed=transposed), rng, target)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtypes", NARROW, ids=str)
def test_narrow_operands_are_read_as_they_lie(dtypes, target, rng):
    """Converted operands: sums of bytes are i32, and they are exact at the bounds of both dtypes."""
    out = f32 if dtypes[0].is_floating_point else i32
    for m, n, k in [(1, 1, 1), (3, 5, 2), (40, 70, 33), (29, 31, 1), (61, 16, 130), (100, 33, 4001), (27, 65, 3100)]:
        for transposed in ("", "a", "b", "ab"):
            kernel = narrow_matmul((m, n, k), dtypes, out, transposed)

            check(kernel, rng, target)


def narrow_matmul(
    shape: tuple[int, int, int], dtypes: tuple[DType, DType], out: DType, transposed: str
) -> ContractKernel:
    """matmul of operands in other dtypes than the result; of integers, converted to it."""
    m, n, k = shape
    kernel = matmul(m, n, k, out, transposed=transposed)
    buffers = (
        matrices("a", dtypes[0], (), m, k, transposed="a" in transposed),
        matrices("b", dtypes[1], (), k, n, transposed="b" in transposed),
    )
    reads: list[Expr] = []
    for buffer, old in zip(buffers, (kernel.a, kernel.b), strict=True):
        assert isinstance(old, Load)
        read = Load(buffer, old.index)
        is_converted = out is not f32 and read.dtype is not out  # of floats, the product is one in the narrow dtype
        reads.append(Compute(OPS["cast"], (read,), (("dtype", out),), out) if is_converted else read)
    return replace(kernel, buffers=(*buffers, kernel.buffers[2]), a=reads[0], b=reads[1])


def over_images(
    shape: tuple[int, int, int, int], dtypes: tuple[DType, DType], out: DType, transposed: str = ""
) -> ContractKernel:
    """c[m, n] = the sum over images and positions of a[image, m, position] * b[image, n, position].

    Of operands in `transposed` the rows are neighbours in memory.
    """
    m, n, images, positions = shape
    kernel = narrow_matmul((m, n, images * positions), dtypes, out, "")
    k = kernel.k.index
    buffers, reads = [], []
    for old, side, rows in zip(kernel.buffers, (kernel.a, kernel.b), (kernel.m, kernel.n), strict=False):
        new = matrices(old.name, old.dtype, (images,), rows.extent, positions, transposed=old.name in transposed)
        read: Expr = Load(new, (k // positions, rows.index, k % positions))
        buffers.append(new)
        reads.append(read if isinstance(side, Load) else replace(side, operands=(read,)))
    return replace(kernel, buffers=(*buffers, kernel.buffers[2]), a=reads[0], b=reads[1])


def sum_over_images(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    return np.einsum("imp,inp->mn", a, b)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtypes", [(f32, f32), (f64, f64), *NARROW], ids=str)
def test_runs_of_k_are_read_as_they_lie(dtypes, target, rng):
    """Short runs side by side in panels, long ones in blocks of their own."""
    out = {f64: f64, f32: f32, bf16: f32}.get(dtypes[0], i32)
    for shape in [
        (30, 40, 5, 49),
        (17, 33, 3, 300),
        (100, 31, 2, 900),
        (3, 20, 9, 260),
        (65, 9, 50, 18),
        (14, 64, 4, 1),
    ]:
        for transposed in ("", "a", "b", "ab"):
            check(over_images(shape, dtypes, out, transposed), rng, target, sum_over_images)


@pytest.mark.parametrize(("positions", "steps"), [(300, 700), (300, 0), (49, 180), (49, 0)])
def test_the_last_run_of_k_may_be_shorter(positions, steps, rng):
    kernel = over_images((20, 40, 4, positions), (f32, f32), f32)
    kernel = replace(kernel, k=axis("k", steps))

    def reference(a, b, c):
        rows_a, rows_b = (x.transpose(1, 0, 2).reshape(x.shape[1], -1)[:, :steps] for x in (a, b))
        return rows_a @ rows_b.T

    check(kernel, rng, host_target(), reference)


def test_runs_of_k_beside_an_operand_that_is_evaluated(rng):
    for shape in [(30, 40, 5, 49), (100, 33, 2, 900)]:
        for side in "ab":
            kernel = over_images(shape, (f32, f32), f32)
            read = kernel.a if side == "a" else kernel.b
            twice = Compute(ADD, (read, read), (), f32)
            kernel = replace(kernel, a=twice) if side == "a" else replace(kernel, b=twice)

            check(kernel, rng, host_target(), lambda a, b, c: 2 * sum_over_images(a, b, c))


def test_digits_of_k_that_walk_together_are_one(rng):
    """Positions as lines and columns, n // 28 // 28: one read along all positions of an image."""
    kernel = over_images((20, 40, 3, 784), (f32, f32), f32)
    b = replace(kernel.buffers[1], shape=(3, 40, 28, 28), strides=(40 * 784, 784, 28, 1))
    k = kernel.k.index
    read = Load(b, (k // 28 // 28, kernel.n.index, k // 28 % 28, k % 28))
    kernel = replace(kernel, buffers=(kernel.buffers[0], b, kernel.buffers[2]), b=read)

    digits, *operands = plain_operands(kernel)

    assert digits.radices == (784,)
    assert [operand.k_stride for operand in operands if operand] == [1, 1]
    check(kernel, rng, host_target(), lambda a, b, c: sum_over_images(a, b.reshape(3, 40, 784), c))


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
def test_all_edges_of_the_register_tile(target, rng):
    for m, n, k in [
        (1, 1, 1),
        (13, 31, 7),
        (14, 32, 16),
        (15, 33, 17),
        (29, 48, 33),
        (6, 16, 5),
        (43, 16, 64),
        (8, 95, 3),
    ]:
        for transposed in ("", "b"):
            check(matmul(m, n, k, transposed=transposed), rng, target)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64, f16, bf16], ids=str)
def test_rows_of_long_dot_products(dtype, target, rng):
    for m, n, k in [(17, 37, 256), (23, 9, 500), (32, 70, 4500), (33, 20, 300), (20, 40, 255)]:
        check(matmul(m, n, k, dtype, transposed="b"), rng, target)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("dtype", [f32, f64, i32], ids=str)
def test_edges_of_half_a_vector(dtype, target, rng):
    for n in (4, 8, 12, 17, 24, 37, 40):
        for transposed in ("", "b"):
            check(matmul(33, n, 19, dtype, transposed=transposed), rng, target)


def test_a_last_vector_that_is_half_empty_has_half_of_the_lanes():
    _, wide = emit_contract(matmul(33, 25, 65), TARGETS["x86-64-v4"])
    _, narrow = emit_contract(matmul(33, 17, 65), TARGETS["x86-64-v4"])

    assert not any("half" in d.name for d in wide)
    assert any("half" in d.name for d in narrow)


@pytest.mark.parametrize("shape", [(0, 5, 5), (5, 0, 5), (5, 5, 0), (0, 0, 0), (1, 1, 0)])
def test_empty_extents(shape, rng):
    check(matmul(*shape), rng, host_target())


@pytest.mark.parametrize("shape", [(300, 100, 1700), (1030, 70, 33), (70, 1100, 40), (600, 520, 800)])
@pytest.mark.parametrize("transposed", ["", "a", "b", "c"])
def test_several_blocks_and_tasks(shape, transposed, rng):
    check(matmul(*shape, transposed=transposed), rng, host_target())


@pytest.mark.parametrize(
    "blocking",
    [
        Blocking(k=64),
        Blocking(m=28, n=64),
        Blocking(k=1000, m=600, n=2000),
        Blocking(packs_a=True, packs_b=True),
        Blocking(k=50, packs_b=False),
    ],
    ids=str,
)
def test_a_kernel_may_be_cut_in_other_ways(blocking, rng):
    for shape in [(1, 64, 200), (17, 70, 130), (300, 100, 170), (70, 520, 333)]:
        for dtype in (f32, bf16):
            for transposed in ("", "a", "b", "c"):
                kernel = matmul(*shape, dtype, transposed=transposed)

                check(replace(kernel, blocking=blocking), rng, host_target())


def test_row_strides_that_fall_on_one_cache_set(rng):
    check(matmul(100, 200, 1024), rng, host_target())
    check(matmul(100, 1024, 150, transposed="a"), rng, host_target())


@pytest.mark.parametrize("batch", [(0,), (3,), (2, 5)])
@pytest.mark.parametrize("transposed", ["", "b", "c"])
def test_batches(batch, transposed, rng):
    check(matmul(17, 40, 9, batch=batch, transposed=transposed), rng, host_target())


def test_a_batch_that_b_does_not_have(rng):
    kernel = matmul(7, 11, 13, batch=(4,))
    b = Buffer("b", f32, (13, 11), (11, 1))
    assert isinstance(kernel.b, Load)
    kernel = replace(kernel, buffers=(kernel.buffers[0], b, kernel.buffers[2]), b=Load(b, kernel.b.index[1:]))

    check(kernel, rng, host_target())


@pytest.mark.parametrize("strides", [(100, 2), (2, 100), (0, 1), (1, 0), (0, 0)])
def test_strided_and_broadcast_operands(strides, rng):
    for name, position in (("a", 0), ("b", 1)):
        kernel = matmul(37, 29, 45)
        old = kernel.buffers[position]
        new = Buffer(name, f32, old.shape, strides)
        buffers = tuple(new if b is old else b for b in kernel.buffers)
        kernel = replace(kernel, buffers=buffers, **{name: Load(new, getattr(kernel, name).index)})

        check(kernel, rng, host_target())


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("transposed", ["", "a", "b", "c"])
def test_symbolic_dims(target, transposed, rng):
    m, n, k = (Symbol(name).dim for name in "MNK")
    kernel = matmul(m, n, k, transposed=transposed)

    for sizes in [(1, 1, 1), (3, 40, 7), (14, 32, 8), (61, 33, 100), (200, 17, 900), (0, 4, 4), (4, 4, 0)]:
        check(kernel, rng, target, **dict(zip("MNK", sizes, strict=True)))


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("shape", [(5, 7, 3), (33, 77, 55), (64, 64, 64), (40, 50, 1700), (1050, 40, 1700)])
def test_epilogues_read_the_sum_and_other_buffers(shape, target, rng):
    kernel = matmul(*shape)
    a, b, c = kernel.buffers
    m, n = kernel.m.index, kernel.n.index
    bias, residual = Buffer("bias", f32, (shape[1],), (1,)), Buffer("residual", f32, shape[:2], (shape[1], 1))
    scale = Buffer("scale", f32, (shape[0],), (1,))
    value = compute(ADD.name, compute(MUL.name, Accumulator(f32), Load(scale, (m,))), Load(bias, (n,)))
    value = compute(ADD.name, value, Load(residual, (m, n)))
    kernel = replace(kernel, buffers=(a, b, c, bias, scale, residual), epilogue=(Store(c, (m, n), value),))

    def reference(a, b, c, bias, scale, residual):
        return a @ b * scale[:, None] + bias + residual

    check(kernel, rng, target, reference)


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("transposed", ["b", "ab"])
def test_lanes_run_along_m_where_less_of_it_is_transposed(transposed, target, rng):
    m = {16: 48, 8: 40, 4: 36}[target.lanes(4)]  # whole vectors, of more rows than dot products are for
    for shape in [(m, 400, 2048), (m, 403, 2001), (16, 900, 4000)]:
        kernel = with_residual(matmul(*shape, transposed=transposed))

        assert plan_contract(kernel, target).kernel.m is kernel.n
        check(kernel, rng, target, lambda a, b, c, residual: a @ b + residual)


def with_residual(kernel: ContractKernel) -> ContractKernel:
    *operands, c = kernel.buffers
    residual = replace(c, name="residual")
    at = (kernel.m.index, kernel.n.index)
    store = Store(c, at, compute(ADD.name, Accumulator(f32), Load(residual, at)))
    return replace(kernel, buffers=(*operands, c, residual), epilogue=(store,))


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("transposed", ["", "a", "b", "ab"])
def test_operands_may_be_expressions(transposed, target, rng):
    for shape in [(5, 7, 3), (33, 77, 55), (40, 50, 900)]:
        kernel = matmul(*shape, transposed=transposed)
        squared = replace(kernel, a=compute(MUL.name, kernel.a, kernel.a), b=compute(ADD.name, kernel.b, kernel.b))

        check(squared, rng, target, lambda a, b, c: (a * a) @ (b + b))


@pytest.mark.parametrize("target", targets(), ids=lambda t: t.name)
@pytest.mark.parametrize("width", [5, 24])
def test_a_convolution_is_a_way_to_read_b(width, target, rng):
    channels, height, out = 3, 7, 10
    kernel = matmul(out, height * width, channels * 9, batch=(2,))
    (image,), n, k = kernel.batch, kernel.n.index, kernel.k.index
    x = Buffer("x", f32, (2, channels, height, width), contiguous((2, channels, height, width)))
    w = Buffer("w", f32, (out, channels * 9), (channels * 9, 1))
    row, column = n // width + (k % 9) // 3 - 1, n % width + k % 3 - 1
    read = Load(x, (image.index, k // 9, row, column), conditions=((row, height), (column, width)))
    kernel = replace(kernel, buffers=(w, x, kernel.buffers[2]), a=Load(w, (kernel.m.index, k)), b=read)

    def reference(w, x, c):
        padded = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), (2, 3))
        flat = windows.transpose(0, 1, 4, 5, 2, 3).reshape(2, channels * 9, height * width)
        return w @ flat

    check(kernel, rng, target, reference)


def test_results_may_have_another_dtype(rng):
    for dtype, out in ((f32, f16), (f32, bf16), (f16, f32), (bf16, f32)):
        check(matmul(20, 50, 30, dtype, out=out), rng, host_target())


def test_kernels_that_differ_in_name_and_tasks_are_planned_once():
    planned = []
    plan = once_a_kernel(lambda kernel, target: planned.append(kernel) or plan_contract(kernel, target))
    kernel, target = matmul(24, 40, 56), targets()[0]
    named = replace(kernel, name="dot.1", tasks=3)
    other = replace(kernel, epilogue=tuple(replace(store) for store in kernel.epilogue))

    plans = [plan(k, target) for k in (kernel, named, kernel, other)]

    assert planned == [kernel, other]
    assert [(p.kernel.name, p.kernel.tasks) for p in plans] == [
        (k.name, k.tasks) for k in (kernel, named, kernel, other)
    ]
    assert plans[0] is plans[2]
    assert (plans[1].rows, plans[1].slots()) == (plans[0].rows, plans[0].slots())


def test_the_text_of_a_kernel_is_deterministic():
    first, second = (emit_contract(matmul(33, 77, 55), host_target()) for _ in range(2))

    assert module_text(first[0], host_target()) == module_text(second[0], host_target())
    assert [d.name for d in first[1]] == [d.name for d in second[1]]


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_compiles(name):
    target = TARGETS[name]
    for dtype in (f32, bf16, i64):
        module, dependencies = emit_contract(matmul(33, 77, Symbol("K").dim, dtype, transposed="b"), target)

        for each in (module, *(d.emit() for d in dependencies)):
            assert compile_module(each, target)
