"""Operands for an op, made from the samples of its record."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from tjit import dtypes
from tjit.dtypes import DType, as_dtype
from tjit.ir.op import OPS, Op, Sample

__all__ = ["Case", "all_cases", "dtypes_of", "operands", "operands_of", "parametrize_cases", "special_values"]

FLOATS = (dtypes.f64, dtypes.f32, dtypes.f16, dtypes.bf16)
INTS = (dtypes.i64, dtypes.i32, dtypes.i16, dtypes.i8, dtypes.u8)
_CLASSES: dict[str, tuple[DType, ...]] = {
    "float": FLOATS,
    "int": INTS,
    "number": FLOATS + INTS,
    "bool": (dtypes.bool_,),
    "integral": (dtypes.bool_, *INTS),
    "any": (*FLOATS, dtypes.bool_, *INTS),
}


@dataclass(frozen=True)
class Case:
    """An op with one of its samples."""

    op: Op
    sample: Sample
    number: int

    def __str__(self) -> str:
        return f"{self.op.name}{self.number}"


def dtypes_of(op: Op) -> tuple[DType, ...]:
    """The dtypes that the op's operands may have."""
    return _CLASSES[op.dtypes]


def all_cases(ops: Iterable[Op] | None = None) -> list[Case]:
    """Every sample of `ops`, by default of all but control flow, sorted by name."""
    chosen = sorted(OPS.values() if ops is None else ops, key=lambda op: op.name)
    return [Case(op, sample, i) for op in chosen if op.kind != "control" for i, sample in enumerate(op.samples)]


def parametrize_cases(cases: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", cases, ids=str)


def operands(case: Case, dtype: DType, rng: np.random.Generator) -> list[np.ndarray]:
    """Arrays in the sample's shapes and ranges; `dtype` where the sample leaves the dtype open."""
    return operands_of(case.sample, dtype, rng, case.sample.shapes)


def operands_of(
    sample: Sample, dtype: DType, rng: np.random.Generator, shapes: Sequence[tuple[int, ...]]
) -> list[np.ndarray]:
    """As `operands`, in other shapes."""
    arrays = []
    for i, shape in enumerate(shapes):
        own = sample.dtypes[i] if sample.dtypes else None
        low, high = sample.ranges[i] if sample.ranges else (sample.low, sample.high)
        arrays.append(_random(shape, dtype if own is None else as_dtype(own), low, high, rng))
    return arrays


def _random(shape: tuple[int, ...], dtype: DType, low: float, high: float, rng: np.random.Generator) -> np.ndarray:
    if dtype is dtypes.bool_:
        return np.asarray(rng.integers(0, 2, shape), np.bool_)
    if dtype.kind == "int":
        first = max(math.ceil(low), 0) if not dtype.is_signed else math.ceil(low)
        return np.asarray(rng.integers(first, max(math.floor(high), first) + 1, shape)).astype(dtype.numpy)
    return np.asarray(rng.uniform(low, high, shape)).astype(dtype.numpy)


def special_values(dtype: DType) -> np.ndarray:
    """Numbers at which functions are known to break, in any float or int dtype."""
    if dtype is dtypes.bool_:
        return np.array([False, True])
    if dtype.kind == "int":
        info = np.iinfo(dtype.numpy)
        signed = (-1, -2, -7) if dtype.is_signed else ()
        return np.array([info.min, info.min + 1, info.max, 0, 1, 2, 3, 7, 63, *signed]).astype(dtype.numpy)
    info: Any = ml_dtypes.finfo(dtype.numpy)
    limits = [float(v) for v in (info.smallest_subnormal, info.smallest_normal, info.max, info.eps)]
    some = [0.0, math.inf, 0.25, 0.5, 1.0, 1.5, 2.0, 2.5, 3.0, 7.0, 20.0, 100.0, 1e4, *limits]
    return np.array([math.nan, *some, *(-v for v in some)]).astype(dtype.numpy)
