"""Scalar operations in machine code: integers, bools, casts and memory as in NumPy, and no call of a math library."""

from __future__ import annotations

import inspect
import math

import ml_dtypes
import numpy as np
import pytest
from scalar_kernels import image_of, run

import tjit
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import TARGETS, host_target
from tjit.codegen.scalars import Scalars
from tjit.dtypes import DTYPES, DType, bf16, bool_, f16, f32, f64, from_numpy, i8, i32, i64, u8

HOST = host_target()
RUNNABLE = [HOST, *([TARGETS["x86-64"]] if HOST.architecture == "x86_64" else [])]
INTS = [t for t in DTYPES if t.kind == "int"]
OPERATIONS = sorted(n for n in vars(Scalars) if not n.startswith("_") and n not in ("dtype", "const", "cast", "select"))
INT_ONLY = {"floor_div", "trunc_div", "shift_left", "shift_right"}
INT_ONLY |= {n for n in OPERATIONS if n.startswith("bit_")}
parametrize_targets = pytest.mark.parametrize("target", RUNNABLE, ids=str)
parametrize_ints = pytest.mark.parametrize("dtype", INTS, ids=lambda t: t.name)


def _operands(name: str) -> int:
    return len(inspect.signature(getattr(LlvmScalars, name)).parameters) - 1


