"""tjit: a tensor library with a compiler in it. Names and behaviour are PyTorch 2.13's; `compile` is what it adds."""

# ruff: noqa: F401 - the imports are the public names, which __all__ lists

from __future__ import annotations

import sys
from importlib import import_module
from importlib.util import find_spec
from pkgutil import iter_modules
from types import ModuleType
from typing import Any

from tjit import autograd, cuda, dtypes, errors, ops
from tjit.autograd.tape import enable_grad, inference_mode, is_grad_enabled, no_grad, set_grad_enabled
from tjit.devices import Device as device
from tjit.dtypes import DType as dtype
from tjit.dtypes import default_dtype as get_default_dtype
from tjit.dtypes import finfo, iinfo, promote_types, set_default_dtype
from tjit.ops.public import FUNCTIONS, attach_methods
from tjit.printing import get_printoptions, printoptions, set_printoptions
from tjit.serialization import load, save
from tjit.surface import is_tensor, result_type, strided
from tjit.tensor import Size, Tensor

for _family in iter_modules(ops.__path__):  # importing a family registers its ops, functions and methods
    import_module(f"tjit.ops.{_family.name}")
import_module("tjit.numpy_protocol")
attach_methods()

from tjit.random import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state  # noqa: E402

__version__ = "0.1.0"

_DTYPES = {t.long_name: t for t in dtypes.DTYPES}
_DTYPES |= {
    "half": dtypes.f16,
    "float": dtypes.f32,
    "double": dtypes.f64,
    "short": dtypes.i16,
    "int": dtypes.i32,
    "long": dtypes.i64,
}
_NUMBERS = {"pi": 3.141592653589793, "e": 2.718281828459045, "inf": float("inf"), "nan": float("nan"), "newaxis": None}

# Functions that most programs do not need at once, and where they are; imported when they are first named, as are the
# modules of tjit that are not imported above (nn, optim, testing, ...).
_LAZY = {
    "Dim": "tjit.capture.declared",
    "checkpointed": "tjit.utils.checkpoint",
    "compile": "tjit.compile",
    "explain": "tjit.inspect",
    "export": "tjit.export",
}


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        found = getattr(import_module(_LAZY[name]), name)
    elif not name.startswith("_") and find_spec(f"tjit.{name}") is not None:
        found = import_module(f"tjit.{name}")
    else:
        raise AttributeError(f"module 'tjit' has no attribute {name!r}", name=name, obj=sys.modules[__name__])
    globals()[name] = found
    return found


class _Package(ModuleType):
    """tjit.compile and tjit.export are functions, although modules of these names exist."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LAZY and isinstance(value, ModuleType):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

__all__ = sorted(  # pyright: ignore[reportUnsupportedDunderAll]  # names come from the registry
    {
        *FUNCTIONS, *_DTYPES, *_NUMBERS, *_LAZY,
        "Generator", "Size", "Tensor", "__version__", "autograd", "cuda", "device", "dtype", "enable_grad", "errors",
        "finfo", "get_default_dtype", "get_printoptions", "get_rng_state", "iinfo", "inference_mode", "initial_seed",
        "is_grad_enabled", "is_tensor", "load", "manual_seed", "nn", "no_grad", "optim", "printoptions",
        "profiler", "promote_types", "random", "result_type", "save", "seed", "set_default_dtype", "set_grad_enabled",
        "set_printoptions", "set_rng_state",         "strided", "testing",
    }
)  # fmt: skip
globals().update(FUNCTIONS | _DTYPES | _NUMBERS)
