"""Export: compiled programs as one file that runs without Python (docs/export.md)."""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping, Sequence
from typing import Any

from tjit.errors import ArgumentError, located
from tjit.export.dims import Dim
from tjit.export.loader import EntryPoint, Package, load

__all__ = ["Dim", "EntryPoint", "Package", "export", "load"]


@located
def export(
    fn: Any,
    example_inputs: Any = None,
    path: str | os.PathLike[str] | None = None,
    *,
    targets: Sequence[str] = ("host",),
    dynamic: Any = None,
    name: str | None = None,
    extra_files: Mapping[str, str | bytes] | None = None,
    metadata: Any = None,
) -> Package:
    """Write a package: machine code, weights and graph of `fn` in one file, with a C header beside it.

    Every tensor that `fn` uses and does not take as an argument is state of the package: parameters, optimizer state,
    buffers, the random generator, and numbers such as a learning rate. Calls update the state that `fn` updates.
    `.grad` is no result; it is state only where a call reads what the call before left.

    Args:
        fn: a function, a compiled function, or a Module. Or a dict {entry point: (fn, example_inputs)} whose entry
            points share state; pass the path second then, or by name.
        example_inputs: arguments of a call, in a tuple or list; or the one argument. Of arrays only the type matters;
            Python values are fixed.
        path: of the file; ".tjit" by custom. The header is written as NAME.h into the same folder.
        targets: "host" (the best level of this machine), "x86-64", "x86-64-v3", "x86-64-v4", "aarch64". A loader takes
            the best that the processor supports.
        dynamic: {argument: {dim: tjit.Dim("batch", min=1, max=1024)}}; True makes every dim dynamic. For several entry
            points one that serves all, each taking what names its arguments.
        name: of the package; the prefix of the C functions. Default: the file's name.
        extra_files: {name: text or bytes} to carry along.
        metadata: anything that JSON has.

    Returns:
        The package, loaded from the file.

    Raises:
        CaptureError: `fn` cannot be captured, or not with these dynamic dims.
        ArgumentError: an argument does not fit.
    """
    from tjit.export.build import build_sections
    from tjit.export.entry import capture_entry
    from tjit.export.package import pack
    from tjit.export.state import gather_state
    from tjit.export.targets import resolve_targets

    if isinstance(fn, Mapping) and path is None:
        example_inputs, path = None, example_inputs
    if not isinstance(path, (str, os.PathLike)):
        raise ArgumentError(f"export needs the path of the file to write, not {path!r}")
    path = os.fspath(path)
    name = os.path.splitext(os.path.basename(path))[0] if name is None else name
    if not name or os.path.basename(name) != name:
        raise ArgumentError(f"a package's name is one of a file, not {name!r}")
    wanted = _entries(fn, example_inputs)
    levels = resolve_targets(targets)
    entries = [capture_entry(n, f, x, _own(dynamic, f, len(wanted))) for n, (f, x) in wanted.items()]
    files = {n: v.encode() if isinstance(v, str) else bytes(v) for n, v in (extra_files or {}).items()}
    data = pack(build_sections(name, entries, gather_state(entries), levels, files, metadata))
    _write(path, data)
    package = load(path)
    with open(os.path.join(os.path.dirname(path), f"{name}.h"), "w", encoding="utf-8") as file:
        file.write(package.header())
    return package


def _entries(fn: Any, example_inputs: Any) -> dict[str, tuple[Any, Any]]:
    if not isinstance(fn, Mapping):
        name = getattr(fn, "__name__", "forward")
        return {name if name.isidentifier() else "main": (fn, () if example_inputs is None else example_inputs)}
    for name, pair in fn.items():
        if not isinstance(name, str) or not name.isidentifier() or not isinstance(pair, tuple) or len(pair) != 2:
            raise ArgumentError(
                f"an entry point is an identifier: (function, example inputs), not {name!r}: {type(pair).__name__}"
            )
    if not fn:
        raise ArgumentError("export needs at least one entry point")
    return dict(fn)


def _own(dynamic: Any, fn: Any, entries: int) -> Any:
    """Of the arguments that `dynamic` names, those of `fn`, where there are several entry points."""
    if entries == 1 or not isinstance(dynamic, Mapping):
        return dynamic
    import inspect

    function = getattr(fn, "_tjit_function", fn)
    parameters = inspect.signature(getattr(function, "forward", function)).parameters
    return {
        name: dims for name, dims in dynamic.items() if any(name == p or name.startswith(f"{p}_") for p in parameters)
    }


def _write(path: str, data: bytes) -> None:
    """All or nothing: a reader never sees half a file."""
    partial = f"{path}.{os.getpid()}.part"
    try:
        with open(partial, "wb") as file:
            file.write(data)
        os.replace(partial, path)
    except FileNotFoundError:
        raise FileNotFoundError(errno.ENOENT, "there is no such folder to export to", os.path.dirname(path)) from None
    finally:
        if os.path.exists(partial):
            os.remove(partial)
