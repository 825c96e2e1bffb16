"""A contraction's operand as windows over an image: which of its digits walk one dim of the image together.

b[k, n] of a convolution is x[c, y*2 + ty - 1, x*2 + tx - 1]: with n = (y, x) and k = (c, ty, tx) as digits, what is
read depends on u1 = 2*y + ty and u0 = 2*x + tx only. An image over (c, u1, u0) then holds each element once, and the
digits of n and of k are strides in it.

The gradient of a strided convolution reads dy[(y + ty - 1) / 2, ...] where that is whole: an image that is spread out,
of which only the elements that are there are kept. Which taps read one depends on y % 2.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from math import gcd

from tjit.codegen.digits import expression_dims, split_digits, substitute_symbol
from tjit.codegen.kernel import Axis, Compute, ContractKernel, Expr, Load, walk
from tjit.codegen.llvm.window_spread import gathered, kept
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol, coefficient, substitute, symbols

__all__ = ["Digit", "ImageAxis", "WindowMap", "images_of", "map_windows", "split_axis"]


@dataclass(frozen=True, slots=True)
class Digit:
    """A digit of an axis, or a batch axis that counts as one."""

    symbol: Symbol
    extent: int


@dataclass(frozen=True, slots=True)
class ImageAxis:
    """A dim of the image, at scale_n * (digit `n` of n) + scale_k * (digit `k` of k) where there are such.

    Attributes:
        inside: the range of positions beyond which all of the image is zero: the padding of windows.
        spread: of the positions u only those are in the image at which u + `origin` is a multiple of this, side by
            side; it has zeros at the others, with which nothing is multiplied.
        origin: less than `spread`.
    """

    symbol: Symbol
    n: int | None
    k: int | None
    scale_n: int = 1
    scale_k: int = 1
    inside: tuple[int, int] | None = None
    spread: int = 1
    origin: int = 0

    def has(self, n: int, k: int) -> bool:
        """Whether the image has what these values of the digits read."""
        return (n * self.scale_n + k * self.scale_k + self.origin) % self.spread == 0

    def reach(self, n: int, k: int) -> int:
        """How many elements the image has for `n` values of the one digit and `k` of the other, wherever they start."""
        last = (n - 1) * self.scale_n + (k - 1) * self.scale_k + self.origin + (self.spread - 1)
        return last // self.spread + 1


@dataclass(frozen=True, slots=True)
class WindowMap:
    """The operand b of a kernel as an image.

    Attributes:
        n, k: the digits of the axes, lowest first; n ends with the batch axes that a does not depend on.
        own: how many digits of n are not batch axes.
        batch: the other batch axes.
        axes: of the image, the one whose elements are neighbours last.
        image: an element of the image, over the symbols of `axes` and of `batch`.
        k_value: the axis k as the sum of its digits.
    """

    n: tuple[Digit, ...]
    k: tuple[Digit, ...]
    own: int
    batch: tuple[Axis, ...]
    axes: tuple[ImageAxis, ...]
    image: Expr
    k_value: Dim

    @property
    def has_windows(self) -> bool:
        """Whether elements of the image are read at several places."""
        return any(axis.n is not None and axis.k is not None for axis in self.axes)

    @property
    def is_spread(self) -> bool:
        """Whether elements of the image lie apart for the windows."""
        return any(axis.spread > 1 for axis in self.axes)


def map_windows(kernel: ContractKernel) -> WindowMap | None:
    """How the operand b of `kernel` is an image; None where it is not."""
    shared = images_of(kernel)
    b, apart = gathered(kernel.b)
    n_split = split_axis(kernel.n, b)
    k_split = split_axis(kernel.k, kernel.a, b)
    if n_split is None or k_split is None or any(isinstance(e, Load) and e.bindings for e in walk(b)):
        return None
    expr = substitute_symbol(substitute_symbol(b, kernel.n.symbol, n_split[1]), kernel.k.symbol, k_split[1])
    n = (*n_split[0], *(Digit(x.symbol, int(str(x.extent))) for x in reversed(shared)))
    k = k_split[0]
    dims = list(dict.fromkeys(expression_dims(expr)))
    steps = [_steps(dims, digit.symbol) for digit in (*n, *k)]
    if any(step is None for step in steps):
        return None
    axes = _pair([s for s in steps if s is not None], len(n))
    for axis in axes:
        expr = _over_axis(expr, axis, n, k)
    if apart:
        found = kept(expr, tuple(axis.symbol for axis in axes), apart)
        if found is None:
            return None
        expr, spread = found
        axes = tuple(replace(axis, spread=by, origin=at) for axis, (by, at) in zip(axes, spread, strict=True))
        if any(axis.spread > 1 and axis.scale_n > 1 for axis in axes):
            return None
    batch = tuple(x for x in kernel.batch if x not in shared)
    axes = tuple(replace(axis, inside=_inside(expr, axis)) for axis in _by_stride(expr, axes))
    return _with_long_rows(WindowMap(n, k, len(n_split[0]), batch, axes, expr, k_split[1]))


def _with_long_rows(windows: WindowMap) -> WindowMap:
    """Neighbouring digits of n along which nothing but n walks, and whose values follow one another in memory, as one.

    So are the lines of an image that a 1x1 convolution reads.
    """
    for low in range(windows.own - 1):
        axes = [next((x for x in windows.axes if x.n == digit), None) for digit in (low, low + 1)]
        inner, outer = axes
        if inner is None or outer is None or not _follow(windows, inner, outer):
            continue
        lowest = Digit(windows.n[low].symbol, windows.n[low].extent * windows.n[low + 1].extent)
        left = tuple(x if x.n is None or x.n <= low else replace(x, n=x.n - 1) for x in windows.axes if x is not outer)
        n = (*windows.n[:low], lowest, *windows.n[low + 2 :])
        image = substitute_symbol(windows.image, outer.symbol, 0)
        return _with_long_rows(replace(windows, n=n, own=windows.own - 1, axes=left, image=image))
    return windows


def _follow(windows: WindowMap, inner: ImageAxis, outer: ImageAxis) -> bool:
    """Whether one more along `outer` is as far, in all that is loaded, as the extent of `inner`."""
    if any(axis.k is not None or axis.inside is not None or axis.spread > 1 for axis in (inner, outer)):
        return False
    assert inner.n is not None
    extent, own = windows.n[inner.n].extent, {inner.symbol, outer.symbol}
    for e in walk(windows.image):
        if isinstance(e, Load):
            offset = e.buffer.offset(e.index)
            step, line = (coefficient(offset, axis.symbol) for axis in (inner, outer))
            if e.bindings or not (isinstance(step, int) and line == step * extent):
                return False
            if any(own.intersection(symbols(place)) for place, _ in e.conditions):
                return False
        elif not isinstance(e, Compute) and any(own.intersection(symbols(d)) for d in expression_dims(e)):
            return False
    return True


def images_of(kernel: ContractKernel) -> tuple[Axis, ...]:
    """The batch axes that the operand a does not depend on."""
    return tuple(x for x in kernel.batch if isinstance(x.extent, int) and not _mentions(kernel.a, x.symbol))


def split_axis(axis: Axis, *exprs: Expr) -> tuple[tuple[Digit, ...], Dim] | None:
    """The digits of an axis by which `exprs` index, and the axis as their sum; None where they are not whole."""
    if not isinstance(axis.extent, int) or axis.extent == 0:
        return None
    found = split_digits(axis.symbol, *exprs)
    bounds = (1, *found.radices, axis.extent)
    if any(big % small for small, big in pairwise(bounds)):
        return None
    names = (found.lowest, *found.higher)
    extents = [big // small for small, big in pairwise(bounds)]
    return tuple(Digit(s, e) for s, e in zip(names, extents, strict=True)), found.value


def _mentions(expr: Expr, symbol: Symbol) -> bool:
    return any(symbol in symbols(d) for d in expression_dims(expr))


def _steps(dims: list[Dim], symbol: Symbol) -> tuple[int, ...] | None:
    """How far each of `dims` moves with a symbol; None where that is not a constant."""
    found = [coefficient(d, symbol) for d in dims]
    steps = tuple(step for step in found if isinstance(step, int))
    return steps if len(steps) == len(found) else None


def _pair(steps: list[tuple[int, ...]], count: int) -> tuple[ImageAxis, ...]:
    """The axes of the image: a digit of n (the first `count`) and one of k that move all in one ratio are one axis."""
    axes: list[ImageAxis] = []
    free = [k for k in range(len(steps) - count) if any(steps[count + k])]
    for n in range(count):
        if not any(steps[n]):
            continue
        axis = ImageAxis(_symbol(axes), n, None)
        for k in free:
            ratio = _ratio(steps[n], steps[count + k])
            if ratio is not None:
                axis = ImageAxis(axis.symbol, n, k, *ratio)
                free.remove(k)
                break
        axes.append(axis)
    for k in free:
        axes.append(ImageAxis(_symbol(axes), None, k))
    return tuple(axes)


def _symbol(axes: list[ImageAxis]) -> Symbol:
    return Symbol(f"u.{len(axes)}", 0, None)


def _ratio(x: tuple[int, ...], y: tuple[int, ...]) -> tuple[int, int] | None:
    """(p, q) with x*q = y*p, in lowest terms, both positive and one of them 1; None where there is none."""
    at = next(i for i, step in enumerate(x) if step)
    divisor = gcd(x[at], y[at])
    if x[at] * y[at] <= 0:
        return None
    p, q = abs(x[at]) // divisor, abs(y[at]) // divisor
    same = all(a * q == b * p for a, b in zip(x, y, strict=True))
    return (p, q) if same and min(p, q) == 1 else None


def _over_axis(expr: Expr, axis: ImageAxis, n: tuple[Digit, ...], k: tuple[Digit, ...]) -> Expr:
    """`expr` at a position of the axis instead of at the digits that add up to it."""
    digits = [(n[axis.n], axis.scale_n)] if axis.n is not None else []
    digits += [(k[axis.k], axis.scale_k)] if axis.k is not None else []
    unit = next(digit for digit, scale in digits if scale == 1)
    for digit, _ in digits:
        expr = substitute_symbol(expr, digit.symbol, axis.symbol.dim if digit is unit else 0)
    return expr


def _by_stride(expr: Expr, axes: tuple[ImageAxis, ...]) -> tuple[ImageAxis, ...]:
    """The axes as they lie in memory, the largest steps of the first load first; if spread out, the lanes' last."""
    loads = [e for e in walk(expr) if isinstance(e, Load)]

    def step(axis: ImageAxis) -> int:
        found = coefficient(loads[0].buffer.offset(loads[0].index), axis.symbol) if loads else 0
        return abs(found) if isinstance(found, int) and found else 1 << 62

    by_stride = sorted(axes, key=step, reverse=True)
    if any(axis.spread > 1 for axis in axes):
        by_stride.sort(key=lambda axis: axis.n == 0)
    return tuple(by_stride)


def _inside(image: Expr, axis: ImageAxis) -> tuple[int, int] | None:
    """The positions of an axis with a condition of its own that is not met elsewhere, where the image is zero."""
    while isinstance(image, Compute) and image.op.name == "cast":
        (image,) = image.operands
    if not isinstance(image, Load) or image.fill != 0 or axis.spread > 1:
        return None
    for place, extent in image.conditions:
        first = substitute(place, {axis.symbol: 0})
        if coefficient(place, axis.symbol) == 1 and isinstance(first, int) and isinstance(extent, int):
            return -first, extent - first
    return None
