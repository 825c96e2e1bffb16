"""The ops, one file a family. Importing this package fills the registry and gives `Tensor` its methods."""

from __future__ import annotations

import importlib
import importlib.util

from tjit.ops import elementwise as elementwise
from tjit.ops import movement as movement
from tjit.ops import operators as operators
from tjit.ops import reduce as reduce
from tjit.ops.public import attach_methods

for _name in ("creation", "shape", "index", "contract"):
    if importlib.util.find_spec(f"tjit.ops.{_name}") is not None:
        importlib.import_module(f"tjit.ops.{_name}")

attach_methods()
