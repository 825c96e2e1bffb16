"""The ops, one file a family. Importing this package fills the registry and gives `Tensor` its methods."""

from __future__ import annotations

from tjit.ops import (
    composite,
    contract,
    control,
    conv,
    convolution,
    creation,
    differences,
    elementwise,
    index,
    indexing,
    movement,
    operators,
    order,
    pooling,
    products,
    random,
    reduce,
    scans,
    search,
    shape,
    sort,
)
from tjit.ops.public import attach_methods

__all__ = [
    "composite", "contract", "control", "conv", "convolution", "creation", "differences", "elementwise", "index",
    "indexing", "movement", "operators", "order", "pooling", "products", "random", "reduce", "scans", "search",
    "shape", "sort",
]  # fmt: skip

attach_methods()
