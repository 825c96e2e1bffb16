"""The error function and its inverse in NumPy, the references of `erf`, `erfc` and `erfinv`: at most 4 ulp in f64.

`erfinv` is there over scalars too.

Source: W. J. Cody (1969), "Rational Chebyshev approximations for the error function", Mathematics of Computation 23,
with the coefficients of his routine CALERF in SPECFUN (netlib.org/specfun/erf).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

__all__ = ["erf_reference", "erfc_reference", "erfinv_by_steps", "erfinv_reference"]

# erf(x) = x P(x*x) / Q(x*x) for |x| <= 0.46875; highest power first, as in the two others
_SMALL_P = (
    1.85777706184603153e-1, 3.16112374387056560e0, 1.13864154151050156e2, 3.77485237685302021e2,
    3.20937758913846947e3,
)  # fmt: skip
_SMALL_Q = (1.0, 2.36012909523441209e1, 2.44024637934444173e2, 1.28261652607737228e3, 2.84423683343917062e3)
# erfc(x) = exp(-x*x) P(x) / Q(x) for 0.46875 < x <= 4
_MIDDLE_P = (
    2.15311535474403846e-8, 5.64188496988670089e-1, 8.88314979438837594e0, 6.61191906371416295e1,
    2.98635138197400131e2, 8.81952221241769090e2, 1.71204761263407058e3, 2.05107837782607147e3,
    1.23033935479799725e3,
)  # fmt: skip
_MIDDLE_Q = (
    1.0, 1.57449261107098347e1, 1.17693950891312499e2, 5.37181101862009858e2, 1.62138957456669019e3,
    3.29079923573345963e3, 4.36261909014324716e3, 3.43936767414372164e3, 1.23033935480374942e3,
)  # fmt: skip
# erfc(x) = exp(-x*x) / x (1/sqrt(pi) - z P(z) / Q(z)) with z = 1/(x*x), for x > 4
_LARGE_P = (
    1.63153871373020978e-2, 3.05326634961232344e-1, 3.60344899949804439e-1, 1.25781726111229246e-1,
    1.60837851487422766e-2, 6.58749161529837803e-4,
)  # fmt: skip
_LARGE_Q = (
    1.0, 2.56852019228982242e0, 1.87295284992346047e0, 5.27905102951428412e-1, 6.05183413124413191e-2,
    2.33520497626869185e-3,
)  # fmt: skip
_ROOT_PI_INVERSE = 5.6418958354775628695e-1


def _polynomial(coefficients: tuple[float, ...], x: Any) -> Any:
    y = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        y = y * x + c
    return y


def _erf_small(x: Any) -> Any:
    xx = x * x
    return x * _polynomial(_SMALL_P, xx) / _polynomial(_SMALL_Q, xx)


def _erfc_positive(a: Any) -> Any:
    """erfc for a > 0.46875."""
    z = 1 / np.maximum(a * a, 16.0)
    tail = (_ROOT_PI_INVERSE - z * _polynomial(_LARGE_P, z) / _polynomial(_LARGE_Q, z)) / a
    near = np.minimum(a, 4.0)
    scaled = np.where(a > 4, tail, _polynomial(_MIDDLE_P, near) / _polynomial(_MIDDLE_Q, near))
    # exp(-a*a) with a = c + r, c a multiple of 1/16: c*c is exact, so nothing is lost in the large exponent
    c = np.trunc(np.minimum(a, 30.0) * 16) / 16
    return np.where(a > 30, 0.0, np.exp(-c * c) * np.exp(-(a - c) * (a + c)) * scaled)


def erf_reference(x: Any) -> Any:
    """erf of a float array, computed in f64."""
    wide = np.asarray(x, np.float64)
    a = np.abs(wide)
    y = np.where(a <= 0.46875, _erf_small(np.minimum(a, 0.5)), 1 - _erfc_positive(np.maximum(a, 0.46875)))
    return np.copysign(y, wide).astype(x.dtype)


def erfc_reference(x: Any) -> Any:
    """erfc of a float array, computed in f64."""
    wide = np.asarray(x, np.float64)
    a = np.abs(wide)
    tail = _erfc_positive(np.maximum(a, 0.46875))
    y = np.where(a <= 0.46875, 1 - _erf_small(np.where(a <= 0.5, wide, 0.5)), np.where(wide < 0, 2 - tail, tail))
    return np.where(np.isnan(wide), wide, y).astype(x.dtype)


# starting values of erfinv: a P(a*a) / Q(a*a) for a <= 0.7; P(z) / Q(z) with z = sqrt(-log((1 - a) / 2)) above
_ERFINV_NEAR = (
    (-0.140543331, 0.914624893, -1.645349621, 0.886226899),
    (0.012229801, -0.329097515, 1.442710462, -2.118377725, 1.0),
)
_ERFINV_TAIL = ((1.641345311, 3.429567803, -1.624906493, -1.970840454), (1.637067800, 3.543889200, 1.0))


def erfinv_reference(x: Any) -> Any:
    """The inverse of erf of a float array, computed in f64."""
    wide = np.asarray(x, np.float64)
    a = np.abs(wide)
    rest, zz = 1 - a, a * a
    z = np.sqrt(-np.log(rest / 2))
    in_tail = a > 0.7
    near = a * _polynomial(_ERFINV_NEAR[0], zz) / _polynomial(_ERFINV_NEAR[1], zz)
    y = np.where(in_tail, _polynomial(_ERFINV_TAIL[0], z) / _polynomial(_ERFINV_TAIL[1], z), near)
    for _ in range(2):
        excess = np.where(in_tail, rest - erfc_reference(y), erf_reference(y) - a)
        step = excess / (2 * _ROOT_PI_INVERSE * np.exp(-y * y))
        y = y - step / (1 + y * step)
    y = np.where(a == 1, np.inf, np.where(a > 1, np.nan, y))
    return np.copysign(y, wide).astype(x.dtype)


def erfinv_by_steps(b: Any, x: Any, steps: int) -> Any:
    """The inverse of erf over `Scalars` that have no better way: one step gives half of f64's digits, two all.

    Source: the rational starting values of PyTorch's calc_erfinv, then Halley's method, on erfc in the tail.
    """

    def c(value: float) -> Any:
        return b.const(value, x)

    def polynomial(coefficients: tuple[float, ...], z: Any) -> Any:
        y = c(coefficients[0])
        for coefficient in coefficients[1:]:
            y = b.fma(y, z, c(coefficient))
        return y

    a = b.abs(x)
    rest = b.sub(c(1.0), a)  # exact for a >= 1/2
    zz = b.mul(a, a)
    near = b.div(b.mul(a, polynomial(_ERFINV_NEAR[0], zz)), polynomial(_ERFINV_NEAR[1], zz))
    z = b.sqrt(b.neg(b.log(b.mul(rest, c(0.5)))))
    in_tail = b.gt(a, c(0.7))
    y = b.select(in_tail, b.div(polynomial(_ERFINV_TAIL[0], z), polynomial(_ERFINV_TAIL[1], z)), near)
    # the starting values are within 3e-5, and a step takes the third power of that
    for _ in range(steps):
        excess = b.select(in_tail, b.sub(rest, b.erfc(y)), b.sub(b.erf(y), a))
        step = b.div(excess, b.mul(c(2 / math.sqrt(math.pi)), b.exp(b.neg(b.mul(y, y)))))
        y = b.sub(y, b.div(step, b.add(c(1.0), b.mul(y, step))))
    y = b.select(b.eq(a, c(1.0)), c(math.inf), y)
    return b.copysign(b.select(b.gt(a, c(1.0)), c(math.nan), y), x)
