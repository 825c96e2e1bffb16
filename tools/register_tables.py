"""Print codegen/llvm/register_tables.py: tables that fit in two registers of AVX-512, and the polynomials between.

Run `python tools/register_tables.py > codegen/llvm/register_tables.py`. The errors printed are the largest, relative to
the function.
"""

from __future__ import annotations

import math
import sys
import textwrap
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

from coefficients import by_square, remez
from mpmath import mp, mpf

mp.dps = 60
Function = Callable[[mpf], mpf]
DIGITS = {"f32": 24, "f64": 53}
ENTRIES = {"f32": 32, "f64": 16}


def rounded(x: mpf, dtype: str) -> float:
    """The nearest number of a format."""
    with mp.workprec(DIGITS[dtype]):
        return float(+x)


def show(name: str, values: Mapping[str, Sequence[float]]) -> None:
    print(f"{name}: dict[str, tuple[float, ...]] = {{")
    for dtype, numbers in values.items():
        print(f'    "{dtype}": (\n' + wrapped(numbers) + ",\n    ),")
    print("}")


def wrapped(numbers: Sequence[float], indent: int = 8) -> str:
    margin = " " * indent
    return textwrap.fill(", ".join(map(repr, numbers)), 118, initial_indent=margin, subsequent_indent=margin)


def fitted(name: str, dtype: str, f: Function, weight: Function, ends: tuple[mpf, mpf], n: int) -> list[float]:
    """n coefficients, lowest first, of the polynomial nearest to f."""
    c, error = remez(f, weight, float(ends[0]), float(ends[1]), n)
    print(f"{name} {dtype} {n}: 2**{float(mp.log(error, 2)):.1f}", file=sys.stderr)
    return [rounded(x, dtype) for x in c]


# -- logarithms: of a fraction m in [1, 2), or of m / 2 where it is near 2 --------------------------------------------


def reciprocals(n: int) -> list[float]:
    """Of n parts of [1, 2), numbers t near 1 / m: 1 in the first, 1/2 in the last.

    They have so few digits that m t - 1 is exact.
    """
    grids = [2 * n if 2 * i < n else 4 * n for i in range(1, n - 1)]
    inner = [float(mp.nint(g / (1 + mpf(2 * i + 1) / (2 * n))) / g) for i, g in enumerate(grids, 1)]
    return [1.0, *inner, 0.5]


def ends_of(table: Sequence[float]) -> tuple[mpf, mpf]:
    """The least and the greatest m * reciprocal - 1."""
    n = len(table)
    r = [(1 + mpf(i + end) / n) * t - 1 for i, t in enumerate(table) for end in (0, 1)]
    return min(r), max(r)


def parts(x: mpf, grid: int, dtype: str) -> tuple[float, float]:
    """x as a multiple of 2**-grid that is not greater, and the rest."""
    high = mp.floor(x * mpf(2) ** grid) / mpf(2) ** grid
    return float(high), rounded(x - high, dtype)


GRID = {"f32": 16, "f64": 42}  # a table's numbers and multiples of a unit of these fractional digits have exact sums
BASES = {"LOG": mp.e, "LOG2": mpf(2), "LOG10": mpf(10)}


def logarithms() -> None:
    tables = {t: reciprocals(n) for t, n in ENTRIES.items()}
    show("RECIPROCAL", tables)
    for name, base in BASES.items():
        of = {t: [parts(mp.log(1 / mpf(x), base), GRID[t], t) for x in tables[t]] for t in tables}
        # what the last is shall vanish together with the unit's
        units = {t: parts(mp.log(2, base), GRID[t], t) for t in tables}
        show(f"{name}_UNIT", units)
        show(f"{name}_HIGH", {t: [high for high, _ in of[t]] for t in tables})
        show(f"{name}_LOW", {t: [low for _, low in of[t]] for t in tables})
        slope = {t: rounded(1 / mp.log(base), t) for t in tables}
        rest = {t: rounded(1 / mp.log(base) - mpf(slope[t]), t) for t in tables}
        show(f"{name}_SLOPE", {t: (slope[t], rest[t]) for t in tables})
        show(f"{name}_TAIL", {t: log_tail(name, t, base, ends_of(tables[t]), LOG_TERMS[name, t]) for t in tables})


LOG_TERMS = {(name, "f32"): 4 if name == "LOG" else 3 for name in BASES} | {(name, "f64"): 9 for name in BASES}


