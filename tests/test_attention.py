"""Attention in one kernel: shapes, masks, dtypes, layouts, targets, threads, sizes known late, and what it keeps."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from on_threads import assert_same_bits
from tolerances import assert_close, assert_same

import tjit
import tjit.nn.functional as F
from tjit import dtypes
from tjit.codegen.kernel import AttentionGradientKernel, AttentionKernel
from tjit.codegen.llvm.target import TARGETS
from tjit.codegen.steps import kernel_steps

# (batch, l, s, e, v): edges of tiles, vectors and blocks; more than one block of keys and of queries
SHAPES = (
    ((2, 3), 64, 64, 32, 32),
    ((), 8, 1, 1, 1),
    ((1,), 9, 7, 3, 2),
    ((2,), 16, 8, 16, 48),
    ((2,), 77, 77, 80, 80),
    ((1, 2), 33, 130, 17, 23),
    ((1,), 131, 601, 24, 40),
    ((3,), 100, 1100, 16, 16),
)
MASKS = ("none", "causal", "bool", "float", "keys")


def attention(q, k, v, *mask, **attrs):
    return F.scaled_dot_product_attention(q, k, v, *mask, **attrs)


def with_gradients(q: Any, k: Any, v: Any, g: Any, *mask: Any, **attrs: Any) -> Any:
    q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
    y = F.scaled_dot_product_attention(q, k, v, *mask, **attrs)
    return y.detach(), *tjit.autograd.grad(y, (q, k, v), g)


def operands(rng, batch, rows, keys, e, v, dtype=dtypes.f64) -> list[Any]:
    shapes = ((*batch, rows, e), (*batch, keys, e), (*batch, keys, v), (*batch, rows, v))
    return [rng.standard_normal(shape).astype(dtype.numpy) for shape in shapes]


def masks(rng, kind, rows, keys, dtype=dtypes.f64):
    """Operands and keywords. A row of the bool mask sees nothing."""
    if kind == "bool":
        sees = rng.uniform(size=(rows, keys)) < 0.6
        sees[rows // 2] = False
        return [sees], {}
    if kind == "float":
        return [rng.standard_normal((rows, keys)).astype(dtype.numpy)], {}
    if kind == "keys":
        return [rng.uniform(size=(1, keys)) < 0.6], {}
    return [], {"is_causal": kind == "causal"}


def oracle(
    q: Any, k: Any, v: Any, g: Any, mask: Any = None, is_causal: bool = False, scale: float | None = None
) -> Any:
    """The output and the gradients in f64, from the formula."""
    q, k, v, g = (np.asarray(x, np.float64) for x in (q, k, v, g))
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    scores = q @ k.swapaxes(-1, -2) * scale
    mask = np.tri(*scores.shape[-2:], dtype=bool) if is_causal else mask
    if mask is not None:
        scores = np.where(mask, scores, -np.inf) if mask.dtype == bool else scores + mask.astype(np.float64)
    top = scores.max(-1, keepdims=True)
    p = np.exp(scores - np.where(np.isneginf(top), 0, top))
    p = p / np.maximum(p.sum(-1, keepdims=True), 1e-300)
    dp = g @ v.swapaxes(-1, -2)
    ds = p * (dp - (p * dp).sum(-1, keepdims=True)) * scale
    return p @ v, ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g


def kernels(fn: Any, *xs: Any) -> list[Any]:
    return [step.kernel for step in kernel_steps(fn.lower(*xs).schedule())]


def check(found, wanted, dtype, factor=4.0):
    for a, b in zip(found, wanted, strict=True):
        assert_close(a, b.astype(dtype.numpy), factor)


@pytest.mark.parametrize(("shape", "mask"), list(itertools.product(SHAPES, MASKS)), ids=str)
def test_output_and_gradients_are_the_formulas(shape, mask, rng):
    xs = operands(rng, *shape)
    given, attrs = masks(rng, mask, *shape[1:3])

    fn = tjit.compile(lambda *xs: with_gradients(*xs, **attrs))

    found, made = fn(*xs, *given), kernels(fn, *xs, *given)
    assert {AttentionKernel, AttentionGradientKernel} <= set(map(type, made))
    check(found, oracle(*xs, *given, **attrs), dtypes.f64)


@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f16, dtypes.bf16], ids=str)
@pytest.mark.parametrize("mask", MASKS)
def test_narrow_floats_are_computed_in_f32(dtype, mask, rng):
    shape = ((2, 2), 70, 90, 24, 16)
    xs = operands(rng, *shape, dtype)
    given, attrs = masks(rng, mask, *shape[1:3], dtype)

    found = tjit.compile(lambda *xs: with_gradients(*xs, **attrs))(*xs, *given)

    check(found, oracle(*xs, *given, **attrs), dtype)


@pytest.mark.parametrize("is_causal", [False, True])
@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_gives_the_formulas(name, is_causal, rng, compile_for):
    compile_for(name)
    for dtype in (dtypes.f64, dtypes.f32):
        xs = operands(rng, (2,), 45, 61, 19, 22, dtype)

        found = tjit.compile(lambda *xs: with_gradients(*xs, is_causal=is_causal))(*xs)

        check(found, oracle(*xs, is_causal=is_causal), dtype)


def test_heads_of_one_projection_are_read_in_place(rng):
    qkv, g = rng.standard_normal((2, 40, 3, 4, 32)), rng.standard_normal((2, 4, 40, 32))

    @tjit.compile
    def fn(qkv, g):
        q, k, v = (qkv[:, :, i].swapaxes(1, 2) for i in range(3))
        return with_gradients(q, k, v, g)

    (forward, *_) = kernels(fn, qkv, g)
    assert isinstance(forward, AttentionKernel)
    assert len(forward.buffers) == 3  # the projection, the output and the log-sum-exp
    check(fn(qkv, g), oracle(*(qkv[:, :, i].swapaxes(1, 2) for i in range(3)), g=g), dtypes.f64)


def test_operands_that_are_computed_or_strided_are_right(rng):
    q, k, v, g = operands(rng, (2,), 20, 30, 16, 16)

    fn = tjit.compile(lambda q, k, v, g: with_gradients(q.sin(), k.flip(1), v * 2 + 1, g))
    turned = tjit.compile(lambda q, k, v, g: with_gradients(q.mT, k.mT, v.mT, g))

    check(fn(q, k, v, g), oracle(np.sin(q), k[:, ::-1], v * 2 + 1, g), dtypes.f64)
    mirrored = [np.ascontiguousarray(x.swapaxes(1, 2)) for x in (q, k, v)]
    check(turned(*mirrored, g), oracle(q, k, v, g), dtypes.f64)


def test_grouped_heads_share_keys(rng):
    q, g = rng.standard_normal((2, 6, 40, 16)), rng.standard_normal((2, 6, 40, 16))
    k, v = rng.standard_normal((2, 2, 2, 50, 16))

    y, dq, dk, dv = tjit.compile(lambda *xs: with_gradients(*xs, enable_gqa=True))(q, k, v, g)

    wide = oracle(q, k.repeat(3, 1), v.repeat(3, 1), g)
    summed = [x.reshape(2, 2, 3, 50, 16).sum(2) for x in wide[2:]]
    check((y, dq, dk, dv), (*wide[:2], *summed), dtypes.f64)


def test_a_mask_that_is_added_has_a_gradient(rng):
    xs, bias = operands(rng, (2, 3), 12, 10, 8, 8), rng.standard_normal((3, 12, 10))

    def fn(q, k, v, g, bias):
        bias = bias.detach().requires_grad_()
        return tjit.autograd.grad(F.scaled_dot_product_attention(q, k, v, bias), bias, g)[0]

    found = tjit.compile(fn)(*xs, bias)
    step, up = 1e-6, rng.standard_normal(bias.shape)
    y = [np.vdot(oracle(*xs, mask=bias + s * up)[0], xs[3]) for s in (step, -step)]
    np.testing.assert_allclose(np.vdot(found, up), (y[0] - y[1]) / (2 * step), rtol=1e-6)


def test_gradients_of_gradients_are_those_of_the_decomposition(rng):
    q, k, v, g = (tjit.tensor(x) for x in operands(rng, (2,), 9, 10, 5, 6))

    def squared(q: Any, k: Any, v: Any, g: Any, fused: bool) -> Any:
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        y = attention(q, k, v) if fused else (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1) @ v
        first = tjit.autograd.grad(y, (q, k, v), g, create_graph=True)
        return tjit.autograd.grad(tjit.stack([(x * x).sum() for x in first if x is not None]).sum(), (q, k, v))

    fused = tjit.compile(lambda *xs: squared(*xs, fused=True))(q, k, v, g)
    plain = tjit.compile(lambda *xs: squared(*xs, fused=False))(q, k, v, g)
    check(fused, [np.asarray(x) for x in plain], dtypes.f64, 1e3)


@pytest.mark.parametrize("is_causal", [False, True])
def test_one_program_serves_all_sizes(is_causal, rng):
    fn = tjit.compile(lambda *xs: with_gradients(*xs, is_causal=is_causal))

    for rows, keys, batch in ((3, 5, 1), (7, 2, 2), (64, 64, 2), (130, 700, 1), (1, 9, 3), (70, 33, 4)):
        xs = operands(rng, (batch, 2), rows, keys, 16, 24)
        check(fn(*xs), oracle(*xs, is_causal=is_causal), dtypes.f64)


def test_the_same_bits_on_any_number_of_threads(rng):
    xs = operands(rng, (2, 3), 200, 900, 32, 32, dtypes.f32)
    fn = tjit.compile(lambda *xs: with_gradients(*xs, is_causal=True))

    assert_same_bits(fn, *xs)


def test_memory_does_not_hold_the_scores(rng):
    xs = operands(rng, (4,), 2048, 2048, 16, 16, dtypes.f32)
    fn = tjit.compile(with_gradients)

    arena = fn.lower(*xs).schedule().arena

    assert isinstance(arena, int)
    assert arena < 2048 * 2048 * 4


def test_the_output_alone_needs_no_second_output(rng):
    xs = operands(rng, (2,), 40, 50, 16, 24)[:3]
    fn = tjit.compile(attention)

    (kernel,) = kernels(fn, *xs)

    assert isinstance(kernel, AttentionKernel)
    assert kernel.log_sum is None
    assert_close(fn(*xs), oracle(*xs, g=np.zeros((2, 40, 24)))[0], 4.0)


def test_rows_of_infinite_and_nan_scores_are_what_arithmetic_gives(rng):
    q, k, v, _ = operands(rng, (1,), 12, 12, 8, 8)
    q[0, 3] = np.nan
    q[0, 5] = np.inf

    found = np.asarray(tjit.compile(attention)(q, k, v))

    assert np.isnan(found[0, [3, 5]]).all()
    assert np.isfinite(np.delete(found, [3, 5], 1)).all()


def plain(q: Any, k: Any, v: Any, change: Any) -> Any:
    return tjit.softmax(change(q @ k.transpose(-2, -1)), dim=-1) @ v


# what the formula does with the scores, and the mask that it amounts to
FORMULAS = {
    "scaled": (lambda s, m: s / 4.0, None),
    "twice": (lambda s, m: 0.5 * (s * 0.5), None),
    "chosen": (lambda s, m: tjit.where(m, s * 0.25, -np.inf), "sees"),
    "filled": (lambda s, m: (s * 0.25).masked_fill(~m, float("-inf")), "sees"),
    "added": (lambda s, m: m + s * 0.25, "bias"),
}


@pytest.mark.parametrize("formula", FORMULAS)
def test_the_formula_is_the_same_kernel(formula, rng):
    change, mask = FORMULAS[formula]
    xs = operands(rng, (2, 3), 40, 50, 16, 24)
    given = {"sees": rng.uniform(size=(40, 50)) < 0.7, "bias": rng.standard_normal((3, 1, 50)), None: np.ones(())}[mask]
    tensors = [tjit.tensor(x) for x in (*xs[:3], given)]

    fn = tjit.compile(lambda q, k, v, m: plain(q, k, v, lambda scores: change(scores, m)))

    assert [type(k) for k in kernels(fn, *tensors)] == [AttentionKernel]
    wanted = oracle(*xs, mask=None if mask is None else given, scale=0.25)[0]
    assert_close(fn(*tensors), wanted, 4.0)


def test_a_row_of_the_formula_that_sees_nothing_is_nan(rng):
    q, k, v, _ = (tjit.tensor(x) for x in operands(rng, (), 16, 20, 8, 8))
    sees = tjit.tensor(np.arange(16)[:, None] + np.arange(20) > 3)
    sees[5] = False

    found = tjit.compile(lambda *xs: plain(*xs[:3], change=lambda s: s.masked_fill(~xs[3], float("-inf"))))(
        q, k, v, sees
    )

    assert np.isnan(np.asarray(found)).any(-1).tolist() == [i == 5 for i in range(16)]


def test_weights_that_are_returned_are_computed_once(rng):
    q, k, v, _ = (tjit.tensor(x) for x in operands(rng, (2,), 16, 20, 8, 8))

    def fn(q, k, v):
        weights = (q @ k.mT).softmax(-1)
        return weights @ v, weights

    assert AttentionKernel not in map(type, kernels(tjit.compile(fn), q, k, v))


def test_a_package_gives_the_same_bits(rng, tmp_path):
    xs = [tjit.tensor(x) for x in operands(rng, (2, 3), 40, 50, 16, 24, dtypes.f32)]
    fn = tjit.compile(lambda q, k, v, g: with_gradients(q, k, v, g, is_causal=True))
    path = tmp_path / "attention.tjit"

    tjit.export({"step": (fn, tuple(xs))}, path, targets=("host", "x86-64-v3", "x86-64", "aarch64"))

    for a, b in zip(tjit.load(path)["step"](*xs), fn(*xs), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("how", ["plain", "causal", "masked"])
@pytest.mark.parametrize(("heads", "queries", "keys"), [(1, 70, 1037), (2, 530, 523), (3, 600, 600)])
@pytest.mark.parametrize("dtype", [tjit.float32, tjit.bfloat16], ids=str)
def test_gradients_of_few_heads_are_made_of_parts_of_the_keys(heads, queries, keys, how, dtype, rng):
    arrays = [rng.standard_normal((heads, n, 16)) for n in (queries, keys, keys, queries)]
    seen = rng.random((queries, keys)) < 0.7
    seen[:, 0] = True
    mask = tjit.from_numpy(seen) if how == "masked" else None

    def gradients(q, k, v, g):
        y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=how == "causal")
        return tjit.autograd.grad(y, (q, k, v), g)

    def given(to: Any) -> tuple[Any, Any, Any, Any]:
        q, k, v, g = (tjit.from_numpy(a).to(dtype).to(to) for a in arrays)
        return q.requires_grad_(), k.requires_grad_(), v.requires_grad_(), g

    compiled = tjit.compile(gradients)
    found, wanted = compiled(*given(dtype)), gradients(*given(tjit.float64))

    kernels = [step.kernel for step in kernel_steps(compiled.lower(*given(dtype)).schedule())]
    assert any(isinstance(k, AttentionGradientKernel) and len(k.batch) == 2 for k in kernels)
    for a, b in zip(found, wanted, strict=True):
        assert_close(a.numpy(), b.numpy().astype(dtype.numpy), 5)


def test_a_dim_may_be_called_like_the_axis_of_parts(rng):
    def gradients(x: tjit.Tensor[512, tjit.Dim("part", max=64), 8], k, v):
        q = x[:, 0].reshape(1, 1, 512, 8).detach().requires_grad_(True)
        k = k.detach().requires_grad_(True)
        F.scaled_dot_product_attention(q, k, v).square().sum().backward()
        return q.grad, k.grad

    shapes = ((512, 3, 8), (1, 1, 512, 8), (1, 1, 512, 8))
    arrays = [tjit.tensor(rng.standard_normal(shape)) for shape in shapes]

    for found, wanted in zip(tjit.compile(gradients)(*arrays), gradients(*arrays), strict=True):
        np.testing.assert_allclose(found.numpy(), wanted.numpy(), rtol=1e-9, atol=1e-12)
