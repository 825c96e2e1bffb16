"""Print codegen/llvm/coefficients.py: minimax polynomials for the vector math, by Remez's exchange in mpmath.

Run `python tools/coefficients.py > codegen/llvm/coefficients.py`. The errors printed are the largest, relative to the
function.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence

from mpmath import mp, mpf

mp.dps = 60
Function = Callable[[mpf], mpf]


def _extrema(error: Function, a: mpf, b: mpf, n: int) -> list[mpf]:
    """n points of alternating sign and large error, by scanning a Chebyshev grid."""
    steps = 24 * n
    grid = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * i / steps) for i in range(steps + 1)]
    values = [error(x) for x in grid]
    runs: list[int] = []
    for i, v in enumerate(values):
        if runs and (values[runs[-1]] > 0) == (v > 0):
            if abs(v) > abs(values[runs[-1]]):
                runs[-1] = i
        else:
            runs.append(i)
    while len(runs) > n:
        ends = (0, len(runs) - 1)
        runs.pop(min(ends, key=lambda e: abs(values[runs[e]])))
    return [grid[i] for i in runs]


def remez(f: Function, weight: Function, a: float, b: float, n: int) -> tuple[list[mpf], mpf]:
    """n coefficients, lowest first, minimising |(p - f) weight| on [a, b], and that maximum."""
    a, b = mpf(a), mpf(b)
    points = [(a + b) / 2 - (b - a) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n + 2)) for i in range(n + 1)]
    best: tuple[list[mpf], mpf] | None = None
    for _ in range(12):
        rows = [[x**k for k in range(n)] + [(-1) ** i / weight(x)] for i, x in enumerate(points)]
        solution = mp.lu_solve(mp.matrix(rows), mp.matrix([f(x) for x in points]))
        c = [solution[k] for k in range(n)]

        def error(x: mpf, c: list[mpf] = c) -> mpf:
            return (mp.polyval(c[::-1], x) - f(x)) * weight(x)

        found = _extrema(error, a, b, n + 1)
        largest = max(abs(error(x)) for x in found)
        if best is None or largest < best[1]:
            best = c, largest
        if len(found) < n + 1 or largest < abs(solution[n]) * mpf("1.001"):
            break
        points = found
    assert best is not None
    return best


def by_square(f: Function) -> Function:
    """f as a function of the square of its argument."""
    return lambda z: f(mp.sqrt(z))


LN2 = mp.log(2)
TINY = 1e-9


def _exp(n: int):
    h = LN2 / 2 * mpf("1.001")
    return remez(lambda r: (mp.expm1(r) - r) / r**2, lambda r: r**2 / mp.exp(r), -h, h * mpf("1.0007"), n)


def _exp2(n: int):
    h = mpf("0.5")
    return remez(lambda r: mp.expm1(r * LN2) / r, lambda r: r / mp.exp(r * LN2), -h, h * mpf("1.0007"), n)


def _sinh(n: int):
    h = (LN2 / 2 * mpf("1.001")) ** 2
    f = by_square(lambda r: (mp.sinh(r) - r) / r**3)
    return remez(f, by_square(lambda r: r**3 / mp.sinh(r)), TINY, h, n)


def _cosh(n: int):
    h = (LN2 / 2 * mpf("1.001")) ** 2
    return remez(by_square(lambda r: (mp.cosh(r) - 1) / r**2), by_square(lambda r: r**2), TINY, h, n)


def _log(n: int):
    """log((1 + s)/(1 - s)) = 2 s + s**3 p(s**2)."""
    h = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mpf("1.001")
    f = by_square(lambda s: (2 * mp.atanh(s) - 2 * s) / s**3)
    return remez(f, by_square(lambda s: s**3 / mp.atanh(s)), TINY, h, n)


def _log_tail(n: int):
    """log((1 + s)/(1 - s)) = 2 s + 2/3 s**3 + s**5 p(s**2)."""
    h = ((mp.sqrt(2) - 1) / (mp.sqrt(2) + 1)) ** 2 * mpf("1.001")
    f = by_square(lambda s: (2 * mp.atanh(s) - 2 * s - 2 * s**3 / 3) / s**5)
    return remez(f, by_square(lambda s: s**5 / mp.atanh(s)), 1e-6, h, n)


def _sin(n: int):
    h = (mp.pi / 4 * mpf("1.001")) ** 2
    f = by_square(lambda r: (mp.sin(r) - r) / r**3)
    return remez(f, by_square(lambda r: r**3 / mp.sin(r)), TINY, h, n)


def _tan(n: int):
    h = (mp.pi / 4 * mpf("1.001")) ** 2
    f = by_square(lambda r: (mp.tan(r) - r) / r**3)
    return remez(f, by_square(lambda r: r**3 / mp.tan(r)), 1e-6, h, n)


def _cos(n: int):
    h = (mp.pi / 4 * mpf("1.001")) ** 2
    return remez(
        by_square(lambda r: (mp.cos(r) - 1 + r**2 / 2) / r**4), by_square(lambda r: r**4 / mp.cos(r)), 1e-6, h, n
    )


def _atan(n: int):
    """Up to tan(pi/8)."""
    f = by_square(lambda r: (mp.atan(r) - r) / r**3)
    return remez(f, by_square(lambda r: r**3 / mp.atan(r)), TINY, (mp.sqrt(2) - 1) ** 2 * mpf("1.001"), n)


def _asin(n: int):
    f = by_square(lambda r: (mp.asin(r) - r) / r**3)
    return remez(f, by_square(lambda r: r**3 / mp.asin(r)), TINY, 0.25, n)


ERF_SPLIT = 1.0


def _erf(n: int):
    """erf(x) = x + x p(x**2 - 1/2) below the split."""

    def f(u: mpf) -> mpf:
        x = mp.sqrt(u + 0.5)
        return mp.erf(x) / x - 1

    return remez(f, lambda u: 1 / (f(u) + 1), TINY - 0.5, ERF_SPLIT**2 - 0.5, n)


def _erf_tail(end: float) -> Callable[[int], tuple[list[mpf], mpf]]:
    """erf(x) = 1 - exp(-x p(x)) from the split to `end`."""
    return lambda n: remez(lambda x: -mp.log(mp.erfc(x)) / x, lambda x: x * mp.erfc(x), ERF_SPLIT, end, n)


def _erfc(k: float, end: float) -> Callable[[int], tuple[list[mpf], mpf]]:
    """erfc(x) = exp(-x**2) y p(t), y = 1/(x + k), t = 1 - 2 k y, for x >= 0."""

    def f(t: mpf) -> mpf:
        y = (1 - t) / (2 * k)
        x = 1 / y - k
        return mp.exp(x * x) * mp.erfc(x) / y

    def at(x: float) -> mpf:
        return 1 - 2 * k / (mpf(x) + k)

    return lambda n: remez(f, lambda t: 1 / f(t), at(0), at(end), n)


def _erfc_slope(k: float, end: float) -> Callable[[int], tuple[list[mpf], mpf]]:
    """The derivative of the polynomial of `_erfc`."""
    c, _ = _erfc(k, end)(24)
    d = [i * x for i, x in enumerate(c)][1:]
    return lambda n: remez(lambda t: mp.polyval(d[::-1], t), lambda t: mpf(1), -1, 1 - 2 * k / (end + k), n)


TABLES: Sequence[tuple[str, dict[str, tuple[Callable[[int], tuple[list[mpf], mpf]], int]]]] = (
    ("EXP", {"f32": (_exp, 5), "f64": (_exp, 10)}),
    ("EXPM1", {"f32": (_exp, 6), "f64": (_exp, 10)}),
    ("EXP2", {"f32": (_exp2, 6), "f64": (_exp2, 11)}),
    ("SINH", {"f32": (_sinh, 3), "f64": (_sinh, 5)}),
    ("COSH", {"f32": (_cosh, 3), "f64": (_cosh, 5)}),
    ("LOG", {"f32": (_log, 3), "f64": (_log, 7)}),
    ("SIN", {"f32": (_sin, 3), "f64": (_sin, 6)}),
    ("TAN", {"f32": (_tan, 7), "f64": (_tan, 14)}),
    ("COS", {"f32": (_cos, 3), "f64": (_cos, 6)}),
    ("ATAN", {"f32": (_atan, 5), "f64": (_atan, 12)}),
    ("ASIN", {"f32": (_asin, 5), "f64": (_asin, 12)}),
    ("ERF", {"f32": (_erf, 7), "f64": (_erf, 12)}),
    ("ERF_TAIL", {"f32": (_erf_tail(4.0), 6), "f64": (_erf_tail(6.0), 18)}),
    ("ERFC", {"f64": (_erfc(4.0, 27.5), 24)}),
    ("ERFC_SLOPE", {"f64": (_erfc_slope(4.0, 27.5), 4)}),
    ("ERFC_OF_F32", {"f64": (_erfc(3.0, 10.5), 11)}),
    ("LOG_TAIL", {"f64": (_log_tail, 8)}),
    # f32 pow is computed in f64, to f32's accuracy
    ("POW_LOG", {"f64": (_log, 5)}),
    ("POW_EXP2", {"f64": (_exp2, 7)}),
)


def _split(value: mpf, bits: Sequence[int], *, down: bool = False) -> list[float]:
    """Parts of `value`, each rounded to its number of bits; the rounding is `down` or to nearest."""
    parts = []
    for n in bits:
        with mp.workprec(n):
            part = mp.fadd(value, 0, rounding="f" if down else "n")
        parts.append(float(part))
        value = value - part
    return parts


# Parts whose product with a small integer is exact have trailing zeros: 8 or 12 in f32 or f64. The bits of TWO_OVER_PI
# are in words of 64, after 64 zeros.
def _constants() -> dict[str, dict[str, list[float]]]:
    two = {"f32": (24, 24), "f64": (53, 53)}
    short = {"f32": (16, 24), "f64": (41, 53)}
    return {
        "LN2": {t: _split(LN2, short[t]) for t in short},
        "LOG10_2": {t: _split(mp.log10(2), short[t]) for t in short},
        "TWO_THIRDS": {"f64": _split(mpf(2) / 3, (53, 53))},
        "LOG2_E": {t: _split(1 / LN2, two[t]) for t in two},
        "LOG10_E": {t: _split(1 / mp.log(10), two[t]) for t in two},
        # all positive: multiples of -0 are subtracted from it
        "HALF_PI": {t: _split(mp.pi / 2, two[t] + two[t][:1], down=True) for t in two},
        # multiples up to 4 of the first part are exact
        "QUARTER_PI": {"f32": _split(mp.pi / 4, (21, 24)), "f64": _split(mp.pi / 4, (50, 53))},
        "HALF_PI_SHORT": {"f64": _split(mp.pi / 2, (33, 33, 33, 53))},
    }


def _print_constants() -> None:
    for name, formats in _constants().items():
        print(f"{name}: dict[str, tuple[float, ...]] = {{")
        for dtype, parts in formats.items():
            print(f'    "{dtype}": ({", ".join(map(repr, parts))}),')
        print("}")
    with mp.workprec(1600):
        bits = int(mp.floor(2 / mp.pi * mp.mpf(2) ** (64 * 21)))
    words = [0] + [(bits >> (64 * (20 - i))) & (2**64 - 1) for i in range(21)]
    print("TWO_OVER_PI: tuple[int, ...] = (\n" + "".join(f"    0x{w:016X},\n" for w in words) + ")")


def main() -> None:
    print('"""Minimax polynomials, lowest coefficient first. Written by tools/coefficients.py: do not edit."""\n')
    print("from __future__ import annotations\n")
    _print_constants()
    for name, formats in TABLES:
        print(f"{name}: dict[str, tuple[float, ...]] = {{")
        for dtype, (fit, n) in formats.items():
            c, error = fit(n)
            print(f"{name} {dtype} {n}: 2**{float(mp.log(error, 2)):.1f}", file=sys.stderr)
            mp.prec, prec = (24 if dtype == "f32" else 53), mp.prec
            rounded = [float(+x) for x in c]
            mp.prec = prec
            print(f'    "{dtype}": (')
            print("".join(f"        {x!r},\n" for x in rounded) + "    ),")
        print("}")


if __name__ == "__main__":
    main()
