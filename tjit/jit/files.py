"""Scripted modules in files: packages of tjit.export, which C programs read too."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from typing import Any

from tjit.devices import as_device
from tjit.errors import ArgumentError, PackageError
from tjit.export import export
from tjit.export import load as load_package
from tjit.export.loader import Package
from tjit.jit.script import ScriptFunction, ScriptModule, forward_arguments
from tjit.jit.text import ScriptGraph
from tjit.location import user_location
from tjit.nn.module import Module
from tjit.nn.parameter import Parameter
from tjit.tensor import Tensor

__all__ = ["LoadedModule", "load", "save"]


def save(m: Any, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
    """Write a scripted or traced function or module: graph, machine code and weights, with a C header beside it.

    Args:
        f: path, or a file opened for writing bytes.
        _extra_files: {name: text or bytes} to carry along.

    Raises:
        ArgumentError: `m` is not scripted or traced.
        CaptureError: it was never called, so that the types of its arguments are not known.
    """
    if isinstance(m, LoadedModule):
        m.save(f)
        return
    if not isinstance(m, (ScriptFunction, ScriptModule)):
        raise ArgumentError(
            f"tjit.jit.save takes what tjit.jit.script or trace returns, not {type(m).__name__}",
            user_location(),
            hint="tjit.save writes state_dicts",
        )
    compiled, names = forward_arguments(m)
    args, kwargs = compiled.known("save").arguments()
    if kwargs:
        raise ArgumentError("save needs a call with positional arguments before", user_location())
    dims = compiled.known("save").dims(names)
    fn = m._original if isinstance(m, ScriptModule) and m._original is not m else compiled.compiled
    parameters = {n: p.requires_grad for n, p in m.named_parameters()} if isinstance(m, ScriptModule) else {}
    metadata = {"parameters": parameters, "training": getattr(m, "training", False)}
    options = {"dynamic": dims or None, "extra_files": _extra_files, "metadata": metadata}
    if isinstance(f, (str, os.PathLike)):
        export(fn, args, f, **options)
        return
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "module.pt")
        export(fn, args, path, **options)
        with open(path, "rb") as file:
            f.write(file.read())


def load(f: Any, map_location: Any = None, _extra_files: dict[str, Any] | None = None) -> LoadedModule:
    """What `save` wrote; its class is not needed.

    Args:
        f: path, or a file opened for reading bytes.
        map_location: a device; tensors lie on the CPU.
        _extra_files: {name: anything}, whose values become those in the file, as bytes.

    Raises:
        PackageError: the file is no package, or is damaged.
        ArgumentError: another device than the CPU.
    """
    if map_location is not None and not callable(map_location) and as_device(map_location).type != "cpu":
        raise ArgumentError(f"packages run on the CPU, not on {map_location}", user_location())
    package = load_package(f) if isinstance(f, (str, os.PathLike)) else Package(f.read())
    for name in _extra_files or ():
        if name not in package.extra_files:
            raise PackageError(f"the file has no extra file {name!r}")
        assert _extra_files is not None
        _extra_files[name] = package.extra_files[name]
    return LoadedModule(package)


class LoadedModule(Module):
    """A module from a file. Calls run the machine code that is in it."""

    def __init__(self, package: Package) -> None:
        super().__init__()
        object.__setattr__(self, "_package", package)
        (name, *_) = package.entries
        object.__setattr__(self, "_entry", package[name])
        metadata = package.metadata if isinstance(package.metadata, dict) else {}
        object.__setattr__(self, "_trained", metadata.get("parameters", {}))
        object.__setattr__(self, "training", bool(metadata.get("training", False)))

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program."""
        return self._entry(*args, **kwargs)

    def _tensors(self) -> dict[str, Tensor]:
        return {n: Tensor(a) for n, a in self._package._state.items()}

    def named_parameters(self, *_: Any, **__: Any) -> Iterator[tuple[str, Parameter]]:
        """The parameters: tensors on the memory that the program reads."""
        for name, tensor in self._tensors().items():
            if name in self._trained:
                yield name, Parameter(tensor, requires_grad=self._trained[name])

    def parameters(self, recurse: bool = True) -> Iterator[Parameter]:
        return (p for _, p in self.named_parameters())

    def named_buffers(self, *_: Any, **__: Any) -> Iterator[tuple[str, Tensor]]:
        for name, tensor in self._tensors().items():
            if name not in self._trained:
                yield name, tensor

    def buffers(self, recurse: bool = True) -> Iterator[Tensor]:
        return (b for _, b in self.named_buffers())

    def state_dict(self, *_: Any, **__: Any) -> dict[str, Tensor]:
        return self._package.state_dict()

    def load_state_dict(self, state_dict: Any, strict: bool = True, **_: Any) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        self._package.load_state_dict(state_dict, strict)

    @property
    def graph(self) -> ScriptGraph:
        return ScriptGraph(self._package.graph(self._entry.name))

    @property
    def code(self) -> str:
        return self.graph.code()

    def save(self, f: Any, _extra_files: dict[str, Any] | None = None) -> None:
        """Write the package with the weights as they are now."""
        self._package.save(f)
