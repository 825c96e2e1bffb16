"""Names, dtypes, special values and errors of the elementwise and reduce ops are PyTorch's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cases import dtypes_of, operands_of, special_values
from tolerances import assert_close

import tjit
from tjit import dtypes
from tjit.ir.op import OPS, Op
from tjit.tensor import Tensor

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore")  # PyTorch warns where it is asked for a nan


def to_torch(a: np.ndarray) -> Any:
    if a.dtype == dtypes.bf16.numpy:
        return torch.from_numpy(a.astype(np.float32)).to(torch.bfloat16)
    return torch.from_numpy(np.array(a))


def to_numpy(t: Any) -> np.ndarray:
    if t.dtype is torch.bfloat16:
        return t.detach().float().numpy().astype(dtypes.bf16.numpy)
    return t.detach().numpy()


# the references of elementwise ops

RENAMED: dict[str, Callable[..., Any]] = {
    "cast": lambda x, dtype: x.to(getattr(torch, dtype.long_name)),
    "trunc_divide": lambda x, y: torch.div(x, y, rounding_mode="trunc"),
}
ELEMENTWISE = [op for op in sorted(OPS.values(), key=lambda op: op.name) if op.kind == "elementwise"]
# Where PyTorch has no defined answer, or one that depends on the processor: (op, dtype or None for all).
UNDEFINED_SPECIALS = {
    ("cast", None),  # floats out of the range of ints
    ("bitwise_right_shift", None),  # by a negative number
    ("pow", dtypes.u8),  # by -1 as 255
    ("copysign", dtypes.bf16),  # the sign of nan
}
DIVISIONS = ("floor_divide", "remainder", "fmod", "trunc_divide")


def torch_of(op: Op) -> Callable[..., Any]:
    return RENAMED[op.name] if op.name in RENAMED else getattr(torch, op.name)


def _divides(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Where PyTorch divides: not by the int 0, not the smallest int by -1, and not where x / y is beyond the floats."""
    if x.dtype.kind in "iu":
        return (y != 0) & (y != np.array(-1).astype(y.dtype))
    with np.errstate(all="ignore"):
        return ~(np.isfinite(x) & np.isinf(x / y)) | (y == 0)


def _compare(op: Op, arrays: list[np.ndarray], attrs: dict) -> None:
    with np.errstate(all="ignore"):
        actual = np.asarray(op.reference(*arrays, **attrs))
    expected = to_numpy(torch_of(op)(*map(to_torch, arrays), **attrs))
    assert_close(actual, expected, op.tolerance)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_reference_equals_torch(op, rng):
    for dtype in dtypes_of(op):
        for sample in op.samples:
            for shape in ((), (0,), (3, 5)):
                _compare(op, operands_of(sample, dtype, rng, [shape] * len(sample.shapes)), sample.attrs)


@pytest.mark.parametrize("op", ELEMENTWISE, ids=lambda op: op.name)
def test_reference_equals_torch_at_special_values(op):
    for dtype in dtypes_of(op):
        if (op.name, None) in UNDEFINED_SPECIALS or (op.name, dtype) in UNDEFINED_SPECIALS:
            continue
        sample = op.samples[0]
        names = sample.dtypes or (None,) * len(sample.shapes)
        axes = [special_values(dtype if n is None else dtypes.as_dtype(n)) for n in names]
        arrays = [a.ravel() for a in np.meshgrid(*axes, indexing="ij")]
        if op.name in DIVISIONS:
            divides = _divides(*arrays)
            arrays = [a[divides] for a in arrays]
        _compare(op, arrays, sample.attrs)


# the public functions: one expression, run on both modules


def _expression(text: str) -> Callable[[Any], Any]:
    names = {"inf": math.inf, "nan": math.nan}

    def run(module: Any) -> Any:
        def tensor(*args: Any, **kwargs: Any) -> Any:
            return module.tensor(*args, **kwargs)

        f = module.nn.functional if module is torch else module
        return eval(text, {**names, "T": module, "t": tensor, "F": f})

    return run