def log_tail(name: str, dtype: str, base: mpf, ends: tuple[mpf, mpf], n: int) -> list[float]:
    """log(1 + r) = r slope + r**2 p(r)."""

    def f(r: mpf) -> mpf:
        return (mp.log1p(r) - r) / (r * r) / mp.log(base)

    return fitted(f"{name}_TAIL", dtype, f, lambda r: abs(r * r * mp.log(base) / mp.log1p(r)), ends, n)


# -- powers ----------------------------------------------------------------------------------------------------------


def powers() -> None:
    """x**y: log2 of a fraction in two parts, and 2**e by sixteenths of e."""
    tables = {t: reciprocals(32) for t in DIGITS}
    show("POW_RECIPROCAL", tables)
    of = {t: [parts(-mp.log(mpf(x), 2), GRID[t], t) for x in table] for t, table in tables.items()}
    show("POW_LOG2", {t: [high for high, _ in both] for t, both in of.items()})
    show("POW_LOG2_LOW", {t: [low for _, low in both] for t, both in of.items()})

    def cubic(r: mpf) -> mpf:
        """log(1 + r) = r - r**2 / 2 - r**3 / 2 p(r)."""
        return -2 * (mp.log1p(r) - r + r * r / 2) / r**3

    def exp2(r: mpf) -> mpf:
        return mp.expm1(r * mp.log(2)) / r

    ends = ends_of(reciprocals(32))
    tails = {t: fitted("POW_LOG_TAIL", t, cubic, lambda r: abs(r**3 / 2 / mp.log1p(r)), ends, n) for t, n in POW_TERMS}
    show("POW_LOG_TAIL", tails)
    roots = [mpf(2) ** (mpf(i) / 16) for i in range(16)]
    show("SIXTEENTHS", {t: [rounded(x, t) for x in roots] for t in DIGITS})
    show("SIXTEENTHS_LOW", {t: [rounded(x - mpf(rounded(x, t)), t) for x in roots] for t in DIGITS})
    half = mpf(1) / 32 * mpf("1.001")
    tails = {t: fitted("SIXTEENTHS_TAIL", t, exp2, abs, (-half, half * mpf("1.0007")), n) for t, n in EXP2_TERMS}
    show("SIXTEENTHS_TAIL", tails)


POW_TERMS = ("f32", 3), ("f64", 8)
EXP2_TERMS = ("f32", 3), ("f64", 6)


# -- the inverse tangent, by rotation ----------------------------------------------------------------------------------


def rotations() -> None:
    """atan(y / x) = angle + atan(d), d = (c y - s x) / (c x + s y), of 32 directions (c, s) at `angle`.

    They are counted by y / x between 2**-4 and 2**4: the last three bits of its exponent, two digits. The first
    direction is (1, 0). The others have angles that are nearly numbers of the format; the last is nearly (0, 1).
    """
    ends = [mpf(2) ** e * (1 + mpf(i) / 4) for e in range(-4, 4) for i in range(4)]
    first = 12  # what 1/16 is counted as
    for_dtype = {}
    for dtype in DIGITS:
        upright = mpf(rounded(mp.pi / 2, dtype))
        inner = [_direction(a, b, dtype) for a, b in pairwise(ends[1:])]
        rows = [(1.0, 0.0, 0.0), *inner, (rounded(mp.cot(upright), dtype), 1.0, float(upright))]
        for_dtype[dtype] = list(zip(*(rows[(i - first) % 32] for i in range(32)), strict=True))
    for k, name in enumerate(("COSINE", "SINE", "ANGLE")):
        show(f"ATAN_{name}", {t: columns[k] for t, columns in for_dtype.items()})
    f, weight = by_square(lambda d: (mp.atan(d) - d) / d**3), by_square(lambda d: d**3 / mp.atan(d))
    far = (ends[1] * mpf("1.001")) ** 2
    show("ATAN_TAIL", {t: fitted("ATAN_TAIL", t, f, weight, (mpf("1e-9"), far), n) for t, n in ATAN_TERMS})


ATAN_TERMS = ("f32", 2), ("f64", 5)