def _pairs(dtype: DType, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    info = np.iinfo(dtype.numpy)
    edges = [info.min, info.min + 1, -1 if info.min else 1, 0, 1, 2, 3, 7, info.max - 1, info.max]
    x, y = (a.ravel().astype(dtype.numpy) for a in np.meshgrid(edges, edges))
    more = [rng.integers(info.min, info.max, 300, dtype.numpy, endpoint=True) for _ in range(2)]
    small = rng.integers(-9 if info.min else 1, 9, 300).astype(dtype.numpy)
    return np.concatenate([x, more[0], more[1]]), np.concatenate([y, more[1], small])


def test_every_operation_of_the_protocol_is_there():
    assert [n for n in (*OPERATIONS, "dtype", "const", "cast", "select") if not hasattr(LlvmScalars, n)] == []


@pytest.mark.parametrize("target", [*RUNNABLE, *TARGETS.values()], ids=str)
@pytest.mark.parametrize("name", OPERATIONS)
def test_nothing_is_called_from_a_library(name, target):
    operands = _operands(name)
    for dtype in (i32, i64) if name in INT_ONLY else (f32, f64):
        image = image_of(lambda s, *a: getattr(s, name)(*a), (dtype,) * operands, _result(name, dtype), target)

        assert [n for n, _ in image.imports] == []


@pytest.mark.parametrize("target", [*RUNNABLE, *TARGETS.values()], ids=str)
@pytest.mark.parametrize("source", DTYPES, ids=lambda t: t.name)
def test_no_cast_is_called_from_a_library(source, target):
    for dtype in DTYPES:
        image = image_of(lambda s, x, to=dtype: s.cast(x, to), (source,), dtype, target, width=8)

        assert [n for n, _ in image.imports] == []


def _result(name: str, dtype: DType) -> DType:
    return bool_ if name in ("eq", "ne", "lt", "le", "gt", "ge") else dtype


@parametrize_targets
@parametrize_ints
@pytest.mark.parametrize(
    ("name", "reference"),
    [("add", np.add), ("sub", np.subtract), ("mul", np.multiply), ("maximum", np.maximum), ("minimum", np.minimum),
     ("bit_and", np.bitwise_and), ("bit_or", np.bitwise_or), ("bit_xor", np.bitwise_xor)],
)  # fmt: skip
def test_integers_wrap_as_in_numpy(name, reference, dtype, target, rng):
    x, y = _pairs(dtype, rng)

    actual = run(lambda s, a, b: getattr(s, name)(a, b), x, y, target=target)

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(actual, reference(x, y))


@parametrize_targets
@parametrize_ints
@pytest.mark.parametrize("width", [0, 1])
@pytest.mark.parametrize(
    ("name", "reference"),
    [("floor_div", np.floor_divide), ("floor_mod", np.remainder), ("trunc_mod", np.fmod), ("trunc_div", None)],
)
def test_integer_division_is_exact_and_does_not_trap(name, reference, width, dtype, target, rng):
    x, y = _pairs(dtype, rng)

    actual = run(lambda s, a, b: getattr(s, name)(a, b), x, y, target=target, width=width)

    x, y, actual = (a[y != 0] for a in (x, y, actual))
    with np.errstate(all="ignore"):
        expected = reference(x, y) if reference else (x - np.fmod(x, y)) // y
    np.testing.assert_array_equal(actual, expected.astype(dtype.numpy))


DIVISORS = (1, 2, 3, 5, 7, 10, 60, 64, 127, 641, 4096, 32767, 2**30, 2**31 - 1, 2**32 + 1, 10**18 + 9, 2**63 - 1)


@parametrize_targets
@parametrize_ints
@pytest.mark.parametrize("width", [0, 1])
def test_division_by_a_constant_is_a_multiplication_and_exact(width, dtype, target, rng):
    x, least = _pairs(dtype, rng)[0], np.iinfo(dtype.numpy).min
    divisors = [d for d in (*DIVISORS, -1, -7) if least <= d <= np.iinfo(dtype.numpy).max]

    for name, reference in (("floor_div", np.floor_divide), ("floor_mod", np.remainder), ("trunc_mod", np.fmod)):
        for d in divisors:
            actual = run(lambda s, a, n=name, d=d: getattr(s, n)(a, s.const(d, a)), x, target=target, width=width)
            with np.errstate(all="ignore"):
                np.testing.assert_array_equal(actual, reference(x, dtype.numpy.type(d)), err_msg=f"{name} {d}")


@pytest.mark.parametrize("dtype", [t for t in INTS if t.is_signed], ids=lambda t: t.name)
def test_no_division_is_left_where_the_divisor_is_a_constant(dtype):
    x = tjit.zeros(1000, dtype=dtype)

    text = tjit.compile(lambda x: (x // 7, x % 60)).lower(x).text("llvm")

    assert "sdiv" not in text
    assert "fdiv" not in text


@parametrize_ints
def test_absolute_values_and_negation_wrap(dtype, rng):
    x, _ = _pairs(dtype, rng)

    np.testing.assert_array_equal(run(lambda s, a: s.abs(a), x, target=HOST), np.abs(x))
    np.testing.assert_array_equal(run(lambda s, a: s.neg(a), x, target=HOST), np.negative(x))
    np.testing.assert_array_equal(run(lambda s, a: s.bit_not(a), x, target=HOST), np.invert(x))


@parametrize_targets
@parametrize_ints
def test_shifts_by_the_width_or_more_leave_nothing_but_the_sign(dtype, target, rng):
    x, _ = _pairs(dtype, rng)
    y = rng.integers(0, min(127, 2 * dtype.bits), x.size).astype(dtype.numpy)
    inside = y < dtype.bits
    clamped = np.minimum(y, dtype.bits - 1).astype(dtype.numpy)

    left, right = (
        run(lambda s, a, b, n=n: getattr(s, n)(a, b), x, y, target=target) for n in ("shift_left", "shift_right")
    )

    np.testing.assert_array_equal(left, np.where(inside, x << clamped, 0))
    expected = x >> clamped if dtype.is_signed else np.where(inside, x >> clamped, 0)
    np.testing.assert_array_equal(right, expected)


@parametrize_targets
@parametrize_ints
def test_integer_powers_wrap_and_negative_exponents_truncate(dtype, target, rng):
    x, y = (rng.integers(-6 if dtype.is_signed else 0, 7, 500).astype(dtype.numpy) for _ in range(2))

    actual = run(lambda s, a, b: s.pow(a, b), x, y, target=target)

    def power(a: int, n: int) -> int:
        return a**n if n >= 0 else {1: 1, -1: (-1) ** n}.get(a, 0) if a else 0

    expected = np.array([int(power(int(a), int(n))) for a, n in zip(x, y, strict=True)]).astype(dtype.numpy)
    np.testing.assert_array_equal(actual, expected)


def test_integer_powers_use_every_bit_of_the_exponent():
    x, y = np.array([3, 3, 7, 2]), np.array([2**40 + 1, 63, 2**62, 64])

    actual = run(lambda s, a, b: s.pow(a, b), x, y, target=HOST)

    assert [int(a) % 2**64 for a in actual] == [pow(int(a), int(n), 2**64) for a, n in zip(x, y, strict=True)]


@parametrize_targets
@parametrize_ints
@pytest.mark.parametrize("name", ["eq", "ne", "lt", "le", "gt", "ge"])
def test_integers_compare_by_their_sign(name, dtype, target, rng):
    x, y = _pairs(dtype, rng)

    actual = run(lambda s, a, b: getattr(s, name)(a, b), x, y, target=target, result=bool_)

    names = {"eq": "equal", "ne": "not_equal", "lt": "less", "le": "less_equal", "gt": "greater", "ge": "greater_equal"}
    np.testing.assert_array_equal(actual, getattr(np, names[name])(x, y))


def test_every_comparison_with_nan_is_false_but_inequality():
    x, y = np.array([math.nan, 1.0, math.nan]), np.array([1.0, math.nan, math.nan])

    for name in ("eq", "lt", "le", "gt", "ge"):
        assert not run(lambda s, a, b, n=name: getattr(s, n)(a, b), x, y, target=HOST, result=bool_).any()
    assert run(lambda s, a, b: s.ne(a, b), x, y, target=HOST, result=bool_).all()


@parametrize_targets
def test_bools_are_logic(target):
    x, y = np.array([False, False, True, True]), np.array([False, True, False, True])

    for name, reference in (("bit_and", x & y), ("bit_or", x | y), ("bit_xor", x ^ y), ("maximum", x | y)):
        np.testing.assert_array_equal(run(lambda s, a, b, n=name: getattr(s, n)(a, b), x, y, target=target), reference)
    np.testing.assert_array_equal(run(lambda s, a: s.bit_not(a), x, target=target), ~x)
    np.testing.assert_array_equal(run(lambda s, a, b: s.select(a, b, a), x, y, target=target), np.where(x, y, x))


def _sources(dtype: DType, rng: np.random.Generator) -> np.ndarray:
    if dtype is bool_:
        return np.array([True, False, True])
    if dtype.kind == "int":
        return _pairs(dtype, rng)[0]
    return np.concatenate([rng.uniform(-120, 120, 200), [0.0, -0.0, 0.5, -0.5, 1e-3]]).astype(dtype.numpy)


@parametrize_targets
@pytest.mark.parametrize("to", DTYPES, ids=lambda t: t.name)
@pytest.mark.parametrize("source", DTYPES, ids=lambda t: t.name)
def test_casts_agree_with_numpy(source, to, target, rng):
    x = _sources(source, rng)
    if source.is_floating_point and to is u8:
        x = np.abs(x)  # C leaves negative numbers open

    actual = run(lambda s, a: s.cast(a, to), x, target=target, result=to)

    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(actual, x.astype(to.numpy))


@parametrize_targets
@pytest.mark.parametrize("dtype", [f32, f64], ids=lambda t: t.name)
def test_narrow_casts_wrap_and_nothing_is_poison(dtype, target):
    x = np.array([300.7, -129.2, 65535.9, -1.5, math.nan, math.inf, 1e30], dtype.numpy)

    narrow = run(lambda s, a: s.cast(a, i8), x, target=target, result=i8)
    twice = run(lambda s, a: s.sub(s.cast(a, i32), s.cast(a, i32)), x, target=target, result=i32)

    assert narrow[:4].tolist() == [44, 127, -1, -1]
    assert not twice.any()


@parametrize_targets
@pytest.mark.parametrize("dtype", [f16, bf16], ids=lambda t: t.name)
def test_all_half_width_floats_survive_registers_and_memory(dtype, target):
    x = np.arange(2**16, dtype=np.uint16).view(dtype.numpy)

    same = run(lambda s, a: a, x, target=target)
    wide = run(lambda s, a: s.cast(a, f32), x, target=target, result=f32)

    np.testing.assert_array_equal(wide, x.astype(np.float32))
    numbers = ~np.isnan(wide)
    np.testing.assert_array_equal(same.view(np.uint16)[numbers], x.view(np.uint16)[numbers])
    assert np.isnan(same[~numbers].astype(np.float32)).all()


@parametrize_targets
@pytest.mark.parametrize("dtype", [f16, bf16], ids=lambda t: t.name)
@pytest.mark.parametrize("source", [f32, f64], ids=lambda t: t.name)
def test_rounding_to_half_width_is_to_nearest_even(source, dtype, target, rng):
    with np.errstate(all="ignore"):
        halves = np.arange(2**16, dtype=np.uint16).view(dtype.numpy).astype(source.numpy)
    halves = np.sort(halves[np.isfinite(halves)])
    ties = halves[1:] / 2 + halves[:-1] / 2
    x = np.concatenate([ties, np.nextafter(ties, np.inf), np.nextafter(ties, -np.inf), [math.inf, -math.inf, math.nan]])
    x = np.concatenate([x, [65519.9, 65520.0, 1e-8, -1e-8, 3.3e38]]).astype(source.numpy)

    actual = run(lambda s, a: s.cast(a, dtype), x, target=target, result=dtype)

    with np.errstate(all="ignore"):
        # ml_dtypes, as PyTorch, goes from f64 to bf16 by f32
        expected = x.astype(np.float32).astype(dtype.numpy) if dtype is bf16 else x.astype(dtype.numpy)
    np.testing.assert_array_equal(actual.astype(np.float32), expected.astype(np.float32))


def test_a_cast_to_half_width_rounds_in_the_register():
    x = np.array([1.0009], np.float32)

    for dtype in (f16, bf16):
        wide = run(lambda s, a, t=dtype: s.cast(s.cast(a, t), f32), x, target=HOST)

        assert wide[0] == np.float32(x.astype(dtype.numpy)[0])


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.name)
def test_constants_are_rounded_to_their_dtype(dtype):
    x = np.zeros(3, dtype.numpy)
    endless = [math.inf, -math.inf, math.nan] if dtype.is_floating_point else []

    for value in (1.0, -0.0, 0.1, 1e-45, 3, True, *endless):
        actual = run(lambda s, a, v=value: s.const(v, a), x, target=HOST)

        np.testing.assert_array_equal(actual.astype(float), np.full(3, value).astype(dtype.numpy).astype(float))


@pytest.mark.parametrize("width", [1, 8])
def test_a_scalar_is_splat_over_the_lanes(width):
    x = np.arange(16, dtype=np.int64)

    def body(s, a):
        one = LlvmScalars(s.builder, 1).constant(5, i64)
        return s.add(a, s.splat(one.value, i64))

    np.testing.assert_array_equal(run(body, x, target=HOST, width=width), x + 5)


def test_half_width_arithmetic_is_rounded_once_where_it_is_stored():
    x = np.array([1.0, 2.0, 1000.0], ml_dtypes.bfloat16)

    actual = run(lambda s, a: s.fma(s.sin(a), s.exp(s.neg(a)), a), x, target=HOST)

    wide = x.astype(np.float32)
    expected = (np.sin(wide) * np.exp(-wide) + wide).astype(ml_dtypes.bfloat16)
    assert from_numpy(actual.dtype) is bf16
    np.testing.assert_array_equal(actual, expected)