def _plain(result: Any) -> list[np.ndarray]:
    if isinstance(result, tuple):
        return [a for part in result for a in _plain(part)]
    if isinstance(result, Tensor):
        return [result.array]
    return [to_numpy(result) if isinstance(result, torch.Tensor) else np.asarray(result)]


COMPARISONS = ["eq", "ne", "lt", "le", "gt", "ge"]
QUOTIENTS = ["div", "true_divide", "floor_divide", "remainder", "fmod"]
BINARY = ["add", "sub", "mul", "pow", "maximum", "minimum", "fmax", "fmin", *QUOTIENTS, *COMPARISONS]
PROMOTIONS = [
    f"T.{name}({x}, {y})"
    for name in BINARY
    for x, y in (
        ("t([3, 4])", "t([2., 2.5])"),
        ("t([3, 4], dtype=T.int8)", "t([2, 3], dtype=T.uint8)"),
        ("t([3., 4.], dtype=T.float16)", "t([2., 3.], dtype=T.bfloat16)"),
        ("t([3., 4.])", "t(2., dtype=T.float64)"),
        ("t([3., 4.], dtype=T.bfloat16)", "t([2, 3])"),
        ("t([[3], [4]])", "t([2, 3, 5])"),
        ("t([True, False])", "t([2, 3])"),
    )
]
OPERATORS = [
    f"{x} {op} {y}"
    for op in ("+", "-", "*", "/", "//", "%", "**", "<", "<=", "==", "!=", ">", ">=")
    for x, y in (
        ("t([3, 4])", "2"),
        ("t([3, 4])", "2.5"),
        ("2", "t([3, 4])"),
        ("2.5", "t([3., 4.])"),
        ("t([3., 4.])", "t(2)"),
    )
]
EXPRESSIONS = """
T.add(t([1, 2]), t([1, 2]), alpha=3)
T.add(t([1, 2]), t([1., 2.]), alpha=0.5)
T.add(t([1, 2]), t([1, 2]), alpha=0.5)
T.add(t([True, False]), t([True, True]))
T.sub(t([1, 2]), 1, alpha=2)
T.sub(t([True]), t([True]))
t([True]) - 1
1 - t([True])
-t([True])
+t([True])
T.mul(t([True, False]), t([True, True]))
T.mul(t([True, False]), True)
T.rsub(t([1, 2]), 3, alpha=2)
T.square(t([True]))
T.square(t([3]))
T.reciprocal(t([4]))
T.abs(t([True]))
T.abs(t([-3, 2]))
abs(t([-3., 2.]))
~t([True, False])
~t([1, 2])
t([5, 6]) & 3
t([5, 6]) | t([1, 8])
3 ^ t([5, 6])
t([1, 2]) << 3
t([-5, 6]) >> t([1, 1])
t([1.]) & t([1.])
T.bitwise_left_shift(t([1]), t([70]))
T.bitwise_right_shift(t([-5]), t([70]))
T.logical_and(t([1., 0.]), t([2, 2]))
T.logical_or(t([0, 0]), t([0., nan]))
T.logical_xor(t([True, False]), t([3, 3]))
T.logical_not(t([1., 0.]))
T.div(t([5, -5]), 2)
T.div(t([5, -5]), 2, rounding_mode='floor')
T.div(t([5, -5]), 2, rounding_mode='trunc')
T.div(t([5., -5.]), 2, rounding_mode='trunc')
T.div(t([5., -5.]), 2, rounding_mode='round')
T.pow(t([2, 1, -1, 3, 0]), t([-1, -3, -3, 2, -1]))
T.pow(t([2, 3]), -1)
T.pow(t([2, 3]), -1.)
T.pow(t([2, 3]), 0.5)
T.pow(t([2., 3.]), 0.5)
T.pow(t([2., 3.]), -0.5)
T.pow(t([2., 3.]), 3)
T.pow(t([2., 3.]), -2)
T.pow(t([2., 3.]), 2.7)
T.pow(t([0., 3.]), 0)
T.pow(2, t([1, 2]))
T.pow(t([True, False]), 2)
T.float_power(t([2, 3]), 2)
T.floor(t([1, 2]))
T.floor(t([True]))
T.round(t([0.5, 1.5, 2.5, -0.5]))
T.round(t([1.25, 2.4, -0.44]), decimals=1)
T.round(t([125., 236.]), decimals=-1)
T.frac(t([1.25, -2.5]))
T.sign(t([True, False]))
T.sign(t([-3, 0]))
T.signbit(t([-0., 0., -1.]))
T.signbit(t([-1, 2]))
T.copysign(t([1, 2]), t([-1, 1]))
T.copysign(t([1., 2.]), -0.)
T.clamp(t([1, 2, 3]), 1.5)
T.clamp(t([1., nan, 3]), 2, 1)
T.clamp(t([1., nan, 3]), max=2)
T.clamp(t([1., nan, 3]), t([nan, 0, 0]), t([2., 2, 2]))
T.clamp(t([1, 2, 3]))
T.clip(t([1., 5.]), 2, 3)
t([1., 5.]).clamp(min=2)
T.clamp_min(t([1., 5.]), 2)
T.clamp_max(t([1., 5.]), 2)
T.lerp(t([1., 2.]), t([3., 5.]), 0.25)
T.lerp(t([1., 2.]), t([3., 5.]), t([0.25, 0.75]))
T.lerp(t([1, 2]), t([3, 5]), 0.5)
T.addcmul(t([1., 2.]), t([3., 4.]), t([5., 6.]), value=0.5)
T.addcdiv(t([1., 2.]), t([3., 4.]), t([5., 6.]), value=2)
T.addcdiv(t([1]), t([3]), t([5]))
T.logaddexp(t([inf, -inf, 1.]), t([inf, -inf, 2.]))
T.logaddexp(t([1]), t([2]))
T.logaddexp2(t([1., 2.]), t([3., 3.]))
T.hypot(t([3., inf, 0.]), t([4., nan, 0.]))
T.atan2(t([1, 2]), t([1., -1.]))
T.xlogy(t([0., 0., 1.]), t([0., nan, 2.]))
T.deg2rad(t([90, 180]))
T.rad2deg(t([1., 2.]))
T.exp(t([1, 2]))
T.sqrt(t([True, False]))
T.rsqrt(t([4]))
T.erfc(t([1]))
T.sigmoid(t([1, -1]))
T.relu(t([1, -1]))
T.relu(t([True]))
F.silu(t([-inf, inf, nan, 1.]))
F.silu(t([1]))
F.gelu(t([-inf, inf, nan, 1.], dtype=T.float64))
F.gelu(t([0.5, -1.]), approximate='tanh')
F.gelu(t([0.5, -1.]), approximate='cosh')
T.isnan(t([1, 2]))
T.isnan(t([1., nan]))
T.isinf(t([1., -inf]))
T.isfinite(t([1., -inf, nan]))
T.isfinite(t([1, 2]))
T.isposinf(t([inf, -inf]))
T.isneginf(t([inf, -inf]))
T.isclose(t([1., inf, nan, 1.]), t([1. + 1e-9, inf, nan, inf]))
T.isclose(t([1., nan]), t([1.1, nan]), rtol=0.2, equal_nan=True)
T.isclose(t([1]), t([1.]))
T.where(t([True, False]), 1, 2.)
T.where(t([True, False]), t([1, 2]), t([1.5, 2.5]))
T.where(t([[True], [False]]), t([1, 2]), 0)
T.where(t([1, 0]), t([1, 2]), 0)
T.masked_fill(t([1, 2]), t([True, False]), 7)
T.masked_fill(t([1., 2.]), t([True, False]), t(3))
T.masked_fill(t([1., 2.]), t([[True], [False]]), -inf)
T.masked_fill(t([1., 2.]), t([1, 0]), 3)
T.eq(t([1, 2], dtype=T.uint8), -1)
T.lt(t([1, 2, 3]), 2.5)
T.lt(t([True, False]), t([False, True]))
T.ge(t([True, False]), True)
T.add(t([1, 2], dtype=T.uint8), 257)
t([1., 2.]) + t([1., 2., 3.])
t([1., 2.]).exp_()
t([1, 2]).exp_()
t([1., 2.]).add_(t([1, 2]))
t([1, 2]).add_(1.5)
t([1, 2]).mul_(t([1., 2.]))
t([1., 2.]).clamp_(1.5)
t([1., 2.]).masked_fill_(t([True, False]), 9)
T.add(t([1., 2.]), 1, out=t([0., 0.]))
T.sum(t([[1., 2.], [3., 4.]]))
T.sum(t([[1., 2.], [3., 4.]]), 0)
T.sum(t([[1., 2.], [3., 4.]]), (0, 1), keepdim=True)
T.sum(t([[1., 2.], [3., 4.]]), dim=-1)
T.sum(t([[1., 2.], [3., 4.]]), axis=-1, keepdims=True)
T.sum(t([[1., 2.], [3., 4.]]), dim=())
T.sum(t([[1., 2.], [3., 4.]]), dim=2)
T.sum(t([[1., 2.], [3., 4.]]), dim=(0, 0))
T.sum(t([True, True]))
T.sum(t([100, 100], dtype=T.int8))
T.sum(t([1.5, 2.5]), dtype=T.int32)
T.sum(t([]))
T.sum(t(3.), 0)
T.prod(t([100, 100], dtype=T.int8))
T.prod(t([[1., 2.], [3., 4.]]), 0)
T.prod(t([]))
T.mean(t([[1., 2.], [3., 4.]]), 1)
T.mean(t([1, 2]))
T.mean(t([1, 2]), dtype=T.float64)
T.mean(t([]))
T.mean(t([1e4] * 100, dtype=T.float16))
T.any(t([0., nan]))
T.any(t([[0, 1], [0, 0]], dtype=T.uint8), 1)
T.any(t([]))
T.all(t([]))
T.all(t([[1., 1.], [0., 1.]]), dim=1, keepdim=True)
T.all(t([[1., 1.], [0., 1.]]), dim=(0, 1))
T.count_nonzero(t([[1., 0.], [nan, 2.]]), dim=1)
T.count_nonzero(t([True, False]))
T.nansum(t([1., nan]))
T.nanmean(t([1., nan, 3.]))
T.max(t([1., nan, nan]))
T.max(t([1., nan, nan]), 0)
T.max(t([[3, 1], [3, 4]]), 0)
T.max(t([[3, 1], [3, 4]]), 1, True)
T.max(t([[3, 1], [3, 4]]), -1).indices
T.max(t([True, False]), 0)
T.max(t([1, 5]), t([3., 2.]))
T.min(t([[3., 1.], [3., 4.]]), dim=1)
T.min(t([3, 1]))
t([[3, 1], [3, 4]]).max(1)[0]
T.max(t([]))
T.max(T.zeros(0, 3), 0)
T.max(T.zeros(0, 3), 1)
T.amax(t([[3., 1.], [3., 4.]]), (0, 1))
T.amax(t([True, False]))
T.amin(T.zeros(0, 3), 0)
T.amin(t([[3., 1.], [3., 4.]]), 1, keepdim=True)
T.argmax(t([[3., 1.], [3., 4.]]))
T.argmax(t([[3., 1.], [3., 4.]]), 0)
T.argmax(t([[3., nan], [3., 4.]]), 1, keepdim=True)
T.argmax(T.ones(2, 3), keepdim=True)
T.argmin(t([[3, 1], [1, 4]]), dim=-1)
T.argmax(t([True, False]))
T.argmax(t([]))
T.argmax(t(3.), 0)
T.aminmax(t([[3., 1.], [3., 4.]]), dim=0)
T.var(t([1., 2., 4.]))
T.var(t([[1., 2., 4.], [1., 1., 1.]]), 1)
T.var(t([[1., 2., 4.], [1., 1., 1.]]), 1, False)
T.var(t([1., 2., 4.]), unbiased=False)
T.var(t([1., 2., 4.]), correction=2)
T.var(t([1.]))
T.var(t([1.]), correction=3)
T.var(t([1, 2]))
T.var(t([[1., 2.]]), dim=None, correction=0, keepdim=True)
T.std(t([1., 2., 4.]), False)
T.std(t([[1., 2., 4.], [1., 1., 1.]]), dim=0, keepdim=True)
T.var_mean(t([[1., 2., 4.], [1., 1., 1.]]), 1)
T.std_mean(t([1., 2., 4.]))
T.logsumexp(t([1., 2.]), 0)
T.logsumexp(t([1, 2]), 0)
T.logsumexp(t([[-inf, -inf], [inf, -inf], [1e3, 1e3]]), 1)
T.logsumexp(t([[1., 2.], [3., 4.]]), (0, 1), keepdim=True)
T.logsumexp(T.zeros(0, 3), 0)
T.norm(t([3., 4.]))
T.norm(t([3, 4]))
T.norm(t([[3., -4.]]), p=1, dim=1)
T.norm(t([[3., -4.]]), p=inf, dim=1)
T.norm(t([[3., -4.]]), p=-inf, dim=1)
T.norm(t([[3., 0.]]), p=0)
T.norm(t([[3., -4.]]), p=3, dim=(0, 1), keepdim=True)
t([[3., -4.]]).norm(2, 1)
T.norm(t([3., 4.]), p='fro')
""".strip().splitlines()


