"""Fixtures for all tests."""

from __future__ import annotations

import zlib
from collections.abc import Callable

import numpy as np
import pytest

from tjit.codegen.llvm.target import host_target, named_target


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> np.random.Generator:
    """A generator seeded by the test's name."""
    return np.random.default_rng(zlib.crc32(request.node.nodeid.encode()))


@pytest.fixture
def compile_for(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Has what the test compiles be for the target of a name, and run here; skips where this processor cannot."""

    def use(name: str) -> None:
        target, host = named_target(name), host_target()
        if target.architecture != host.architecture or target.vector_bytes > host.vector_bytes:
            pytest.skip(f"this processor does not run {name}")
        monkeypatch.setattr("tjit.codegen.llvm.target.host_target", lambda: target)
        monkeypatch.setenv("TJIT_CACHE", "0")

    return use


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="rewrite the golden files with what was printed")
