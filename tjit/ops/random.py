"""Random: one counter-based stream for eager and compiled code.

Element number k of the stream is a pure function of the seed and k (Philox): a result does not depend on how the work
is divided, and a compiled function draws the numbers that eager code would draw.

Source: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3": Philox2x32-10.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, bf16, bool_, default_dtype, f16, f32, f64, i64
from tjit.errors import ArgumentError, CaptureError, TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply, assign, state
from tjit.ops.arithmetic import div
from tjit.ops.bitwise import bitwise_and, bitwise_left_shift, bitwise_or, bitwise_right_shift, bitwise_xor
from tjit.ops.conversion import cast
from tjit.ops.creation import as_shape, iota, refuse_unknown, tensor, usable_device
from tjit.ops.index import refuse_capture
from tjit.ops.movement import broadcast_to, reshape
from tjit.ops.operands import broadcast_shapes
from tjit.ops.public import public
from tjit.quiet import quietly
from tjit.tensor import Tensor

__all__ = ["DEFAULT", "Generator", "bernoulli", "normal", "rand", "randint", "randn", "random_bits", "randperm"]

_DEFAULT_SEED = 67280421310721  # PyTorch's

_MULTIPLIER, _WEYL, _ROUNDS = 0xD256D193, 0x9E3779B9, 10
_LOW = 0xFFFFFFFF


# The stream


class Generator:
    """A random stream: a seed, and the number of elements drawn from it so far.

    Attributes:
        position: i64[2], seed and offset; an ordinary tensor, which a compiled function reads and writes back.
    """

    def __init__(self, device: Any = "cpu") -> None:
        self.position = Tensor(np.array([_DEFAULT_SEED, 0], np.int64))
        self.position.__dict__["name"] = "rng"

    @property
    def device(self) -> Any:
        return self.position.device

    def manual_seed(self, seed: int) -> Generator:
        """Start the stream of `seed` from its beginning.

        Raises:
            TypeRuleError: the seed does not fit in 64 bits.
        """
        seed = int(seed)
        if not -(1 << 63) <= seed < 1 << 64:
            raise TypeRuleError(f"a seed has 64 bits at most, {seed} has more", user_location())
        signed = seed - (1 << 64) if seed >= 1 << 63 else seed
        assign(self.position, tensor([signed, 0], dtype=i64))
        return self

    def seed(self) -> int:
        """Start a stream of unpredictable seed, and return the seed."""
        fresh = int.from_bytes(os.urandom(7), "little")
        self.manual_seed(fresh)
        return fresh

    def initial_seed(self) -> int:
        """The seed of the stream."""
        return int(self.position.array[0]) & ((1 << 64) - 1)

    def get_state(self) -> Tensor:
        """i64[2]: what `set_state` takes to go on from here."""
        return Tensor(self.position.array.copy())

    def set_state(self, new_state: Tensor) -> Generator:
        """Go on from where `get_state` was called."""
        assign(self.position, new_state)
        return self

    def __getstate__(self) -> list[int]:
        return self.position.array.tolist()

    def __setstate__(self, position: list[int]) -> None:
        self.__init__()
        self.position.array[...] = position

    def draw(self, shape: tuple[Dim, ...]) -> Tensor:
        """i64[*shape]: the next elements of the stream, 64 random bits each."""
        bits = apply(RANDOM_BITS, self.position, shape=tuple(shape))
        self._advance(product(shape))
        return bits

    def _advance(self, count: Dim) -> None:
        if state.trace is None:
            self.position.array[1] += count
            self.position._storage.version += 1
            return
        step = iota((2,)) * count  # [0, count]
        assign(self.position, self.position + step)


def random_bits(position: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    """i64[*shape]: 64 random bits for each element, from the stream at `position` (i64[2]: seed, offset)."""
    return apply(RANDOM_BITS, position, shape=tuple(shape))


def _bits_infer(position: TensorType, shape: tuple[Dim, ...]) -> TensorType:
    if position.dtype is not i64 or tuple(position.shape) != (2,):
        raise TypeRuleError(f"random_bits takes i64[2], a seed and an offset, not {position}")
    return TensorType(i64, tuple(shape), position.device)


def _bits_decompose(position: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    seed, offset = position[0], position[1]
    number = reshape(iota((product(shape),), 0, i64, position.device), shape) + offset
    key = bitwise_and(seed, _LOW)
    # the upper half of the seed counts in the upper half of the counter
    counter = number + bitwise_left_shift(bitwise_right_shift(seed, 32), 32)
    c0 = bitwise_and(counter, _LOW)
    c1 = bitwise_and(bitwise_right_shift(counter, 32), _LOW)
    for _ in range(_ROUNDS):
        wide = c0 * _MULTIPLIER  # wraps; its 64 bits are those of the unsigned product
        c0 = bitwise_xor(bitwise_xor(bitwise_and(bitwise_right_shift(wide, 32), _LOW), key), c1)
        c1 = bitwise_and(wide, _LOW)
        key = bitwise_and(key + _WEYL, _LOW)
    return bitwise_or(bitwise_left_shift(c0, 32), c1)


_BLOCK = 16384  # elements whose counters stay in the cache over all rounds


def _bits_reference(position: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    seed, offset = (int(v) & 0xFFFFFFFFFFFFFFFF for v in position)
    size = product(shape)
    bits = np.empty(size, np.uint64)
    first = (offset + (seed >> 32 << 32)) & 0xFFFFFFFFFFFFFFFF
    for start in range(0, size, _BLOCK):
        block = bits[start : start + _BLOCK]
        counter = np.arange(start, start + len(block), dtype=np.uint64)
        np.add(counter, np.uint64(first), out=counter)
        _philox(counter, seed & _LOW, block)
    return bits.view(np.int64).reshape(shape)


def _philox(counter: np.ndarray, key: int, out: np.ndarray) -> None:
    low, half = np.uint64(_LOW), np.uint64(32)
    c0, c1 = counter & low, counter >> half
    wide = np.empty_like(counter)
    for _ in range(_ROUNDS):
        np.multiply(c0, np.uint64(_MULTIPLIER), out=wide)
        np.right_shift(wide, half, out=c0)
        np.bitwise_xor(c0, c1, out=c0)
        np.bitwise_xor(c0, np.uint64(key), out=c0)
        np.bitwise_and(wide, low, out=c1)
        key = (key + _WEYL) & _LOW
    np.left_shift(c0, half, out=out)
    np.bitwise_or(out, c1, out=out)


RANDOM_BITS = register(
    Op(
        name="random_bits",
        kind="composite",
        infer=_bits_infer,
        reference=_bits_reference,
        decompose=_bits_decompose,
        vjp=None,
        samples=(
            Sample(((2,),), dtypes=("i64",), low=0, high=1000, attrs={"shape": (3, 5)}),
            Sample(((2,),), dtypes=("i64",), low=0, high=1000, attrs={"shape": ()}),
        ),
        dtypes="int",
        differentiable=False,
        exact=True,
    )
)


DEFAULT = Generator()


# Distributions


_UNIFORM_BITS = {f16: 11, bf16: 8, f32: 24, f64: 53}  # as many as the dtype holds exactly, so that 1 is never reached


def _top_bits(bits: Tensor, count: int) -> Tensor:
    return bitwise_and(bitwise_right_shift(bits, 64 - count), (1 << count) - 1)


def _uniform(shape: tuple[Dim, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Uniform on [0, 1): multiples of 2**-count."""
    if dtype not in _UNIFORM_BITS:
        raise TypeRuleError(f"random floats need a float dtype, not {dtype}", user_location())
    count = _UNIFORM_BITS[dtype]
    return cast(_top_bits((generator or DEFAULT).draw(shape), count), dtype) * 2.0**-count


