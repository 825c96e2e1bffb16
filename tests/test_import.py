"""What `import tjit` brings, and what it leaves for later."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import pytest

import tjit
from tjit.runtime import preload

ROOT = Path(__file__).resolve().parent.parent


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout


def test_import_leaves_compilers_alone():
    loaded = run("import sys, tjit; print(*sys.modules)").split()

    heavy = {"llvmlite", "numba", "triton", "torch", "scipy", "sympy", "cupy", "safetensors", "onnx"}
    assert heavy.isdisjoint(name.partition(".")[0] for name in loaded)
    assert not {"tjit.nn", "tjit.optim", "tjit.compile", "tjit.codegen", "tjit.passes", "tjit.export"} & set(loaded)


def test_all_is_sorted_and_every_name_is_there():
    assert tjit.__all__ == sorted(set(tjit.__all__))
    for name in tjit.__all__:
        assert getattr(tjit, name, None) is not None or name == "newaxis", name


def test_public_names_are_all_listed():
    listed = {*tjit.__all__, "ops", "dtypes", "_LAZY"}
    found = {n for n, v in vars(tjit).items() if not n.startswith("_") and getattr(v, "__module__", "tjit") != "tjit"}

    internal = {
        "annotations",
        "sys",
        "find_spec",
        "import_module",
        "iter_modules",
        "ModuleType",
        "Any",
        "FUNCTIONS",
        "attach_methods",
    }
    modules = {n for n in found if isinstance(vars(tjit)[n], type(sys))}
    assert found - internal - modules <= listed


def test_registry_functions_are_names_of_the_module():
    from tjit.ops.public import FUNCTIONS

    assert set(FUNCTIONS) <= set(tjit.__all__)
    assert all(getattr(tjit, name) is fn for name, fn in FUNCTIONS.items())


def test_dtypes_have_pytorchs_names():
    assert tjit.float is tjit.float32
    assert tjit.long is tjit.int64
    assert tjit.half is tjit.float16
    assert str(tjit.float32) == "torch.float32"
    assert [repr(tjit.bool), repr(tjit.uint8)] == ["torch.bool", "torch.uint8"]


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'tjit' has no attribute 'fancy'"):
        tjit.fancy  # noqa: B018


def test_folders_of_the_checkout_are_not_packages_of_their_own():
    for name in ("passes", "codegen"):
        with pytest.raises(subprocess.CalledProcessError):
            run(f"import {name}")


def test_modules_of_functions_give_the_function():
    assert run("import tjit; import tjit.nn, tjit.optim; print(tjit.nn.__name__, tjit.optim.__name__)").split() == [
        "tjit.nn",
        "tjit.optim",
    ]


def test_no_module_is_reached_twice():
    out = run("import sys, tjit, tjit.nn; print(*(m for m in sys.modules if m.split('.')[0] in ('passes', 'codegen')))")

    assert out.split() == []


def test_the_library_of_llvm_is_loaded_on_another_thread():
    code = (
        "import sys, threading, time\n"
        "from tjit.runtime.preload import preload_llvm\n"
        "preload_llvm()\n"
        "for thread in threading.enumerate():\n"
        "    if thread is not threading.main_thread(): thread.join()\n"
        "assert 'libllvmlite' in open('/proc/self/maps').read()\n"
        "assert 'llvmlite' not in sys.modules\n"
        "import tjit\n"
        "assert tjit.compile(lambda x: x + 1)(tjit.ones(3)).tolist() == [2, 2, 2]\n"
    )
    subprocess.run([sys.executable, "-c", code], env={**os.environ, "TJIT_CACHE": "0"}, check=True)


def test_a_library_that_cannot_be_loaded_early_is_llvmlites_to_report(tmp_path, monkeypatch):
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(preload, "find_spec", lambda name: spec)
    monkeypatch.delitem(sys.modules, "llvmlite.binding", raising=False)
    before = threading.active_count()

    preload.preload_llvm.__wrapped__()

    while threading.active_count() > before:
        time.sleep(0.001)
