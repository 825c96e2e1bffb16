"""save and load: tensors and containers of them, as pickles that are read without running foreign code."""

from __future__ import annotations

import os
import pickle
from typing import Any, BinaryIO

from tjit.errors import PackageError

__all__ = ["load", "save"]

_File = str | os.PathLike[str] | BinaryIO


def save(obj: Any, f: _File) -> None:
    """Write `obj`, for example a state_dict, to a path or an open binary file."""
    if isinstance(f, (str, os.PathLike)):
        with open(f, "wb") as file:
            save(obj, file)
        return
    pickle.dump(obj, f, protocol=4)


def load(f: _File, map_location: Any = None, *, weights_only: bool = True) -> Any:
    """What `save` wrote, or the package that `export` wrote.

    Args:
        map_location: accepted for PyTorch's sake: tensors are loaded to the CPU.
        weights_only: refuse all but tensors, numbers, strings and containers. False runs code that the file names.

    Raises:
        PackageError: the file is neither, or holds what `weights_only` refuses.
    """
    if isinstance(f, (str, os.PathLike)):
        with open(f, "rb") as file:
            head = file.read(2)
        if head[:1] != b"\x80":  # a pickle starts with its protocol
            from tjit.export import load as load_package

            return load_package(f)
        with open(f, "rb") as file:
            return load(file, map_location, weights_only=weights_only)
    reader = _TensorsOnly if weights_only else pickle.Unpickler
    try:
        return reader(f).load()
    except (pickle.UnpicklingError, EOFError) as error:
        raise PackageError(f"cannot load: {error}") from None


_ALLOWED = {
    ("builtins", "complex"), ("builtins", "set"), ("builtins", "frozenset"), ("builtins", "slice"),
    ("builtins", "range"),
    ("collections", "OrderedDict"), ("collections", "defaultdict"), ("collections", "Counter"),
    ("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
    ("numpy._core.numeric", "_frombuffer"), ("numpy.core.numeric", "_frombuffer"),
    ("ml_dtypes", "bfloat16"), ("ml_dtypes._ml_dtypes_ext", "bfloat16"),
    ("tjit.surface", "_rebuilt"), ("tjit.tensor", "Tensor"), ("tjit.tensor", "Size"),
    ("tjit.nn.parameter", "Parameter"),
    ("tjit.dtypes", "as_dtype"), ("tjit.devices", "Device"), ("tjit.ops.random", "Generator"),
}  # fmt: skip


class _TensorsOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise PackageError(
            f"the file holds {module}.{name}, which is more than tensors and containers",
            hint="pass weights_only=False if you trust where the file comes from: it can run code",
        )
