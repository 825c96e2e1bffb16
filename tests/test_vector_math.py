"""The vector math: its distance from the true value over all magnitudes, and where functions are special."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest
from mpmath import mp, mpf
from scalar_kernels import compiled, run

from tjit.codegen.llvm.target import TARGETS, host_target
from tjit.dtypes import DType, f32, f64

HOST = host_target()
RUNNABLE = [HOST]
if HOST.architecture == "x86_64":
    RUNNABLE += [TARGETS["x86-64-v3"]] if HOST.vector_bytes == 64 else []  # multiply-add, and no tables in registers
    RUNNABLE += [TARGETS["x86-64"]]
ULPS = {f32: 1.0, f64: 2.0}

Function = Callable[..., Any]


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mp.exp(-x))


# name: mpmath's function, and the magnitude beyond which it need not be evaluated
UNARY: dict[str, tuple[Function, float]] = {
    "exp": (mp.exp, 1e3), "exp2": (lambda x: mpf(2) ** x, 2e3), "expm1": (mp.expm1, 1e3),
    "log": (mp.log, math.inf), "log2": (lambda x: mp.log(x, 2), math.inf), "log10": (mp.log10, math.inf),
    "log1p": (mp.log1p, math.inf), "sin": (mp.sin, math.inf), "cos": (mp.cos, math.inf), "tan": (mp.tan, math.inf),
    "asin": (mp.asin, 1), "acos": (mp.acos, 1), "atan": (mp.atan, math.inf), "sinh": (mp.sinh, 1e3),
    "cosh": (mp.cosh, 1e3), "tanh": (mp.tanh, 1e3), "erf": (mp.erf, 50), "erfc": (mp.erfc, 50),
    "erfinv": (mp.erfinv, 1),
    "sigmoid": (_sigmoid, 1e3), "rsqrt": (lambda x: 1 / mp.sqrt(x), math.inf), "sqrt": (mp.sqrt, math.inf),
}  # fmt: skip
POSITIVE = {"log", "log2", "log10", "rsqrt", "sqrt"}
BINARY: dict[str, Function] = {"pow": mp.power, "atan2": mp.atan2}

# at 0, -0, inf, -inf: the rest of each function's domain is nan
LIMITS: dict[str, tuple[float, float, float, float]] = {
    "exp": (1, 1, math.inf, 0), "exp2": (1, 1, math.inf, 0), "expm1": (0.0, -0.0, math.inf, -1),
    "log": (-math.inf, -math.inf, math.inf, math.nan), "log2": (-math.inf, -math.inf, math.inf, math.nan),
    "log10": (-math.inf, -math.inf, math.inf, math.nan), "log1p": (0.0, -0.0, math.inf, math.nan),
    "sin": (0.0, -0.0, math.nan, math.nan), "cos": (1, 1, math.nan, math.nan), "tan": (0.0, -0.0, math.nan, math.nan),
    "asin": (0.0, -0.0, math.nan, math.nan), "acos": (math.pi / 2, math.pi / 2, math.nan, math.nan),
    "atan": (0.0, -0.0, math.pi / 2, -math.pi / 2), "sinh": (0.0, -0.0, math.inf, -math.inf),
    "cosh": (1, 1, math.inf, math.inf), "tanh": (0.0, -0.0, 1, -1), "erf": (0.0, -0.0, 1, -1), "erfc": (1, 1, 0, 2),
    "erfinv": (0.0, -0.0, math.nan, math.nan),
    "sigmoid": (0.5, 0.5, 1, 0), "rsqrt": (math.inf, -math.inf, 0, math.nan), "sqrt": (0.0, -0.0, math.inf, math.nan),
}  # fmt: skip


def _bits(rng: np.random.Generator, dtype: DType, n: int) -> np.ndarray:
    """Numbers of all magnitudes, denormal ones included."""
    x = rng.integers(0, 2**64, n, dtype=np.uint64).view(np.float64 if dtype is f64 else np.float32)[:n]
    denormal = rng.integers(1, 2**20, 20) * np.array(np.finfo(dtype.numpy).smallest_subnormal, np.float64)
    return np.concatenate([x[np.isfinite(x)], denormal, -denormal]).astype(dtype.numpy)


@cache
def _points(name: str, dtype: DType) -> np.ndarray:
    rng = np.random.default_rng(7)
    ranges = (0.1, 0.9, 1.0, 2.0, 6.0, 12.0, 30.0, 120.0, 745.0)
    x = [_bits(rng, dtype, 120), *(rng.uniform(-r, r, 50) for r in ranges)]
    x.append(1 + rng.uniform(-1e-3, 1e-3, 50))
    x.append(rng.integers(1, 2**18, 60) * (math.pi / 2))  # nearest to where sin, cos or tan vanish
    x.append(rng.integers(1, 2**52, 60) * (math.pi / 4))
    x.append([1592.7875, 2238.3848])  # the nearest of f32 to multiples of pi/2
    x.append([59.26461, 1639043.5, 8.864584, 0.17141391])  # where exp, cos, tanh, erf err most of all f32
    points = np.concatenate(x).astype(dtype.numpy)
    points = np.where(np.abs(points) <= UNARY[name][1], points, UNARY[name][1]).astype(dtype.numpy)
    return np.abs(points) if name in POSITIVE else np.where(points > -1, points, 1) if name == "log1p" else points


@cache
def _pairs(name: str, dtype: DType) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    small = [(rng.uniform(-6, 6, 100), rng.uniform(-6, 6, 100))]
    small.append((_bits(rng, dtype, 100)[:80], _bits(rng, dtype, 100)[:80]))
    if name == "atan2":
        x = _bits(rng, dtype, 900)[:800] / 1000  # ratios next to which the way of computing changes
        small.append((x * np.repeat([0.0623, 0.0624, 0.077, 1 / 16, 0.999, 1.001, 13.9, 15.9], 100), x))
    if name == "pow":
        exponents = rng.uniform(-1, 1, 200) * (125 if dtype is f32 else 1020)
        bases = 2.0 ** rng.uniform(-1, 1, 200)
        small = [(np.abs(x), y) for x, y in small] + [(bases, exponents), (1 + bases / 1000, 1000 * exponents)]
        small += [(rng.uniform(-9, 9, 60), rng.integers(-25, 25, 60))]
    x, y = (np.concatenate([pair[i] for pair in small]).astype(dtype.numpy) for i in (0, 1))
    return x, y


@cache
def _truth(name: str, dtype: DType) -> list[Any]:
    with mp.workprec(160):
        if name in UNARY:
            return [UNARY[name][0](mpf(float(x))) for x in _points(name, dtype)]
        x, y = _pairs(name, dtype)
        return [BINARY[name](mpf(float(a)), mpf(float(b))) for a, b in zip(x, y, strict=True)]


def ulps(actual: float, true: Any, dtype: DType) -> float:
    """The distance in units of the last place that the true value has in `dtype`."""
    info = np.finfo(dtype.numpy)
    if math.isnan(actual):
        return math.inf
    with mp.workprec(200):
        if math.isinf(actual):
            actual = math.copysign(1.0, actual) * mpf(2) ** int(info.maxexp)
            true = max(min(true, abs(actual)), -abs(actual))
        exponent = max(mp.frexp(true)[1] - 1, int(info.minexp))
        return float(abs(mpf(actual) - true) / mpf(2) ** (exponent - int(info.nmant)))


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", UNARY)
def test_a_function_is_within_its_bound(name, dtype, target):
    x = _points(name, dtype)

    y = run(lambda s, a: getattr(s, name)(a), x, target=target)

    errors = [ulps(float(a), t, dtype) for a, t in zip(y, _truth(name, dtype), strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= ULPS[dtype], f"{name}({x[worst]!r}) = {y[worst]!r}"


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", BINARY)
def test_a_function_of_two_is_within_its_bound(name, dtype, target):
    x, y = _pairs(name, dtype)

    z = run(lambda s, a, b: getattr(s, name)(a, b), x, y, target=target)

    errors = [ulps(float(a), t, dtype) for a, t in zip(z, _truth(name, dtype), strict=True)]
    worst = int(np.argmax(errors))
    assert errors[worst] <= ULPS[dtype], f"{name}({x[worst]!r}, {y[worst]!r}) = {z[worst]!r}"


def _same(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(actual, expected)
    numbers = ~np.isnan(expected)
    np.testing.assert_array_equal(np.signbit(actual[numbers]), np.signbit(expected[numbers]))


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", LIMITS)
def test_limits_are_exact(name, dtype, target):
    x = np.array([0.0, -0.0, math.inf, -math.inf, math.nan], dtype.numpy)

    y = run(lambda s, a: getattr(s, name)(a), x, target=target)

    _same(y, np.array([*LIMITS[name], math.nan], dtype.numpy))


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", ["pow", "atan2"])
def test_functions_of_two_follow_c_at_their_limits(name, dtype, target):
    least = float(np.finfo(dtype.numpy).smallest_subnormal)
    great = float(np.finfo(dtype.numpy).max)
    special = [v * sign for v in (0.0, 0.5, 1.0, 2.0, 3.0, least, great, math.inf) for sign in (1, -1)] + [math.nan]
    x, y = (a.ravel().astype(dtype.numpy) for a in np.meshgrid(special, special))

    z = run(lambda s, a, b: getattr(s, name)(a, b), x, y, target=target)

    with np.errstate(all="ignore"):
        expected = {"pow": np.power, "atan2": np.arctan2}[name](x.astype(np.float64), y.astype(np.float64))
        expected = expected.astype(dtype.numpy)
    exact = np.isnan(expected) | np.isinf(expected) | (expected == 0) | (np.abs(expected) == 1)
    _same(z[exact], expected[exact])
    np.testing.assert_allclose(z[~exact], expected[~exact], rtol=4 * np.finfo(dtype.numpy).eps, atol=2 * least)


@pytest.mark.parametrize("name", ["log1p", "asin", "acos", "log", "sqrt"])
def test_outside_its_domain_a_function_is_nan(name):
    x = np.array([-1.5, -2, -1e30], np.float32) if name != "asin" else np.array([1.5, -1.0000001, 1e30], np.float32)

    assert np.isnan(run(lambda s, a: getattr(s, name)(a), x, target=HOST)).all()


def test_log1p_of_minus_one_is_minus_infinity():
    assert run(lambda s, a: s.log1p(a), np.array([-1.0]), target=HOST)[0] == -math.inf


@pytest.mark.parametrize("width", [1, 2, 3, 8, 32])
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize("name", [*UNARY, *BINARY])
def test_every_width_gives_the_same_bits(name, dtype, width):
    x = np.linspace(-150, 80, 96).astype(dtype.numpy)
    x[5::7] *= 1e18  # rare lanes among common ones
    operands = (x, x[::-1].copy()) if name in BINARY else (x,)

    def body(s, *a):
        return getattr(s, name)(*a)

    np.testing.assert_array_equal(run(body, *operands, target=HOST, width=width), run(body, *operands, target=HOST))


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize(("name", "reference"), [("trunc_mod", np.fmod), ("floor_mod", np.remainder)])
def test_remainders_are_exact_for_all_ratios(name, reference, dtype, target):
    rng = np.random.default_rng(9)
    special = [0.0, -0.0, 1.0, -1.0, 5.5, -5.5, 3.0, math.inf, -math.inf, math.nan, 1e-45, 1e30, -1e30]
    a, b = (v.ravel() for v in np.meshgrid(special, special))
    x = np.concatenate([a, rng.uniform(-9, 9, 500), _bits(rng, dtype, 600)[:500]]).astype(dtype.numpy)
    y = np.concatenate([b, rng.uniform(-3, 3, 500), _bits(rng, dtype, 600)[:500]]).astype(dtype.numpy)

    actual = run(lambda s, u, v: getattr(s, name)(u, v), x, y, target=target)

    with np.errstate(all="ignore"):
        _same(actual, reference(x, y))


@pytest.mark.parametrize("target", RUNNABLE, ids=str)
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
@pytest.mark.parametrize(
    ("name", "reference"), [("floor", np.floor), ("ceil", np.ceil), ("trunc", np.trunc), ("round", np.rint)]
)
def test_rounding_agrees_with_numpy(name, reference, dtype, target):
    rng = np.random.default_rng(10)
    near = np.concatenate([np.arange(-4, 4.25, 0.25), [2.0**23 - 0.5, 2.0**52 - 0.5, -(2.0**23), 2.0**53, 1e-45]])
    x = np.concatenate([near, rng.uniform(-99, 99, 99), [math.inf, -math.inf, math.nan, -0.0]]).astype(dtype.numpy)

    _same(run(lambda s, a: getattr(s, name)(a), x, target=target), reference(x))


@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
def test_the_greater_or_lesser_of_anything_and_nan_is_nan(dtype):
    special = np.array([1.0, -2.0, math.nan, math.inf, -math.inf], dtype.numpy)
    x, y = (a.ravel().copy() for a in np.meshgrid(special, special))

    np.testing.assert_array_equal(run(lambda s, a, b: s.maximum(a, b), x, y, target=HOST), np.maximum(x, y))
    np.testing.assert_array_equal(run(lambda s, a, b: s.minimum(a, b), x, y, target=HOST), np.minimum(x, y))


def test_a_kernel_compiled_once_serves_many_arrays():
    double = compiled(lambda s, a: s.add(a, a), (f32,), f32, HOST)

    assert double(np.array([1, 2], np.float32)).tolist() == [2, 4]
    assert double(np.arange(40, dtype=np.float32))[39] == 78
