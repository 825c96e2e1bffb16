"""Weights as safetensors bytes, laid out so that a program can use most of them where they lie.

safetensors allows no gaps between tensors. Those whose size is a multiple of 64 bytes come first and so start at
multiples of 64 from the start of the data; the others follow, wider elements first, so that each is aligned to its
element.

Source: https://github.com/huggingface/safetensors, README, "Format".
"""

from __future__ import annotations

import json
from collections.abc import Mapping

import numpy as np

from tjit import dtypes
from tjit.dtypes import DType
from tjit.errors import PackageError

__all__ = ["offsets", "read_weights", "write_weights"]

_NAMES = {
    dtypes.bool_: "BOOL", dtypes.u8: "U8", dtypes.i8: "I8", dtypes.i16: "I16", dtypes.i32: "I32", dtypes.i64: "I64",
    dtypes.f16: "F16", dtypes.bf16: "BF16", dtypes.f32: "F32", dtypes.f64: "F64",
}  # fmt: skip
_DTYPES: dict[str, DType] = {name: dtype for dtype, name in _NAMES.items()}


def write_weights(arrays: Mapping[str, np.ndarray]) -> bytes:
    """The bytes of a safetensors file; its data starts at a multiple of 64."""
    header: dict[str, object] = {}
    chunks: list[bytes] = []
    at = 0
    for name, array in sorted(arrays.items(), key=_order):
        data = np.ascontiguousarray(array).tobytes()
        entry = {"dtype": _NAMES[dtypes.from_numpy(array.dtype)], "shape": list(array.shape)}
        header[name] = {**entry, "data_offsets": [at, at + len(data)]}
        chunks.append(data)
        at += len(data)
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-(8 + len(text)) % 64)
    return len(text).to_bytes(8, "little") + text + b"".join(chunks)


def _order(item: tuple[str, np.ndarray]) -> tuple[bool, int]:
    _, array = item
    return array.nbytes % 64 != 0, -array.dtype.itemsize


def offsets(data: bytes) -> dict[str, tuple[int, int]]:
    """Where each tensor of safetensors bytes starts and how many bytes it has, from the start of `data`."""
    start = 8 + int.from_bytes(data[:8], "little")
    return {
        name: (start + entry["data_offsets"][0], entry["data_offsets"][1] - entry["data_offsets"][0])
        for name, entry in json.loads(data[8:start]).items()
        if name != "__metadata__"
    }


def read_weights(data: bytes, what: str) -> dict[str, np.ndarray]:
    """The arrays of safetensors bytes: own, writable memory.

    Raises:
        PackageError: the bytes are damaged; `what` names them.
    """
    try:
        entries = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        result: dict[str, np.ndarray] = {}
        for name, (start, size) in offsets(data).items():
            dtype = _DTYPES[entries[name]["dtype"]].numpy
            if not 0 <= start <= start + size <= len(data):
                raise ValueError(f"{name} lies outside of the data")
            result[name] = np.frombuffer(bytearray(data[start : start + size]), dtype).reshape(entries[name]["shape"])
        return result
    except (ValueError, KeyError, TypeError, AttributeError, IndexError) as error:
        raise PackageError(f"{what} are no weights in safetensors' format: {error}") from None