def _gaussian(shape: tuple[Dim, ...], dtype: DType, generator: Generator | None) -> Tensor:
    """Standard normal, by Box and Muller's method."""
    if dtype not in _UNIFORM_BITS:
        raise TypeRuleError(f"random floats need a float dtype, not {dtype}", user_location())
    from tjit.ops.math import log
    from tjit.ops.powers import sqrt
    from tjit.ops.trigonometry import cos

    draw = (generator or DEFAULT).draw
    if dtype is f64:
        bits = draw((2, *shape))
        first, second, count, wide = bits[0], _top_bits(bits[1], 53), 53, f64
        first = _top_bits(first, 53)
    else:
        bits = draw(shape)
        first, second, count, wide = _top_bits(bits, 32), bitwise_and(bits, _LOW), 32, f32
    u = cast(first + 1, wide) * 2.0**-count  # in (0, 1]: its log is finite
    angle = cast(second, wide) * (2.0**-count * 2 * np.pi)
    result = sqrt(log(u) * -2.0) * cos(angle)
    return result if dtype is wide else cast(result, dtype)


def _integers(shape: tuple[Dim, ...], low: int, high: int, generator: Generator | None) -> Tensor:
    """Uniform on low..high - 1, as i64."""
    from tjit.ops.arithmetic import remainder

    span = high - low
    bits = (generator or DEFAULT).draw(shape)
    if span <= 1 << 16:  # multiply and shift: off by less than 2**-16, without a division
        found = bitwise_right_shift(_top_bits(bits, 32) * span, 32)
    else:
        found = remainder(_top_bits(bits, 63), span)
    return found + low if low else found


