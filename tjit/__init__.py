"""tjit: a tensor library with a compiler in it. Names and behaviour are PyTorch 2.13's; `compile` is what it adds."""

from __future__ import annotations

import sys
from importlib import import_module
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

# Modules and functions that most programs do not need at once: imported when they are first named.
_LAZY = {
    "compile": "tjit.compile",
    "explain": "tjit.inspect",
    "export": "tjit.export",
    "jit": None,
    "linalg": None,
    "nn": None,
    "onnx": None,
    "optim": None,
    "random": None,
    "set_num_threads": "tjit.runtime",
    "testing": None,
    "utils": None,
    "vectorize": "tjit.vectorize",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'tjit' has no attribute {name!r}")
    home = _LAZY[name]
    try:
        found = import_module(f"tjit.{name}") if home is None else getattr(import_module(home), name)
    except ModuleNotFoundError as error:
        if error.name is None or not error.name.startswith("tjit"):
            raise
        raise AttributeError(f"module 'tjit' has no attribute {name!r}") from None
    globals()[name] = found
    return found


class _Package(ModuleType):
    """tjit.compile and tjit.export are functions, although modules of these names exist."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in _LAZY and _LAZY[name] is not None and isinstance(value, ModuleType):
            value = getattr(value, name, value)
        super().__setattr__(name, value)


sys.modules[__name__].__class__ = _Package

__all__ = sorted(
    {
        *FUNCTIONS, *_DTYPES, *_NUMBERS, *_LAZY,
        "Generator", "Size", "Tensor", "__version__", "autograd", "cuda", "device", "dtype", "enable_grad", "errors",
        "finfo", "get_default_dtype", "get_printoptions", "get_rng_state", "iinfo", "inference_mode", "initial_seed",
        "is_grad_enabled", "is_tensor", "load", "manual_seed", "no_grad", "printoptions", "promote_types", "result_type",
        "save", "seed", "set_default_dtype", "set_grad_enabled", "set_printoptions", "set_rng_state", "strided",
    }
)  # fmt: skip
globals().update(FUNCTIONS | _DTYPES | _NUMBERS)
