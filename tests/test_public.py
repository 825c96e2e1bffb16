"""The public face: every module says what it offers, and everything offered says what it does."""

from __future__ import annotations

import importlib
import inspect
import os
from pathlib import Path
from types import ModuleType

import pytest

import tjit

ROOT = Path(tjit.__file__).parent
PUBLIC = [
    "tjit",
    "tjit.nn",
    "tjit.nn.functional",
    "tjit.nn.init",
    "tjit.optim",
    "tjit.autograd",
    "tjit.errors",
    "tjit.profiler",
]


def _module_names() -> list[str]:
    found = []
    for folder, _, files in os.walk(ROOT, followlinks=True):
        parts = Path(folder).relative_to(ROOT).parts
        found += [".".join(("tjit", *parts, f[:-3])) for f in files if f.endswith(".py") and not f.startswith("__")]
    return sorted(found)


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("tjit"):
            raise
        pytest.skip(f"{name} needs {error.name}")


@pytest.mark.parametrize("name", _module_names())
def test_module_lists_what_it_offers(name: str):
    module = _import(name)

    offered = getattr(module, "__all__", [])
    assert module.__doc__, "a module says in a docstring what it is"
    assert len(set(offered)) == len(offered)
    assert not [n for n in offered if not hasattr(module, n)]


def _offered(name: str) -> list[str]:
    module = importlib.import_module(name)
    return list(getattr(module, "__all__", [n for n in vars(module) if not n.startswith("_")]))


def _undocumented(owner: object, name: str) -> bool:
    found = inspect.getattr_static(owner, name, None) if isinstance(owner, type) else getattr(owner, name, None)
    found = getattr(found, "__func__", found)
    return bool((inspect.isfunction(found) or inspect.isclass(found)) and not found.__doc__)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_public_function_has_a_docstring(name: str):
    module = importlib.import_module(name)

    assert not [n for n in _offered(name) if _undocumented(module, n)]


def test_every_tensor_method_has_a_docstring():
    assert not [n for n in dir(tjit.Tensor) if not n.startswith("_") and _undocumented(tjit.Tensor, n)]


def test_every_public_function_is_of_tjit():
    strangers = {
        n for n in tjit.__all__
        if inspect.isfunction(getattr(tjit, n)) and not (getattr(tjit, n).__module__ or "").startswith("tjit")
    }  # fmt: skip

    assert not strangers
