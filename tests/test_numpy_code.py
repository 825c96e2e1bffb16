"""Functions written with NumPy on ndarrays: compiled, they give what NumPy gives, dtypes and written arguments too."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy_oracle import assert_same, check, data

import tjit
import tjit.nn.functional as F
from tjit.errors import CaptureError, DimensionError, TjitError, TypeRuleError

FLOATS = ("float32", "float64")
NUMBERS = ("int32", "float32", "float64", "complex128")
COMPLEX = ("complex64", "complex128")


# -- ufuncs ------------------------------------------------------------------------------------------------------------

UNARY = (
    np.absolute, np.arctan, np.arcsinh, np.cbrt, np.ceil, np.cos, np.cosh, np.deg2rad, np.degrees, np.exp, np.exp2,
    np.expm1, np.fabs, np.floor, np.isfinite, np.isinf, np.isnan, np.logical_not, np.negative, np.positive,
    np.rad2deg, np.radians, np.reciprocal, np.rint, np.sign, np.signbit, np.sin, np.sinh, np.square,
    np.tan, np.tanh, np.trunc, np.conjugate,
)  # fmt: skip
POSITIVE = (np.log, np.log2, np.log10, np.log1p, np.sqrt, np.arcsin, np.arccos, np.arctanh)
BINARY = (
    np.add, np.subtract, np.multiply, np.divide, np.floor_divide, np.remainder, np.fmod, np.maximum, np.minimum,
    np.fmax, np.fmin, np.arctan2, np.hypot, np.copysign, np.logaddexp, np.logaddexp2, np.equal, np.not_equal, np.less,
    np.less_equal, np.greater, np.greater_equal, np.logical_and, np.logical_or, np.logical_xor, np.float_power,
    np.heaviside,
)  # fmt: skip
BITS = (np.bitwise_and, np.bitwise_or, np.bitwise_xor, np.left_shift, np.right_shift)


def has_loop(ufunc: np.ufunc, *kinds: Any) -> bool:
    try:
        found = ufunc.resolve_dtypes((*map(np.dtype, kinds), *(None,) * ufunc.nout))
    except TypeError:
        return False
    return all(d.kind in "bifc" or d == np.uint8 for d in found)


PAIRS = [("float64", "float64"), ("float32", "int64"), ("int32", "int64"), ("uint8", "int8"), ("bool", "float32")]
OF_BITS = [("int32", "int32"), ("uint8", "int64"), ("bool", "bool")]


def operands(ufunc: np.ufunc, kinds: tuple[str, ...]) -> list[np.ndarray]:
    arrays = [data(kind, (3, 4), seed) for seed, kind in enumerate(kinds)]
    if ufunc in POSITIVE or ufunc in BITS:
        arrays = [np.abs(a) if a.dtype != bool else a for a in arrays]
    if ufunc in (np.arcsin, np.arccos, np.arctanh) and arrays[0].dtype.kind == "i":
        arrays = [np.zeros_like(arrays[0])]
    return [a // 2 + 1 for a in arrays] if ufunc in BITS[3:] and arrays[0].dtype != bool else arrays


@pytest.mark.parametrize("ufunc", [*UNARY, *POSITIVE, *BINARY, *BITS], ids=lambda f: f.__name__)
def test_ufuncs(ufunc):
    every = [(d,) for d in ("int32", "float32", "float64")] if ufunc.nin == 1 else OF_BITS if ufunc in BITS else PAIRS
    calls = [operands(ufunc, kinds) for kinds in every if has_loop(ufunc, *kinds)]

    check(
        lambda *xs: [ufunc(*xs[i : i + ufunc.nin]) for i in range(0, len(xs), ufunc.nin)],
        *(a for c in calls for a in c),
    )


COMPLEX_UFUNCS = (
    np.absolute, np.add, np.subtract, np.multiply, np.divide, np.exp, np.log, np.sqrt, np.square, np.sin, np.cos,
    np.tan, np.sinh, np.cosh, np.tanh, np.reciprocal, np.negative, np.conjugate, np.equal, np.not_equal, np.less,
    np.greater_equal, np.isnan, np.isfinite, np.sign, np.power, np.angle, np.real, np.imag,
)  # fmt: skip


@pytest.mark.parametrize("dtype", COMPLEX)
@pytest.mark.parametrize("function", COMPLEX_UFUNCS, ids=lambda f: f.__name__)
def test_functions_of_complex_numbers(function, dtype):
    count = getattr(function, "nin", 1)

    check(lambda *xs: function(*xs), *(data(dtype, (3, 4), seed) for seed in range(count)))


def test_complex_formulas_are_stable():
    wide = np.array([3e200 + 4e200j, 1e-200 - 2e-200j, 0j, -1 + 0j, -4 - 0.0j, 2j])

    check(lambda z: (np.abs(z), np.sqrt(z), z / (1e200 + 1e200j), (1 + 2j) / (z + 1e-300)), wide)
    check(lambda z, w: z / w, wide, np.array([1e250 + 1e250j, 1e-250j, 1.0, 1j, 2 + 1e-300j, -3e-200 + 1j]))


# -- expressions -------------------------------------------------------------------------------------------------------

A = (4, 5)
EXPRESSIONS: dict[str, Callable[[Any], Any]] = {
    "python numbers are weak": lambda x: (x + 1, 2 * x, x - True, 3 - x),
    "floats are weak": lambda x: (x + 1.5, x * 2.0, x / 3.0),
    "np scalars are strong": lambda x: (x + np.float64(1.5), x * np.int64(3), x + np.float32(0.5)),
    "elements are strong": lambda x: (x * x[0, 0], x + x.sum(), x[1, 2] / 2),
    "division": lambda x: (x / 2, 2 / x, x / x[0], 1.0 / x),
    "powers": lambda x: (x**2, x**3, x**0, np.power(x, 2), x**1),
    "comparisons": lambda x: (x == x[0], x != 1, x == 3),
    "sums": lambda x: (x.sum(), x.sum(0), x.sum(axis=1), x.sum(-1, keepdims=True), np.sum(x, axis=(0, 1))),
    "means": lambda x: (x.mean(), np.mean(x, axis=0), x.mean(axis=1, keepdims=True), np.average(x)),
    "spreads": lambda x: (x.std(), x.var(0), np.var(x, axis=1, ddof=1), np.std(x, axis=-1, keepdims=True)),
    "products": lambda x: (x.prod(), np.prod(x, axis=1)),
    "any and all": lambda x: (x.any(), x.all(0), np.any(x, axis=1), np.count_nonzero(x)),
    "cumulative": lambda x: (x.cumsum(), np.cumsum(x, axis=0), np.cumsum(x, 1), np.cumprod(x[:, :3], axis=1)),
    "sorting": lambda x: (np.sort(x.real), np.sort(x.real, axis=None), np.argsort(x.real, 0, kind="stable")),
    "median": lambda x: (np.median(x.real), np.median(x.real[:, :2], axis=1, keepdims=True)),
    "where in sums": lambda x: (np.sum(x, where=x != x[0, 0]), np.mean(x, axis=0, where=x != x[0, 0])),
    "initial": lambda x: (np.sum(x, initial=3), np.prod(x, axis=0, initial=2)),
    "dot": lambda x: (x @ x.T, np.dot(x, x[0]), x[0] @ x[1], np.inner(x, x), np.outer(x[0], x[1]), x.dot(x.T)),
    "tensordot": lambda x: (np.tensordot(x, x, 2), np.tensordot(x, x, ([1], [1])), np.einsum("ij,kj->ik", x, x)),
    "vdot and kron": lambda x: (np.vdot(x, x), np.kron(x[:2, :2], x[:2]), np.matmul(x, x.T)),
    "outer of ufuncs": lambda x: (np.add.outer(x[0], x[1]), np.multiply.outer(x, x[0])),
    "reduce": lambda x: (np.add.reduce(x), np.add.reduce(x, axis=1), np.multiply.reduce(x, axis=None)),
    "shapes": lambda x: (x.reshape(2, 10), x.reshape((5, -1)), np.reshape(x, -1), x.ravel(), x.flatten(), x.T),
    "fortran order": lambda x: (x.reshape(5, 4, order="F"), x.ravel("F")),
    "axes": lambda x: (x.transpose(1, 0), x.swapaxes(0, 1), np.moveaxis(x[None], 0, -1), np.expand_dims(x, (0, 2))),
    "squeeze": lambda x: (x[:, :1].squeeze(), np.squeeze(x[None], axis=0), x[:1, :1].squeeze()),
    "reversed": lambda x: (x[::-1], x[:, ::-2], np.flip(x), np.fliplr(x), np.flipud(x), np.rot90(x), x[3:0:-1, 2::-1]),
    "negative steps clip": lambda x: (x[10::-1], x[-2:-9:-1], x[1:3:-1], x[::-3], x[2:2:-1]),
    "joined": lambda x: (np.concatenate([x, x]), np.stack((x, x), axis=1), np.hstack([x, x]), np.vstack([x, x[0]])),
    "joined dtypes": lambda x: (
        np.concatenate([x, np.ones((1, 5))]),
        np.column_stack((x[:, 0], x)),
        np.append(x, x[0]),
    ),
    "split": lambda x: (np.split(x, 2), np.array_split(x, 3, axis=1), np.hsplit(x, [2])),
    "repeated": lambda x: (np.tile(x, 2), np.tile(x, (2, 1, 1)), np.repeat(x, 2), x.repeat(3, axis=1), np.roll(x, 1)),
    "repeated by counts": lambda x: np.repeat(x, [1, 0, 2, 1], axis=0),
    "rolled": lambda x: (np.roll(x, -2, axis=1), np.roll(x, (1, 2), axis=(0, 1))),
    "broadcast": lambda x: (np.broadcast_to(x, (2, 4, 5)), np.atleast_1d(x[0, 0]), np.atleast_2d(x[0])),
    "triangles": lambda x: (np.triu(x), np.tril(x, -1), np.diag(x), np.diag(x[0]), np.trace(x), x.diagonal(1)),
    "diff": lambda x: (np.diff(x), np.diff(x, axis=0), np.diff(x, n=2)),
    "slices": lambda x: (x[1:3], x[:, 1:], x[..., 0], x[None, 1], x[-1], x[1:100], x[5:], x[::2, 1::2], x[2, 3]),
    "positions": lambda x: (x[[0, 2]], x[:, np.array([1, 1, 3])], x[[0, 1], [2, 3]], x[np.arange(3), 1], x[-1, [0, 2]]),
    "positions apart": lambda x: (
        x[None][0, :, [1, 2]],
        x[[[0], [1]], [2, 3]],
        np.take(x, [0, 3], axis=1),
        x.take([1]),
    ),
    "masks of constants": lambda x: x[np.array([True, False, True, False])],
    "where": lambda x: (np.where(x == x[0], x, 0), np.where(x != 1, 1.5, x), np.where(x == 2, 1, 2)),
    "select": lambda x: np.select([x == x[0, 0], x == x[1, 1]], [x * 2, x * 3], default=7),
    "casts": lambda x: (x.astype(np.complex128), np.complex128(x), x.astype("complex64"), np.array(x, complex)),
    "copies": lambda x: (x.copy(), np.copy(x), np.array(x), np.asarray(x) + 0, np.ascontiguousarray(x) * 1),
    "attributes": lambda x: (x.shape, x.size, x.ndim, len(x), x.itemsize, x.nbytes, x.dtype == np.float32, x.shape[0]),
    "dtype attributes": lambda x: (np.zeros(3, dtype=x.dtype), np.zeros_like(x), np.ones_like(x, dtype=float)),
    "iteration": lambda x: [row.sum() for row in x] + [x[i, j] for i, j in zip(range(3), range(3), strict=True)],
    "numbers of the shape": lambda x: (x / x.shape[0], x.sum() / len(x), x * (x.size - 1)),
    "complex numbers": lambda x: (1j * x, x + 2j, (x * 1j).real, np.exp(1j * x / 9), abs(x + 1j), x / (1 + 2j)),
    "real and imag": lambda x: (x.real, x.imag, x.conj(), np.real(x), np.imag(x)),
    "norms": lambda x: (
        np.linalg.norm(x),
        np.linalg.norm(x, axis=1),
        np.linalg.norm(x[0], 1),
        np.linalg.norm(x, np.inf),
    ),
    "isclose": lambda x: (np.isclose(x, x + 1e-12), np.allclose(x, x), np.array_equal(x, x)),
    "padding": lambda x: (np.pad(x, 1), np.pad(x, ((0, 1), (2, 0)), mode="edge"), np.pad(x, 1, constant_values=2)),
    "0-d": lambda x: (x.sum() + 1, x[0, 0] * x[1, 1], -x[2, 2], x.max() if x.dtype.kind != "c" else x[0, 0]),
}
ORDERED: dict[str, Callable[[Any], Any]] = {
    "extremes": lambda x: (x.min(), x.max(0), np.min(x, axis=1), np.amax(x, -1, keepdims=True), np.ptp(x)),
    "extremes with initial": lambda x: (np.max(x, initial=3), np.min(x, axis=0, where=x > 0, initial=100)),
    "positions of extremes": lambda x: (x.argmin(), x.argmax(0), np.argmax(x, axis=1), np.argmin(x, -1)),
    "orders": lambda x: (x < 2, x >= x[0], x > 0.5, (x > 0) & (x < 3), ~(x > 0)),
    "clip": lambda x: (x.clip(-1, 2), np.clip(x, 0, None), np.clip(x, x[0], 5), np.minimum(x, 3), np.maximum(x, x[1])),
    "round": lambda x: (np.round(x), x.round(1), np.around(x, 2), np.floor(x), np.trunc(x), np.fix(x)),
    "maximum.reduce": lambda x: (np.maximum.reduce(x), np.minimum.reduce(x, axis=1), np.maximum.outer(x[0], x[1])),
    "integers of floats": lambda x: (x.astype(int), x.astype(np.int32), np.int64(x), x.astype(np.uint8) if 0 else 1),
    "floats of anything": lambda x: (x.astype(np.float32), np.float64(x), x.astype("f8"), np.float32(x[0, 0])),
    "bools of anything": lambda x: (x.astype(bool), np.bool_(x), x.astype(bool).sum()),
    "roots and logarithms": lambda x: (np.sqrt(x * x), np.log(x * x + 1), np.exp(-x * x), np.arctan2(x, 2)),
    "mean of comparisons": lambda x: ((x > 0).mean(), (x > 0).sum(), (x > 0).sum(axis=0), (x > 0) * x),
    "divmod": lambda x: (divmod(x, 3), np.divmod(x, 2), x % -3, x // -2, x // 2, x % 3),
    "signs": lambda x: (np.sign(x), np.abs(x), abs(x), np.copysign(1.0, x), np.signbit(x)),
    "python's functions": lambda x: (max(x[0, 0], x[1, 1]), min(x[0, 0], x[1, 0]), abs(x[2, 2]), sum(x)),
    "float and int": lambda x: (float(x[0, 0]) * x, int(x[1, 1]) + x, math.sqrt(x[0, 0] * x[0, 0] * 1.0) * x),
}


@pytest.mark.parametrize("dtype", NUMBERS)
@pytest.mark.parametrize("name", EXPRESSIONS)
def test_expressions(name, dtype):
    check(EXPRESSIONS[name], data(dtype, A))


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64"])
@pytest.mark.parametrize("name", ORDERED)
def test_expressions_of_real_numbers(name, dtype):
    check(ORDERED[name], data(dtype, A))


MIXED = [("float32", "float64"), ("int64", "float32"), ("int32", "float32"), ("bool", "int64"), ("uint8", "int8"),
         ("complex64", "float64"), ("complex64", "int64"), ("complex128", "float32"), ("float16", "float32"),
         ("float16", "int8")]  # fmt: skip


@pytest.mark.parametrize(("first", "second"), MIXED)
def test_promotion_of_two_arrays(first, second):
    x, y = data(first, A), data(second, A, 1)

    check(lambda x, y: (x + y, x * y, y - x * 2, x / y, np.where(x == y, x, y), np.concatenate([x, y])), x, y)
    check(lambda x, y: (x + y[0, 0], x[0, 0] * y, x.mean() * y, x == y, x @ y.T), x, y)


# -- writing -----------------------------------------------------------------------------------------------------------


def _slices(x):
    x[1:3] = 2
    x[:, 0] += x[:, 1]
    x[0] *= 3
    x[-1, ::2] = x[0, ::2]


def _reversed_slices(x):
    x[::-1] = x * 2
    x[0, ::-1] = np.arange(5)
    x[2, 3::-2] += 1


def _views(x):
    row = x[1]
    row[:] = row * 2
    column = x.T[0]
    column += 1
    flat = x.reshape(-1)
    flat[::3] = 0
    half = x[::-1]
    half[0] = 9
    return row.copy(), column.sum(), half[0]


def _views_see_writes(x):
    row, back = x[0], x[::-1]
    x[0] = 5
    x[3] += 1
    return row + 0, back + 0, x.T + 0


def _scalars_are_copies(x):
    t = x[0, 0]
    x[0, 0] = x[1, 1]
    x[1, 1] = t
    t += 1
    return t


def _out(x):
    np.add(x, x, out=x)
    np.multiply(x[0], 2, out=x[1])
    y = np.empty_like(x)
    np.subtract(x, 1, out=y)
    np.matmul(x[:, :4], x, out=y)
    x.sum(axis=0, out=y[0])
    return y


def _where_out(x):
    np.add(x, 10, out=x, where=x == x[0])
    np.copyto(x, 3, where=x == x[1, 1])
    np.maximum(x.real, 0, out=x.real)


def _augmented(x):
    x += 1
    x *= 2
    x -= x[0]
    x[1] += x[2]


def _filled(x):
    x.fill(3)
    y = np.zeros((3, 2))
    y[:] = 1
    y[1, :] = x[0, :2].real
    z = np.empty(4, dtype=x.dtype)
    for i in range(4):
        z[i] = i * x[0, i]
    return y, z


def _swap(x):
    x[0], x[1] = x[1].copy(), x[0].copy()
    x[[2, 3]] = x[[3, 2]]


def _positions(x):
    x[[0, 2], [1, 3]] = 7
    x[:, [4]] = x[:, [0]]
    x[np.arange(4), np.arange(4)] *= 2
    np.add.at(x, [0, 0, 1], 1)
    np.fill_diagonal(x, 1)


def _masks(x):
    x[x == x[0, 0]] = 5
    mask = x != x[1, 1]
    x[mask] = x[mask] * 2 + 1
    x[mask] += 1
    x[x == x[2, 2]] -= 3
    return x[mask].sum(), x[~mask].prod(), x[mask].mean()


def _row_masks(x):
    rows = x[:, 0] == x[1, 0]
    x[rows] = 1
    x[rows, 2] = 8
    x[~rows] = x[~rows] + x[~rows] * 2
    x[:, x[0] == 1] = 2


def _flat(x):
    x.flat[3] = 1
    x.ravel()[5] = 2
    return x.flat[4]


WRITES = (
    _slices, _reversed_slices, _views, _views_see_writes, _scalars_are_copies, _out, _where_out, _augmented, _filled,
    _swap, _positions, _masks, _row_masks, _flat,
)  # fmt: skip


@pytest.mark.parametrize("dtype", ["int64", "float32", "float64", "complex128"])
@pytest.mark.parametrize("fn", WRITES, ids=lambda f: f.__name__)
def test_writes(fn, dtype):
    check(fn, data(dtype, A))


@pytest.mark.parametrize("dtype", ["float64", "complex64"])
@pytest.mark.parametrize("fn", [_slices, _views, _augmented, _masks], ids=lambda f: f.__name__)
def test_writes_to_arrays_that_are_not_contiguous(fn, dtype):
    expected, given = (data(dtype, (8, 15))[::2, 1::3] for _ in range(2))
    fn(expected)

    tjit.compile(fn)(given)

    assert_same(given, expected, "argument")


def test_writes_convert_as_numpy_assigns():
    def fn(x, n):
        n[0] = 2.75
        n[1] = x[0] * 10
        n[2] = -1.5
        x[1] = n[1]
        n[3:5] = x[3:5] * 3

    check(fn, np.linspace(0.3, 2, 6), np.arange(6))


def test_parts_of_complex_arrays_are_written():
    def fn(z, x):
        z.real = x
        z.imag[1:] = 2
        z.real[0] += 1
        return z.real + z.imag

    check(fn, data("complex128", (4,)), data("float64", (4,)))


# -- creation ----------------------------------------------------------------------------------------------------------

CREATED: dict[str, Callable[[Any], Any]] = {
    "zeros": lambda x: (np.zeros(3), np.zeros((2, 3), int), np.zeros(x.shape, dtype=np.complex64), np.zeros(len(x))),
    "ones": lambda x: (np.ones((2, 2), np.float32), np.ones(4, bool), np.full(3, 7), np.full(2, 1j)),
    "full of values": lambda x: (np.full(3, x[0]), np.full_like(x, 2), np.full((2, 2), x.sum())),
    "ranges": lambda x: (np.arange(5), np.arange(2, 9, 3), np.arange(0.0, 1.0, 0.25), np.arange(3, dtype=np.float32)),
    "long ranges": lambda x: (np.arange(1000), np.arange(500, 0, -1), np.linspace(0, 1, 1001)),
    "linspace": lambda x: (np.linspace(0, 1, 5), np.linspace(1, 2, 3, endpoint=False)),
    "linspace with dtype": lambda x: np.linspace(-1, 1, 4, dtype=np.float32),
    "linspace of values": lambda x: np.linspace(x[0], x[1], 7),
    "linspace with step": lambda x: np.linspace(0, 3, 7, retstep=True),
    "eye": lambda x: (np.eye(3), np.eye(2, 4, 1), np.identity(3, dtype=int), np.tri(3), np.eye(3, dtype=complex)),
    "meshgrid": lambda x: (np.meshgrid(np.arange(3), x), np.meshgrid(x, x, indexing="ij"), np.indices((2, 3))),
    "mgrid": lambda x: (np.mgrid[0:2, 0:3] + x[0], np.ogrid[0:3][0] * x[0] if 0 else x[0]),
    "array of values": lambda x: (np.array([x[0], x[1], 3]), np.array([[x[0], 1.5], [2, x[1]]]), np.array([x, x])),
    "array of numbers": lambda x: (np.array([1, 2]) + x[:2], np.array([[1.5]]), np.array(3.0) * x, np.asarray([1, 2])),
    "complex of parts": lambda x: (np.zeros(3, complex) + x[:3], x[:, None] + 1j * x[None, :]),
    "fromfunction": lambda x: np.fromfunction(lambda i, j: i + 2 * j, (2, 3)),
    "written": lambda x: _written_creation(x),
}  # fmt: skip


def _written_creation(x):
    a = np.arange(5)
    a[0] = 9
    b = np.array([1.0, 2.0, 3.0])
    b += x[:3]
    b[1:] *= 2
    c = np.eye(3)
    c[1] = b
    return a, b, c


@pytest.mark.parametrize("dtype", ["float64", "float32", "int64"])
@pytest.mark.parametrize("name", CREATED)
def test_creation(name, dtype):
    check(CREATED[name], data(dtype, (5,)))


# -- whole functions ---------------------------------------------------------------------------------------------------


def _jacobi(A, B):
    for _ in range(4):
        B[1:-1] = 0.33333 * (A[:-2] + A[1:-1] + A[2:])
        A[1:-1] = 0.33333 * (B[:-2] + B[1:-1] + B[2:])


def _durbin(r):
    y = np.empty_like(r)
    alpha, beta = -r[0], 1.0
    y[0] = -r[0]
    for k in range(1, r.shape[0]):
        beta *= 1.0 - alpha * alpha
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        y[:k] += alpha * y[k - 1 :: -1]
        y[k] = alpha
    return y


def _mandelbrot(c, Z, N):
    for n in range(6):
        inside = np.less(abs(Z), 2.0)
        N[inside] = n
        Z[inside] = Z[inside] ** 2 + c[inside]
    N[N == 5] = 0
    return Z, N


def _gramschmidt(A):
    Q, R = np.zeros_like(A), np.zeros((A.shape[1], A.shape[1]), dtype=A.dtype)
    for k in range(A.shape[1]):
        R[k, k] = np.sqrt(np.dot(A[:, k], A[:, k]))
        Q[:, k] = A[:, k] / R[k, k]
        for j in range(k + 1, A.shape[1]):
            R[k, j] = np.dot(Q[:, k], A[:, j])
            A[:, j] -= Q[:, k] * R[k, j]
    return Q, R


def _nbody(pos, vel, mass):
    for _ in range(2):
        d = pos[None, :, :] - pos[:, None, :]
        inv = (np.sum(d**2, axis=-1) + 0.01) ** -1.5
        vel += 0.01 * np.einsum("ijk,ij,j->ik", d, inv, mass)
        pos += 0.01 * vel
    return 0.5 * np.sum(mass * np.sum(vel**2, axis=1))


def _softmax(x):
    e = np.exp(x - np.max(x, axis=-1, keepdims=True))
    return e / np.sum(e, axis=-1, keepdims=True)


def _fourier(x):
    n = x.shape[0]
    k = np.arange(n)
    return np.exp(-2j * np.pi * k[:, None] * k / n) @ x


def _floyd(path):
    for k in range(path.shape[0]):
        path[:] = np.minimum(path, np.add.outer(path[:, k], path[k, :]))
    return path


def _normalised(x):
    return (x - x.mean(axis=0)) / x.std(axis=0, ddof=1), np.linalg.norm(x, axis=1)


@pytest.mark.parametrize("dtype", FLOATS)
def test_kernels(dtype):
    check(_jacobi, data(dtype, (9,)), data(dtype, (9,), 1))
    check(_durbin, data(dtype, (6,)) / 9)
    check(_gramschmidt, data(dtype, (6, 4)))
    check(_nbody, data(dtype, (4, 3)), data(dtype, (4, 3), 1), np.abs(data(dtype, (4,), 2)))
    check(_softmax, data(dtype, (3, 4)))
    check(_floyd, np.abs(data(dtype, (5, 5))))
    check(_normalised, data(dtype, (5, 3)))


@pytest.mark.parametrize("dtype", COMPLEX)
def test_complex_kernels(dtype):
    check(_mandelbrot, data(dtype, (4, 5)), np.zeros((4, 5), dtype), np.zeros((4, 5), np.int64))
    check(_fourier, data(dtype, (8,)))


def test_returned_arguments_are_the_arguments():
    x, z = np.ones(3), np.ones(3, complex)

    same, also, again = tjit.compile(lambda x, z: (x, z, np.add(x, 1, out=x)))(x, z)

    assert same is x
    assert also is z
    assert again is x
    assert x.tolist() == [2, 2, 2]


def test_scalars_repeat_over_calls():
    fn = tjit.compile(lambda x: (x.sum(), x + 1j, x[0] > 0))
    x = np.arange(1.0, 4.0)

    for scale in range(1, 6):
        total, shifted, positive = fn(x * scale)

        assert type(total) is np.float64
        assert total == 6.0 * scale
        assert shifted.tolist() == (x * scale + 1j).tolist()
        assert type(positive) is np.bool_


WEIGHTS = np.array([1.0, 2.0, 3.0])
PHASES = np.exp(1j * np.arange(3))
TOTAL = np.zeros(3)


def test_arrays_from_outside():
    check(lambda x: (x * WEIGHTS, WEIGHTS @ x, WEIGHTS - x, np.dot(x, WEIGHTS), PHASES * x, x + WEIGHTS[1]), np.ones(3))


def test_an_array_from_outside_is_read_again_at_each_call():
    weights = np.array([1.0, 2.0])
    fn = tjit.compile(lambda x: x * weights)

    assert fn(np.ones(2)).tolist() == [1, 2]
    weights[0] = 5
    assert fn(np.ones(2)).tolist() == [5, 2]


def test_an_array_from_outside_is_written():
    total = np.zeros(2)

    def fn(x):
        np.add(total, x, out=total)
        return x * 2

    compiled = tjit.compile(fn)
    for _ in range(3):
        compiled(np.array([1.0, 2.0]))

    assert total.tolist() == [3, 6]


def test_functions_of_tjit_on_ndarrays_keep_their_meaning():
    fn = tjit.compile(lambda x: (tjit.exp(x), tjit.nn.functional.softmax(x, 0), x + tjit.ones(3)))
    x = np.arange(3, dtype=np.float32)

    exp, soft, total = fn(x)

    assert exp.dtype == soft.dtype == total.dtype == np.float32
    np.testing.assert_allclose(soft, _softmax(x), rtol=1e-6)


def test_a_float_that_changes_is_weak():
    fn = tjit.compile(lambda x, s: (x * s, s * x + 1, x / s, np.multiply(s, x)))
    x = np.ones(3, np.float32)

    for s in (0.5, 0.25, 2.0, 8.0):
        for result, wanted in zip(fn(x, s), (x * s, s * x + 1, x / s, np.multiply(s, x)), strict=True):
            assert_same(result, wanted, str(s))


def test_shapes_that_change():
    fn = tjit.compile(lambda x: (np.zeros(len(x)), x.mean(), x[::-1] / x.shape[0], np.arange(x.size) * x, x[1:-1]))

    for n in (5, 6, 7, 8, 3):
        x = np.linspace(1.0, 2.0, n)
        wanted = (np.zeros(n), x.mean(), x[::-1] / n, np.arange(n) * x, x[1:-1])
        for found, want in zip(fn(x), wanted, strict=True):
            assert_same(found, want, str(n))


# -- errors ------------------------------------------------------------------------------------------------------------

REFUSED: list[tuple[Callable[[Any], Any], type[Exception], str]] = [
    (lambda x: x[x > 0], CaptureError, "a bool mask selects"),
    (lambda x: np.sort(x * 1j), CaptureError, "np.sort of complex numbers has no counterpart in tjit"),
    (lambda x: np.nonzero(x), CaptureError, "np.nonzero: its result's shape depends on data"),
    (lambda x: np.unique(x), CaptureError, "np.unique: its result's shape depends on data"),
    (lambda x: np.where(x > 0), CaptureError, "np.nonzero: its result's shape depends on data"),
    (lambda x: x[x > 0] + x[x > 1], CaptureError, "what the same mask selects"),
    (lambda x: x[x > 0].shape, CaptureError, "depends on data"),
    (lambda x: len(x[x > 0]), CaptureError, "depends on data"),
    (lambda x: 3.0 in x, CaptureError, "asks for a Python bool"),
    (lambda x: x.view(np.int64), CaptureError, "reads memory as another type"),
    (lambda x: x[5], DimensionError, "index 5 is out of bounds"),
    (lambda x: x[0, 0], DimensionError, "too many indices"),
    (lambda x: x + np.ones(3), TypeRuleError, "broadcast"),
    (lambda x: np.add(x, 1j, out=x), TypeRuleError, "cannot cast the result from complex128 to float64"),
    (lambda x: np.linalg.svd(x[None]), CaptureError, "np.linalg.svd has no counterpart in tjit"),
    (lambda x: np.frexp(x), CaptureError, "np.frexp has no counterpart in tjit"),
    (lambda x: f"{x[0]:.2f}", CaptureError, "has no Python value"),
]  # fmt: skip


@pytest.mark.parametrize(("fn", "error", "message"), REFUSED, ids=[m for _, _, m in REFUSED])
def test_what_cannot_be_captured_says_so(fn, error, message):
    with pytest.raises(error, match=message) as raised:
        tjit.compile(fn)(np.linspace(-1, 2, 4))

    assert isinstance(raised.value, TjitError)


def test_functions_without_arrays_among_their_arguments():
    def fn(n, scale):
        x = np.linspace(0.0, scale, n)
        z = np.zeros(n, dtype=np.complex64)
        z[x > 0.5] += 1j
        return x, z, x.sum(), n

    check(fn, 5, 2.0)


def test_bits_of_python_numbers():
    def crc(data):
        total = 0xFFFF
        for byte in data:
            total ^= int(byte)
            total = np.where(total & 1, (total >> 1) ^ 0x8408, total >> 1)
        return int(total) ^ 0xFFFF

    check(crc, np.arange(3, dtype=np.uint8))


def test_loops_return_python_numbers():
    def count(x):
        n = 0
        while x[0] < 100:
            x = x * 2
            n += 1
        return n, x

    check(count, np.array([1.5, 2.0]))


def test_methods_of_tensors_that_write_in_place_write_the_array(rng):
    x = rng.standard_normal((3, 4)).astype(np.float32)
    given, row = x.copy(), x.copy()

    total = tjit.compile(lambda x: x.cumsum_(0))(given)
    tjit.compile(lambda x: x[1].mul_(2))(row)

    np.testing.assert_allclose(given, x.cumsum(0), rtol=1e-6)
    np.testing.assert_array_equal(total, given)
    np.testing.assert_array_equal(row, x * np.array([[1], [2], [1]], np.float32))
    with pytest.raises(TypeRuleError, match="result type f32 can't be cast to the type written to, i32"):
        tjit.compile(lambda x: x.div_(2))(np.ones(3, np.int32))


def test_a_masked_read_that_is_returned_is_refused_at_its_line():
    def positive(x):
        y = x * 2
        return y[y > 0]

    with pytest.raises(CaptureError, match=r"return y\[y > 0\]"):
        tjit.compile(positive)(np.ones(3))


def test_losses_take_arrays_as_they_do_outside():
    logits: Any = np.linspace(-1, 1, 6, dtype=np.float32).reshape(2, 3)
    target: Any = np.array([0, 2])

    found = tjit.compile(F.cross_entropy)(logits, target)

    np.testing.assert_allclose(np.asarray(found), np.asarray(F.cross_entropy(logits, target)), rtol=1e-6)