def _float_dtype(dtype: Any) -> DType:
    return default_dtype() if dtype is None else as_dtype(dtype)


def _sizes(size: tuple[Any, ...], device: Any, ignored: dict[str, Any]) -> tuple[Dim, ...]:
    """The sizes of a call; its device and keywords are checked."""
    if "size" in ignored:
        size = (ignored.pop("size"),)
    refuse_unknown(ignored)
    usable_device(device)
    return as_shape(size)


@public(method=False)
def rand(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """Uniform on [0, 1); sizes as arguments or one tuple."""
    result = _uniform(_sizes(size, device, ignored), _float_dtype(dtype), generator)
    return result.requires_grad_() if requires_grad else result


@public(method=False)
def randn(
    *size: Any,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """Standard normal; sizes as arguments or one tuple."""
    result = _gaussian(_sizes(size, device, ignored), _float_dtype(dtype), generator)
    return result.requires_grad_() if requires_grad else result


@public(method=False)
def randint(
    low: int = 0,
    high: Any = None,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """Uniform integers on low..high - 1, i64 unless dtype is given; `randint(high, size)` starts at 0.

    Raises:
        TypeRuleError: low is not below high.
    """
    refuse_unknown(ignored)
    usable_device(device)
    if size is None and isinstance(high, (tuple, list)):
        low, high, size = 0, low, high
    elif high is None:
        low, high = 0, low
    if size is None:
        raise ArgumentError("randint needs a size", user_location())
    if low >= high:
        raise TypeRuleError(
            f"random expects 'from' to be less than 'to', but got from={low} >= to={high}", user_location()
        )
    result = cast(
        _integers(as_shape((size,)), int(low), int(high), generator), i64 if dtype is None else as_dtype(dtype)
    )
    return result.requires_grad_() if requires_grad else result


@public(method=False)
def rand_like(
    x: Tensor, *, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """`rand` of x's shape, and x's dtype unless given."""
    return rand(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, requires_grad=requires_grad, **ignored)


@public(method=False)
def randn_like(
    x: Tensor, *, dtype: Any = None, generator: Generator | None = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """`randn` of x's shape, and x's dtype unless given."""
    return randn(tuple(x.shape), dtype=dtype or x.dtype, generator=generator, requires_grad=requires_grad, **ignored)


@public(method=False)
def randint_like(
    x: Tensor,
    low: int,
    high: int | None = None,
    *,
    dtype: Any = None,
    generator: Generator | None = None,
    **ignored: Any,
) -> Tensor:
    """`randint` of x's shape, and x's dtype unless given."""
    low, high = (0, low) if high is None else (low, high)
    return randint(low, high, tuple(x.shape), dtype=dtype or x.dtype, generator=generator, **ignored)


@public(method=False)
def normal(
    mean: Any = 0.0,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    **ignored: Any,
) -> Tensor:
    """Normal of the given mean and spread, numbers or tensors that broadcast; numbers need a size.

    Raises:
        TypeRuleError: a negative spread.
        ArgumentError: two numbers without a size.
    """
    refuse_unknown(ignored)
    if not isinstance(std, Tensor) and std < 0:
        raise TypeRuleError(f"normal expects std >= 0.0, but found std {std}", user_location())
    given = [p for p in (mean, std) if isinstance(p, Tensor)]
    if size is None and not given:
        raise ArgumentError("normal of two numbers needs a size", user_location())
    shape = as_shape((size,)) if size is not None else broadcast_shapes(*(p.shape for p in given), what="normal")
    kind = as_dtype(dtype) if dtype is not None else given[0].dtype if given else default_dtype()
    return _gaussian(shape, kind, generator) * std + mean


@public()
def bernoulli(x: Tensor, p: float | None = None, *, generator: Generator | None = None) -> Tensor:
    """1 with the probability that x's element gives (or `p`), else 0; of x's dtype."""
    wide = x.dtype if x.dtype.is_floating_point else f32
    wide = f64 if wide is f64 else f32
    chance = x if p is None else p
    return cast(_uniform(tuple(x.shape), wide, generator) < chance, x.dtype)


@public(method=False)
def randperm(
    n: int,
    *,
    generator: Generator | None = None,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """A random permutation of 0..n - 1, i64 unless dtype is given."""
    refuse_unknown(ignored)
    usable_device(device)
    bits = (generator or DEFAULT).draw((n,))
    kind = i64 if dtype is None else as_dtype(dtype)
    if state.trace is None:
        result = Tensor(np.argsort(bits.array, kind="stable").astype(kind.numpy))
    else:
        result = cast(_argsort(bits), kind)
    return result.requires_grad_() if requires_grad else result


def _argsort(bits: Tensor) -> Tensor:
    from tjit.ops.public import FUNCTIONS

    if "argsort" not in FUNCTIONS:
        raise CaptureError(
            "randperm cannot be captured", user_location(), hint="call it outside of the compiled function"
        )
    return FUNCTIONS["argsort"](bits, stable=True)


@public()
def multinomial(
    x: Tensor, num_samples: int, replacement: bool = False, *, generator: Generator | None = None
) -> Tensor:
    """i64[*s, num_samples]: indices drawn with the weights in x's last dim.

    Args:
        x: f[*s, n] with at most two dims, not negative; rows need not sum to 1.

    Raises:
        TypeRuleError: bad weights, or more samples than a row has without replacement.
        CaptureError: a function is being captured.
    """
    refuse_capture("multinomial", "call it outside of the compiled function")
    weights = x.array.astype(np.float64)
    rows = np.atleast_2d(weights)
    if not (np.isfinite(rows).all() and (rows >= 0).all() and (rows.sum(-1) > 0).all()):
        raise TypeRuleError(
            "multinomial needs weights that are finite, not negative, and not all zero in a row", user_location()
        )
    if not replacement and num_samples > rows.shape[1]:
        raise TypeRuleError(
            f"cannot sample {num_samples} > {rows.shape[1]} elements without replacement", user_location()
        )
    pick = _with_replacement if replacement else _without_replacement
    found = pick(rows, num_samples, generator)
    return Tensor(found if x.ndim == 2 else found[0])


def _with_replacement(rows: np.ndarray, count: int, generator: Generator | None) -> np.ndarray:
    u = _uniform((len(rows), count), f64, generator).array
    edges = np.cumsum(rows, -1)
    scaled = u * edges[:, -1:]
    found = [np.searchsorted(e, v, side="right") for e, v in zip(edges, scaled, strict=True)]
    return np.minimum(np.array(found, np.int64).reshape(len(rows), count), rows.shape[1] - 1)


def _without_replacement(rows: np.ndarray, count: int, generator: Generator | None) -> np.ndarray:
    # the first arrivals of exponential clocks with the weights as rates are such a sample
    u = _uniform(rows.shape, f64, generator).array
    arrival = quietly(np.divide, -np.log1p(-u), rows)
    arrival[rows == 0] = np.inf
    return np.argsort(arrival, -1, kind="stable")[:, :count].astype(np.int64)


# In place


@public(function=False)
def uniform_(x: Tensor, low: float = 0.0, high: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill x with uniform numbers on [low, high)."""
    return assign(x, _uniform(tuple(x.shape), x.dtype, generator) * (high - low) + low)


@public(function=False)
def normal_(x: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill x with normal numbers."""
    return assign(x, _gaussian(tuple(x.shape), x.dtype, generator) * std + mean)


@public(function=False)
def random_(x: Tensor, low: int = 0, high: int | None = None, *, generator: Generator | None = None) -> Tensor:
    """Fill x with uniform integers on low..high - 1; `random_(high)` starts at 0."""
    limit = 1 << (
        _UNIFORM_BITS[x.dtype]
        if x.dtype in _UNIFORM_BITS
        else 1
        if x.dtype is bool_
        else min(x.dtype.bits - x.dtype.is_signed, 62)
    )
    if high is None:
        low, high = 0, (low or limit)
    return assign(x, cast(_integers(tuple(x.shape), low, high, generator), x.dtype))


@public(function=False)
def bernoulli_(x: Tensor, p: Any = 0.5, *, generator: Generator | None = None) -> Tensor:
    """Fill x with ones of probability p, and zeros."""
    p = broadcast_to(p, tuple(x.shape)) if isinstance(p, Tensor) else p
    return assign(x, cast(_uniform(tuple(x.shape), f32, generator) < p, x.dtype))


def _clock(x: Tensor, generator: Generator | None) -> Tensor:
    """Exponential numbers of rate 1, in f32 or f64."""
    from tjit.ops.math import log1p

    return -log1p(-_uniform(tuple(x.shape), f64 if x.dtype is f64 else f32, generator))


@public(function=False)
def exponential_(x: Tensor, lambd: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill x with exponential numbers of rate lambd."""
    return assign(x, cast(div(_clock(x, generator), lambd), x.dtype))


@public(function=False)
def geometric_(x: Tensor, p: float, *, generator: Generator | None = None) -> Tensor:
    """Fill x with the number of trials of probability p up to the first success."""
    from tjit.ops.rounding import ceil

    trials = ceil(div(_clock(x, generator), -float(np.log1p(-p))))
    return assign(x, cast(trials.clamp(min=1), x.dtype))


@public(function=False)
def cauchy_(x: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Generator | None = None) -> Tensor:
    """Fill x with Cauchy numbers."""
    from tjit.ops.trigonometry import tan

    u = _uniform(tuple(x.shape), f64 if x.dtype is f64 else f32, generator)
    return assign(x, cast(tan((u - 0.5) * np.pi) * sigma + median, x.dtype))


@public(function=False)
def log_normal_(x: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Generator | None = None) -> Tensor:
    """Fill x with numbers whose logarithm is normal."""
    from tjit.ops.math import exp

    wide = f64 if x.dtype is f64 else f32
    return assign(x, cast(exp(_gaussian(tuple(x.shape), wide, generator) * std + mean), x.dtype))
