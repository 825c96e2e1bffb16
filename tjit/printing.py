"""The printed form of tensors: PyTorch 2.13's, character for character."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from typing import Any

import numpy as np

from tjit.dataclass import dataclass
from tjit.dtypes import bool_, default_dtype, i64
from tjit.errors import ArgumentError
from tjit.quiet import quietly
from tjit.tensor import Tensor, attach

__all__ = ["format_tensor", "get_printoptions", "printoptions", "set_printoptions"]


@dataclass(frozen=True)
class _Options:
    precision: int = 4
    threshold: float = 1000
    edgeitems: int = 3
    linewidth: int = 80
    sci_mode: bool | None = None


_PROFILES = {
    "default": _Options(),
    "short": _Options(precision=2, edgeitems=2),
    "full": _Options(threshold=math.inf),
}

_options = _Options()


def set_printoptions(
    precision: int | None = None,
    threshold: float | None = None,
    edgeitems: int | None = None,
    linewidth: int | None = None,
    profile: str | None = None,
    sci_mode: bool | None = None,
) -> None:
    """Set how tensors print; what is None stays, but for sci_mode.

    Args:
        precision: digits after the point (4).
        threshold: number of elements above which the middle is left out (1000).
        edgeitems: how many are printed at each end of a dim then (3).
        linewidth: characters of a line (80).
        profile: "default", "short" or "full": a start for the others.
        sci_mode: scientific notation always (True), never (False), or where numbers need it (None).

    Raises:
        ArgumentError: no such profile.
    """
    global _options
    if profile is not None and profile not in _PROFILES:
        raise ArgumentError(f"no print profile {profile!r}", hint="use 'default', 'short' or 'full'")
    base = _options if profile is None else _PROFILES[profile]
    given = {"precision": precision, "threshold": threshold, "edgeitems": edgeitems, "linewidth": linewidth}
    _options = replace(base, **{k: v for k, v in given.items() if v is not None}, sci_mode=sci_mode)


def get_printoptions() -> dict[str, Any]:
    """How tensors print, as `set_printoptions` takes it."""
    return asdict(_options)


@contextmanager
def printoptions(**options: Any) -> Iterator[None]:
    """Print options for a `with` block."""
    global _options
    before = _options
    set_printoptions(**options)
    try:
        yield
    finally:
        _options = before


# Numbers


class _Format:
    """How the numbers of one tensor print: all in one way and one width."""

    def __init__(self, values: np.ndarray, is_float: bool) -> None:
        self.spec = ""
        self.tail = ""
        self.width = 1
        flat = values.reshape(-1)
        if is_float:
            self.spec, self.tail = ".0f", "."
            flat = flat.astype(np.float64)
            flat = flat[np.isfinite(flat) & (flat != 0)]
            if flat.size:
                self.choose(flat)
        self.width = max((len(self.text(v)) for v in flat.tolist()), default=1)

    def choose(self, finite: np.ndarray) -> None:
        """Integers with a point, a fixed number of digits, or powers of ten."""
        small, large = np.abs(finite).min(), np.abs(finite).max()
        wide = bool(quietly(np.divide, large, small) > 1000 or large > 1e8 or small < 1e-4)
        scientific = wide if _options.sci_mode is None else _options.sci_mode
        if scientific:
            self.spec, self.tail = f".{_options.precision}e", ""
        elif not (finite == np.ceil(finite)).all():
            self.spec, self.tail = f".{_options.precision}f", ""

    def text(self, value: bool | int | float) -> str:
        tail = self.tail if self.tail and math.isfinite(value) else ""
        return f"{format(value, self.spec) if self.spec else value}{tail}".rjust(self.width)


# Layout


def _shown(array: np.ndarray) -> np.ndarray:
    """The elements that a summary shows."""
    edge = _options.edgeitems
    for axis, extent in enumerate(array.shape):
        if extent > 2 * edge:
            keep = [*range(edge), *range(extent - edge, extent)]
            array = np.take(array, keep, axis)
    return array


def _row(values: np.ndarray, indent: int, summarize: bool, form: _Format) -> str:
    edge = _options.edgeitems
    if summarize and len(values) > 2 * edge:
        texts = [form.text(v) for v in values[:edge].tolist()] + [" ..." if edge else "..."]
        texts += [form.text(v) for v in values[len(values) - edge :].tolist()]
    else:
        texts = [form.text(v) for v in values.tolist()]
    per_line = max(1, (_options.linewidth - indent) // (form.width + 2))
    lines = [", ".join(texts[i : i + per_line]) for i in range(0, len(texts), per_line)]
    return "[" + (",\n" + " " * (indent + 1)).join(lines) + "]"


def _nested(array: np.ndarray, indent: int, summarize: bool, form: _Format) -> str:
    if array.ndim == 0:
        return form.text(array.item())
    if array.ndim == 1:
        return _row(array, indent, summarize, form)
    edge = _options.edgeitems
    short = summarize and len(array) > 2 * edge
    shown = [*range(edge), *range(len(array) - edge, len(array))] if short else range(len(array))
    parts = [_nested(array[i], indent + 1, summarize, form) for i in shown]
    if short:
        parts.insert(edge, "...")
    return "[" + ("," + "\n" * (array.ndim - 1) + " " * (indent + 1)).join(parts) + "]"


def _elements(array: np.ndarray, is_float: bool, indent: int) -> str:
    if not array.size:
        return "[]"
    summarize = array.size > _options.threshold
    form = _Format(_shown(array) if summarize else array, is_float)
    return _nested(array, indent, summarize, form)


def _suffixes(x: Tensor) -> list[str]:
    found = [] if x.device.type == "cpu" else [f"device='{x.device}'"]
    if x.numel() == 0:
        if x.ndim != 1:
            found.append(f"size={tuple(x.shape)}")
        plain = x.dtype is default_dtype()
    else:
        plain = x.dtype in (default_dtype(), i64, bool_)
    if not plain:
        found.append(f"dtype={x.dtype!r}")
    if x._grad_fn is not None:
        found.append(f"grad_fn={x._grad_fn!r}")
    elif x.requires_grad:
        found.append("requires_grad=True")
    return found


def format_tensor(x: Tensor) -> str:
    """The text of repr(x) and str(x)."""
    prefix = "tensor("
    if x.is_traced:
        return f"{prefix}<traced {x.type_}>)"
    text = prefix + _elements(x.array, x.dtype.is_floating_point, len(prefix))
    length = len(text) - text.rfind("\n") + 1  # two more than the line has, as PyTorch counts
    for suffix in _suffixes(x):
        if length + len(suffix) + 2 > _options.linewidth:
            text += ",\n" + " " * len(prefix) + suffix
            length = len(prefix) + len(suffix)
        else:
            text += ", " + suffix
            length += len(suffix) + 2
    return text + ")"


attach(__repr__=format_tensor, __str__=format_tensor)