def _direction(start: mpf, end: mpf, dtype: str) -> tuple[float, float, float]:
    """(1, tan(angle)) between, near the middle, whose angle is nearly a number."""
    middle = mp.tan((mp.atan(start) + mp.atan(end)) / 2)
    near = [rounded(middle * (1 + mpf(i) / 2**14), dtype) for i in range(-200, 201)]
    s = min(near, key=lambda s: abs(mp.atan(mpf(s)) - mpf(rounded(mp.atan(mpf(s)), dtype))))
    return 1.0, s, rounded(mp.atan(mpf(s)), dtype)


# -- the tangent of f32, by rotation -----------------------------------------------------------------------------------


def tangents() -> None:
    """tan(angle + d) = (s + c t) / (c - s t), t = tan(d), of 32 directions (c, s): `angle` less `excess` is i pi/32.

    The larger coordinate of a direction is 1 or -1, the other one of f32.
    """
    rest, steps = mp.pi / 32, []
    for digits in (24, 9, 24, 24):  # multiples below 2**15 of the second are exact; all are positive, as of HALF_PI
        with mp.workprec(digits):
            steps.append(float(mp.fadd(rest, 0, rounding="f")))
        rest -= mpf(steps[-1])
    print(f"TAN_STEP = {tuple(steps)!r}")
    rows = [_turn(i) for i in range(32)]
    columns = {"COSINE": [c for c, _, _ in rows], "SINE": [s for _, s, _ in rows]}
    columns["EXCESS"] = [excess for _, _, excess in rows[:16]]  # a quarter of a turn further it is the same
    for name, column in columns.items():
        print(f"TAN_{name}: tuple[float, ...] = (\n{wrapped(column, 4)},\n)")
    f, weight = by_square(lambda d: (mp.tan(d) - d) / d**3), by_square(lambda d: d**3 / mp.tan(d))
    tail = fitted("TAN_TAIL", "f32", f, weight, (mpf("1e-9"), (mp.pi / 64 * mpf("1.001")) ** 2), 2)
    print(f"TAN_TAIL = {tuple(tail)!r}")


def _turn(i: int) -> tuple[float, float, float]:
    angle = (mpf(i) if i <= 16 else mpf(i - 32)) * mp.pi / 32
    if i in (0, 16):
        return (0.0, 1.0, 0.0) if i else (1.0, -0.0, 0.0)  # -0 + t keeps the sign of t = -0
    flat = abs(angle) < mp.pi / 4 * mpf("1.001")
    side = rounded(mp.tan(angle) if flat else mp.cot(abs(angle)), "f32")
    c, s = (1.0, side) if flat else (side, math.copysign(1.0, angle))
    return c, s, rounded(mp.atan(mpf(s) / c) - angle, "f32")


# -- the inverse of erf, by pieces -------------------------------------------------------------------------------------


def erfinv() -> None:
    """erfinv(x) / x of w = -log(1 - x**2), by pieces: the middle, what it is there, and coefficients of its slope.

    A piece is counted by two digits of the exponent of w + 4, and as many of its own as the table has room for.
    """
    print("ERFINV_PIECES: dict[str, tuple[tuple[float, ...], ...]] = {")
    for dtype, entries, end, n in ERFINV_TERMS:
        digits = entries // 4
        ends = [mpf(2) ** e * (1 + mpf(i) / digits) - 4 for e in range(2, 6) for i in range(digits)]
        rows = {}
        for i, (a, b) in enumerate(pairwise([*ends, mpf(60)])):
            rows[(i + digits) % entries] = _erfinv_piece(a, b, dtype, n) if a < end else [0.0] * (n + 2)
        print(f'    "{dtype}": (')
        for column in zip(*(rows[i] for i in range(entries)), strict=True):
            print("        (\n" + wrapped(column, 12) + ",\n        ),")
        print("    ),")
    print("}")


ERFINV_TERMS = ("f32", 32, 16.0, 5), ("f64", 16, 36.1, 13)


def _erfinv_ratio(w: mpf) -> mpf:
    x = mp.sqrt(-mp.expm1(-w))
    return mp.erfinv(x) / x if x else mp.sqrt(mp.pi) / 2


