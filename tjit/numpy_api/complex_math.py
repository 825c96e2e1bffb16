"""Complex arithmetic on pairs of real tensors, with the formulas that NumPy's C code uses.

A pair is (real part, imaginary part); the latter is None where an operand is real, which saves the products with 0.
Parts are tensors of one float dtype, or Python floats.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from tjit.ops.public import FUNCTIONS

__all__ = ["COMPLEX", "COMPLEX_PREDICATES", "multiply"]

Pair = tuple[Any, Any]

_f = FUNCTIONS.__getitem__


def _zero(x: Any) -> Any:
    return 0.0 if x is None else x


def add(a: Pair, b: Pair) -> Pair:
    return a[0] + b[0], _zero(a[1]) + _zero(b[1])


def subtract(a: Pair, b: Pair) -> Pair:
    return a[0] - b[0], _zero(a[1]) - _zero(b[1])


def multiply(a: Pair, b: Pair) -> Pair:
    if a[1] is None:
        return a[0] * b[0], a[0] * _zero(b[1])
    if b[1] is None:
        return a[0] * b[0], a[1] * b[0]
    return a[0] * b[0] - a[1] * b[1], a[0] * b[1] + a[1] * b[0]


def divide(a: Pair, b: Pair) -> Pair:
    """Smith's method: no overflow in |b|^2."""
    if b[1] is None:
        return a[0] / b[0], _zero(a[1]) / b[0]
    if not hasattr(b[0], "shape") and not hasattr(b[1], "shape"):
        return _divide_by(a, complex(b[0], b[1]))
    re, im = _pair(b)
    wide = _f("abs")(re) >= _f("abs")(im)
    ratio = _where(wide, im, re) / _where(wide, re, im)
    ratio = _where((re == 0) & (im == 0), 0.0, ratio)  # 0 in the divisor: the quotients below are inf or nan
    scale = 1.0 / _where(wide, re + im * ratio, im + re * ratio)
    x, y = a[0], _zero(a[1])
    return _where(wide, x + y * ratio, x * ratio + y) * scale, _where(wide, y - x * ratio, y * ratio - x) * scale


def _divide_by(a: Pair, b: complex) -> Pair:
    x, y = a[0], _zero(a[1])
    if abs(b.real) >= abs(b.imag):
        ratio = b.imag / b.real if b else 0.0
        divisor = b.real + b.imag * ratio
        scale = 1.0 / divisor if divisor else math.inf
        return (x + y * ratio) * scale, (y - x * ratio) * scale
    ratio = b.real / b.imag
    scale = 1.0 / (b.imag + b.real * ratio)
    return (x * ratio + y) * scale, (y * ratio - x) * scale


def _pair(a: Pair) -> Pair:
    """Both parts as tensors."""
    tensor = next(p for p in a if hasattr(p, "shape"))
    re, im = (p if hasattr(p, "shape") else _f("full_like")(tensor, _zero(p)) for p in a)
    return re, im


def _tensors(a: Pair) -> Pair:
    return _pair(a) if any(hasattr(p, "shape") for p in a) else (a[0], _zero(a[1]))


def _where(condition: Any, a: Any, b: Any) -> Any:
    return _f("where")(condition, a, b)


def absolute(a: Pair) -> Any:
    return _f("hypot")(*_pair(a))


def angle(a: Pair) -> Any:
    re, im = _pair(a)
    return _f("atan2")(im, re)


def exp(a: Pair) -> Pair:
    size, im = _f("exp")(a[0]), _zero(a[1])
    if not hasattr(im, "shape"):
        return size * math.cos(im), size * math.sin(im)
    return size * _f("cos")(im), size * _f("sin")(im)


def log(a: Pair) -> Pair:
    return _f("log")(absolute(a)), angle(a)


def sqrt(a: Pair) -> Pair:
    re, im = _pair(a)
    t = _f("sqrt")((_f("abs")(re) + absolute(a)) * 0.5)
    other = _where(t == 0, 0.0, _f("abs")(im) / _where(t == 0, 1.0, 2.0 * t))
    return _where(re >= 0, t, other), _f("copysign")(_where(re >= 0, other, t), im)


def square(a: Pair) -> Pair:
    re, im = _pair(a)
    return re * re - im * im, re * im + im * re


def power(a: Pair, b: Pair) -> Pair:
    n = _whole(b)
    if n is not None and abs(n) < 100:
        return _integer_power(a, n)
    return _general_power(_pair(a), b)


def _whole(b: Pair) -> int | None:
    """The exponent where it is one known whole number."""
    if hasattr(b[0], "shape") or hasattr(b[1], "shape") or b[1] or b[0] != int(b[0]):
        return None
    return int(b[0])