@pytest.mark.parametrize("text", [*PROMOTIONS, *OPERATORS, *EXPRESSIONS])
def test_expression_gives_what_torch_gives(text):
    run = _expression(text)
    try:
        expected = _plain(run(torch))
    except Exception:
        expected = None

    if expected is None:
        with pytest.raises((RuntimeError, TypeError, ValueError, IndexError)):
            run(tjit)
        return
    actual = _plain(run(tjit))
    assert len(actual) == len(expected)
    for a, e in zip(actual, expected, strict=True):
        assert_close(a, e)


# gradients where functions have kinks


KINKS = """
T.relu(x).sum()
T.abs(x).sum()
T.clamp(x, -1, 1).sum()
T.clamp(x, min=0).sum()
T.clamp(x, max=1).sum()
T.maximum(x, y).sum()
T.minimum(x, y).sum()
T.fmax(x, y).sum()
T.max(x)
T.max(x, 0).values.sum()
T.min(x.reshape(2, 3), 1).values.sum()
T.amax(x)
T.amin(x.reshape(2, 3), (0, 1))
T.prod(x)
T.prod(y)
T.norm(x * 0)
T.norm(x, 1)
T.norm(x, inf)
T.norm(x, 3)
T.std(x * 0)
T.pow(x, 2).sum()
T.pow(x, 0).sum()
T.pow(x.abs(), y.abs()).sum()
T.pow(2., x).sum()
T.pow(0., x.abs()).sum()
T.floor(x).sum()
T.sign(x).sum()
T.round(x).sum()
T.remainder(x, 2).sum()
T.where(x > 0, x, y).sum()
T.sqrt(x.abs()).sum()
T.atan2(x, y).sum()
T.logaddexp(x, y).sum()
T.logsumexp(x, 0)
T.hypot(x + 3, y).sum()
T.xlogy(x, y + 5).sum()
T.copysign(x, y).sum()
F.gelu(x).sum()
F.silu(x).sum()
T.sum(x, dtype=T.float64)
T.mean(x, dtype=T.float64)
T.lerp(x, y, 0.3).sum()
""".strip().splitlines()


@pytest.mark.parametrize("text", KINKS)
def test_gradient_is_that_of_torch_at_kinks(text):
    found = []
    for module in (tjit, torch):
        x = module.tensor([1.0, -1.0, 0.0, 1.0, 2.0, -2.5], requires_grad=True)
        y = module.tensor([1.0, 1.0, 0.0, -1.0, 3.0, 0.5], requires_grad=True)
        f = module.nn.functional if module is torch else module
        eval(text, {"T": module, "F": f, "x": x, "y": y, "inf": math.inf}).backward()
        found.append([None if v.grad is None else np.array(v.grad.array if module is tjit else v.grad) for v in (x, y)])

    for actual, expected in zip(*found, strict=True):
        assert (actual is None) == (expected is None)
        if expected is not None:
            assert_close(actual, expected)