def _erfinv_piece(start: mpf, end: mpf, dtype: str, n: int) -> list[float]:
    """The middle, on the grid of a logarithm's table; the value, nearly a number; the slope by interpolation."""
    grid = mpf(2) ** GRID[dtype]
    near = [mp.nint((start + end) / 2 * grid + 3 * i) / grid for i in range(-100, 101)]
    middle = min(near, key=lambda w: abs(_erfinv_ratio(w) - rounded(_erfinv_ratio(w), dtype)))
    value = _erfinv_ratio(middle)
    points = [(start + end) / 2 - (end - start) / 2 * mp.cos(mp.pi * (2 * i + 1) / (2 * n)) for i in range(n)]
    rows = mp.matrix([[(w - middle) ** k for k in range(n)] for w in points])
    c = mp.lu_solve(rows, mp.matrix([(_erfinv_ratio(w) - value) / (w - middle) for w in points]))
    return [float(middle), rounded(value, dtype), *(rounded(c[k], dtype) for k in range(n))]


# -- odd functions of f32 that end at 1, by pieces ---------------------------------------------------------------------


def pieces(name: str, f: Function, end: float, n: int) -> None:
    """Pieces of f on [0, end]: where their middles are, what f is there, and n more coefficients.

    A piece is counted by the last bit of the exponent of u = 1 + 3 a / end and by four digits of u.
    """
    scale = rounded(3 / mpf(end), "f32")
    steps = [(mpf(u - 1) / scale, mpf(v - 1) / scale) for u, v in _steps()]
    low = [near_zero(f, steps[17][1], n)] * 2
    rows = [*(piece(f, *ends, n) for ends in steps[:16]), *low, *(piece(f, *ends, n) for ends in steps[18:])]
    print(f"{name}: {float(max(error for _, error in rows)):.3f} ulp", file=sys.stderr)
    print(f"{name}_SCALE = {scale!r}")
    print(f"{name}_PIECES: tuple[tuple[float, ...], ...] = (")
    for column in zip(*(row for row, _ in rows), strict=True):
        print("    (\n" + wrapped(column) + ",\n    ),")
    print(")")


def _steps() -> list[tuple[float, float]]:
    """Where the pieces begin and end, in u."""
    return [(2 + i / 8, 2 + (i + 1) / 8) for i in range(16)] + [(1 + i / 16, 1 + (i + 1) / 16) for i in range(16)]


Piece = tuple[list[float], mpf]


def piece(f: Function, start: mpf, end: mpf, n: int) -> Piece:
    """The middle, f there, and f's slope from there to a as a polynomial in the distance; its error in ulp."""
    middle, value = _nearly_exact(f, start, end)
    at, known, margin = mpf(middle), mpf(value), (end - start) / 1000
    ends = start - margin - at, end + margin * mpf("1.0007") - at
    slope, weight = (lambda d: (f(at + d) - known) / d), (lambda d: abs(d) / f(at + d))
    c, error = remez(slope, weight, float(ends[0]), float(ends[1]), n)
    return [middle, value, *(rounded(x, "f32") for x in c)], error * 2**24


def near_zero(f: Function, end: mpf, n: int) -> Piece:
    """The same of 0, where a is added without loss: f(a) / a - 1 as a polynomial in a**2."""
    slope, weight = by_square(lambda a: f(a) / a - 1), by_square(lambda a: a / f(a))
    c, error = remez(slope, weight, 1e-9, float(end**2 * mpf("1.01")), n)
    return [0.0, 0.0, *(rounded(x, "f32") for x in c)], error * 2**24


def _nearly_exact(f: Function, start: mpf, end: mpf) -> tuple[float, float]:
    """A number between, near the middle if there is one, where f is nearly one of f32."""

    def lost(x: float) -> mpf:
        return abs(f(mpf(x)) - mpf(rounded(f(mpf(x)), "f32")))

    middle, half, at = (start + end) / 2, (end - start) / 2, 0.0
    for part in (mpf(1) / 16, mpf(1) / 4, mpf(1)):
        at = min((rounded(middle + half * part * i / 500, "f32") for i in range(-500, 501)), key=lost)
        if lost(at) < f(middle) * 2**-32:
            break
    return at, rounded(f(mpf(at)), "f32")


def main() -> None:
    print('"""Tables of AVX-512 registers. Written by tools/register_tables.py: do not edit."""\n')
    print("from __future__ import annotations\n\n# fmt: off")
    logarithms()
    powers()
    rotations()
    tangents()
    erfinv()
    pieces("ERF", mp.erf, 4.0, 4)
    pieces("TANH", mp.tanh, 9.25, 5)


if __name__ == "__main__":
    main()