def _integer_power(a: Pair, n: int) -> Pair:
    if n < 0:
        return divide((1.0, None), _integer_power(a, -n))
    if n == 0:
        one = _pair((a[0] * 0.0, None))
        return _f("full_like")(one[0], 1.0), one[1]
    result: Pair | None = None
    while n:
        if n & 1:
            result = a if result is None else multiply(result, a)
        a, n = (multiply(a, a) if n > 1 else a), n >> 1
    assert result is not None
    return result[0], _zero(result[1])


def _general_power(a: Pair, b: Pair) -> Pair:
    re, im = exp(multiply(b, log(a)))
    zero = (a[0] == 0) & (a[1] == 0)  # 0 ** b is 0 for Re b > 0
    return _where(zero, 0.0, re), _where(zero, 0.0, im)


def sin(a: Pair) -> Pair:
    re, im = _pair(a)
    return _f("sin")(re) * _f("cosh")(im), _f("cos")(re) * _f("sinh")(im)


def cos(a: Pair) -> Pair:
    re, im = _pair(a)
    return _f("cos")(re) * _f("cosh")(im), -(_f("sin")(re) * _f("sinh")(im))


def sinh(a: Pair) -> Pair:
    re, im = _pair(a)
    return _f("sinh")(re) * _f("cos")(im), _f("cosh")(re) * _f("sin")(im)


def cosh(a: Pair) -> Pair:
    re, im = _pair(a)
    return _f("cosh")(re) * _f("cos")(im), _f("sinh")(re) * _f("sin")(im)


def tanh(a: Pair) -> Pair:
    """(sinh 2x + i sin 2y) / (cosh 2x + cos 2y), divided by e^(2|x|) so that nothing overflows."""
    re, im = _pair(a)
    t, s = _f("tanh")(re), _f("tan")(im)
    scale = 1.0 + (t * s) * (t * s)
    return t * (1.0 + s * s) / scale, s * (1.0 - t * t) / scale


def tan(a: Pair) -> Pair:
    re, im = tanh((-_zero(_pair(a)[1]), a[0]))  # tan z = -i tanh(iz)
    return im, -re


def reciprocal(a: Pair) -> Pair:
    return divide((1.0, None), a)


def negative(a: Pair) -> Pair:
    return -a[0], -a[1]


def conjugate(a: Pair) -> Pair:
    return a[0], -a[1]


def sign(a: Pair) -> Pair:
    re, im = _pair(a)
    size = absolute(a)
    safe = _where(size == 0, 1.0, size)
    return re / safe, im / safe


def _same(a: Pair, b: Pair) -> Any:
    return _both(_f("logical_and"), a[0] == b[0], _zero(a[1]) == _zero(b[1]))


def _differ(a: Pair, b: Pair) -> Any:
    return _both(_f("logical_or"), a[0] != b[0], _zero(a[1]) != _zero(b[1]))


def _both(combine: Callable[..., Any], x: Any, y: Any) -> Any:
    """Of two conditions, of which one may be known."""
    if isinstance(x, bool):
        x, y = y, x
    return combine(x, _f("full_like")(x, y) if isinstance(y, bool) else y)


def _order(name: str) -> Callable[[Pair, Pair], Any]:
    """NumPy's order of complex numbers: by the real parts, then by the imaginary ones."""
    compare, strict = _f(name), _f(name[:1] + "t")

    def ordered(a: Pair, b: Pair) -> Any:
        (x, y), (u, v) = _tensors(a), _tensors(b)
        return strict(x, u) | ((x == u) & compare(y, v))

    return ordered


COMPLEX: dict[str, Callable[..., Any]] = {
    "add": add, "subtract": subtract, "multiply": multiply, "divide": divide, "power": power, "float_power": power,
    "exp": exp, "log": log, "sqrt": sqrt, "square": square, "sin": sin, "cos": cos, "sinh": sinh, "cosh": cosh,
    "tan": tan, "tanh": tanh, "reciprocal": reciprocal, "negative": negative, "conjugate": conjugate,
    "positive": lambda a: a, "sign": sign,
}  # fmt: skip

# These give one real tensor.
COMPLEX_PREDICATES: dict[str, Callable[..., Any]] = {
    "absolute": absolute,
    "equal": _same,
    "not_equal": _differ,
    "less": _order("lt"),
    "less_equal": _order("le"),
    "greater": _order("gt"),
    "greater_equal": _order("ge"),
    "isnan": lambda a: _f("isnan")(a[0]) | _f("isnan")(a[1]),
    "isinf": lambda a: _f("isinf")(a[0]) | _f("isinf")(a[1]),
    "isfinite": lambda a: _f("isfinite")(a[0]) & _f("isfinite")(a[1]),
    "logical_not": lambda a: (a[0] == 0) & (a[1] == 0),
}
