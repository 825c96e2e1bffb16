"""Imports go down only: a module imports at its top nothing from a layer above its own."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import tjit

ROOT = Path(tjit.__file__).parent

# From the bottom to the top. Modules of one line may import each other.
LAYERS = (
    ("dataclass",),
    ("location",),
    ("quiet",),
    ("recording",),
    ("errors",),
    ("dtypes", "devices"),
    ("config",),
    ("ir",),
    # what a tensor is, and what can be done with one
    ("ops", "tensor", "autograd", "random", "printing", "surface", "numpy_protocol", "numpy_api", "serialization"),
    ("cuda",),
    ("capture",),
    (
        "autograd.compiled",
        "autograd.control",
        "autograd.minimum_cut",
        "autograd.split",
    ),  # the gradients of captured functions
    ("passes",),
    ("codegen",),
    ("runtime",),
    ("nn",),
    ("optim",),
    ("frozen", "stages", "compiled", "native_calls", "compile"),
    ("export",),
    ("inspect", "jit", "vectorize", "testing", "utils", "onnx", "profiler"),
    ("cli", "__main__"),
    ("__init__",),
)

# Imports that go up, each with its reason. An entry that no longer happens fails the test.
ALLOWED = {
    ("codegen.llvm.module", "runtime"): "objects are linked to an Image, which the runtime defines and loads",
    ("codegen.llvm.entry", "runtime.entry_layout"): "the entry is emitted for the records that the runtime fills",
    ("codegen.llvm.entry_fits", "runtime.entry_layout"): "likewise",
    ("codegen.llvm.entry_module", "runtime.entry_layout"): "likewise",
    ("codegen.llvm.entry_run", "runtime.entry_layout"): "likewise",
}


def _modules() -> Iterator[tuple[str, Path]]:
    for folder, _, files in os.walk(ROOT, followlinks=True):
        for path in (Path(folder, file) for file in files if file.endswith(".py")):
            parts = path.relative_to(ROOT).with_suffix("").parts
            yield ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts), path


def _imported(tree: ast.AST) -> Iterator[str]:
    """Names under tjit that are imported when the module is, so not those inside functions or for types only."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            continue
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "tjit":
            inner = node.module.removeprefix("tjit").removeprefix(".")
            yield from [inner] if inner else [alias.name for alias in node.names]
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("tjit.") for a in node.names if a.name.startswith("tjit."))
        yield from _imported(node)


def _layer(module: str) -> int | None:
    """The layer whose longest name is the module's or contains it."""
    found = [(len(name), n) for n, names in enumerate(LAYERS) for name in names if f"{module}.".startswith(f"{name}.")]
    return max(found)[1] if found else None


def _upward() -> set[tuple[str, str]]:
    found = set()
    for module, path in _modules():
        own = _layer(module)
        for target in _imported(ast.parse(path.read_text())):
            theirs = _layer(target)
            if own is not None and theirs is not None and theirs > own:
                found.add((module, target))
    return found


def test_every_module_has_a_layer():
    without = [module for module, _ in _modules() if _layer(module) is None]

    assert not without, "name their layer in LAYERS"


def test_imports_go_down_only():
    upward = {(m, t) for m, t in _upward() if not any(m == a and f"{t}.".startswith(f"{b}.") for a, b in ALLOWED)}

    assert not upward


def test_every_allowed_import_happens():
    upward = _upward()

    unused = [
        pair for pair in ALLOWED if not any(pair[0] == m and f"{t}.".startswith(f"{pair[1]}.") for m, t in upward)
    ]
    assert not unused


def test_importing_the_package_does_not_need_a_backend():
    heavy = {"llvmlite", "numba", "triton", "scipy"}
    for module, path in _modules():
        if module.startswith(("codegen", "vectorize")):
            continue
        names = {n.split(".")[0] for n in _outside(ast.parse(path.read_text()))}
        assert not names & heavy, module


def _outside(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        if isinstance(node, ast.Import):
            yield from (a.name for a in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
        yield from _outside(node)
