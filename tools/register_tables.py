"""Print codegen/llvm/register_tables.py: tables that fit in two registers of AVX-512, and the polynomials between.

Run `python tools/register_tables.py > codegen/llvm/register_tables.py`. The errors printed are the largest, relative to
the function.
"""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Sequence

from coefficients import remez
from mpmath import mp, mpf

mp.dps = 60
Function = Callable[[mpf], mpf]
DIGITS = {"f32": 24, "f64": 53}
ENTRIES = {"f32": 32, "f64": 16}


def rounded(x: mpf, dtype: str) -> float:
    """The nearest number of a format."""
    with mp.workprec(DIGITS[dtype]):
        return float(+x)


def show(name: str, values: dict[str, Sequence[float]]) -> None:
    print(f"{name}: dict[str, tuple[float, ...]] = {{")
    for dtype, numbers in values.items():
        lines = textwrap.wrap(", ".join(map(repr, numbers)), 110, initial_indent=" " * 8, subsequent_indent=" " * 8)
        print(f'    "{dtype}": (\n' + "\n".join(lines) + ",\n    ),")
    print("}")


def fitted(name: str, dtype: str, f: Function, weight: Function, ends: tuple[mpf, mpf], n: int) -> list[float]:
    """n coefficients, lowest first, of the polynomial nearest to f."""
    c, error = remez(f, weight, float(ends[0]), float(ends[1]), n)
    print(f"{name} {dtype} {n}: 2**{float(mp.log(error, 2)):.1f}", file=sys.stderr)
    return [rounded(x, dtype) for x in c]


# -- logarithms: of a fraction m in [1, 2), or of m / 2 where it is near 2 --------------------------------------------


def reciprocals(n: int) -> list[float]:
    """Of n parts of [1, 2), numbers t near 1 / m: 1 in the first, 1/2 in the last.

    They have so few digits that m t - 1 is exact. Beside the ends they are nearer to 1 or 1/2: log(1 / t) and what is
    added to it have the same sign, where the sum is least.
    """

    def near(i: int, toward: Callable[[mpf], mpf] = mp.nint) -> float:
        grid = 2 * n if 2 * i < n else 4 * n
        return float(toward(grid / (1 + mpf(2 * i + 1) / (2 * n))) / grid)

    return [1.0, near(1, mp.ceil), *(near(i) for i in range(2, n - 2)), near(n - 2, mp.floor), 0.5]


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
        show(f"{name}_TAIL", {t: log_tail(name, t, base, ends_of(tables[t]), n) for t, n in LOG_TERMS.items()})


LOG_TERMS = {"f32": 4, "f64": 9}


def log_tail(name: str, dtype: str, base: mpf, ends: tuple[mpf, mpf], n: int) -> list[float]:
    """log(1 + r) = r slope + r**2 p(r)."""

    def f(r: mpf) -> mpf:
        return (mp.log1p(r) - r) / (r * r) / mp.log(base)

    return fitted(f"{name}_TAIL", dtype, f, lambda r: abs(r * r * mp.log(base) / mp.log1p(r)), ends, n)


# -- powers ----------------------------------------------------------------------------------------------------------


def powers() -> None:
    """x**y of f32, computed in f64: log2 of a fraction, and 2**e by sixteenths of e."""
    table = reciprocals(ENTRIES["f64"])
    show("POW_LOG2", {"f64": [rounded(-mp.log(mpf(x), 2), "f64") for x in table]})
    ends = ends_of(table)

    def log2(r: mpf) -> mpf:
        return mp.log1p(r) / r / mp.log(2)

    show("POW_LOG2_TAIL", {"f64": fitted("POW_LOG2_TAIL", "f64", log2, lambda r: 1 / log2(r), ends, 6)})
    show("SIXTEENTHS", {"f64": [rounded(mpf(2) ** (mpf(i) / 16), "f64") for i in range(16)]})
    half = mpf(1) / 32 * mpf("1.001")

    def exp2(r: mpf) -> mpf:
        return mp.expm1(r * mp.log(2)) / r

    show("POW_EXP2_TAIL", {"f64": fitted("POW_EXP2_TAIL", "f64", exp2, abs, (-half, half * mpf("1.0007")), 3)})


def main() -> None:
    print('"""Tables of AVX-512 registers. Written by tools/register_tables.py: do not edit."""\n')
    print("from __future__ import annotations\n\n# fmt: off")
    logarithms()
    powers()


if __name__ == "__main__":
    main()
