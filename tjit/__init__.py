"""tjit: a tensor library with a compiler in it."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

from tjit import errors
from tjit.autograd.tape import enable_grad, grad, is_grad_enabled, no_grad, set_grad_enabled
from tjit.devices import Device as device
from tjit.dtypes import DType as dtype
from tjit.dtypes import set_default_dtype
from tjit.ops.public import FUNCTIONS, attach_methods
from tjit.tensor import Size, Tensor

for _family in ("creation", "movement", "elementwise", "reduce", "operators", "shape", "index", "indexing", "contract", "composite", "random"):
    if find_spec(f"tjit.ops.{_family}"):
        import_module(f"tjit.ops.{_family}")
from tjit.random import Generator, get_rng_state, initial_seed, manual_seed, seed, set_rng_state
import_module("tjit.surface")
from tjit.printing import get_printoptions, printoptions, set_printoptions
attach_methods()
globals().update(FUNCTIONS)

from tjit.dtypes import bf16 as bfloat16
from tjit.dtypes import bool_ as bool
from tjit.dtypes import f16 as float16
from tjit.dtypes import f32 as float32
from tjit.dtypes import f64 as float64
from tjit.dtypes import i8 as int8
from tjit.dtypes import i16 as int16
from tjit.dtypes import i32 as int32
from tjit.dtypes import i64 as int64
from tjit.dtypes import u8 as uint8

half, float, double, short, int, long = float16, float32, float64, int16, int32, int64
