"""NumPy programs compile unchanged: what they return and what they leave in their arguments is NumPy's.

TJIT_TEST_NUMBA=1 also checks what Numba is given to compile, which takes a minute.
"""

from __future__ import annotations

import os
import sys
import warnings
from importlib import import_module
from pathlib import Path

import pytest

import tjit

ROOT = Path(__file__).resolve().parent.parent
if str(ROOT) not in sys.path:
    sys.path.append(str(ROOT))  # the benchmarks are not installed

from benchmarks.numpy_kernels import NAMES, load  # noqa: E402
from benchmarks.numpy_kernels.check import check, fresh, outcome  # noqa: E402
from benchmarks.numpy_kernels.variants import VARIANTS  # noqa: E402
from benchmarks.numpy_kernels.worker import measure  # noqa: E402

# of the largest magnitude: sums of up to some hundred f64 terms in another order, amplified by a few steps
TOLERANCE = 1e-12
STEPPED = {"jacobi_1d", "jacobi_2d", "seidel_2d", "heat_3d", "adi", "nbody", "nbody_scalar"}
# The others get Python's ints for extents, or grids whose extents differ by one, which no two symbols say.
ONE_PROGRAM = [n for n in NAMES if n not in {"mandelbrot", "mandelbrot_scalar", "vertical_advection"}]


@pytest.mark.parametrize("name", NAMES)
def test_compiled_kernels_compute_what_numpy_does(name):
    kernel = load(name)
    compiled = tjit.compile(kernel.function)
    arguments = kernel.arguments("S")
    expected = outcome(kernel.function, arguments)

    for _ in range(3):  # the third is served by the native entry
        check(outcome(compiled, arguments), expected, TOLERANCE)


def sized(name: str, more: int) -> tuple:
    """The arguments of the small size with every extent larger; steps are as they are."""
    module = import_module(f"benchmarks.numpy_kernels.{name}")
    extents = module.SIZES["S"]
    steps = extents[: len(extents) - 1] if name in STEPPED else ()
    module.SIZES["other"] = (*steps, *(n + more for n in extents[len(steps) :]))
    return load(name).arguments("other")


@pytest.mark.parametrize("name", ONE_PROGRAM)
def test_a_third_size_compiles_nothing(name):
    kernel = load(name).function
    compiled = tjit.compile(kernel)

    for more in (0, 2, 3, 5):
        arguments = sized(name, more)
        check(outcome(compiled, arguments), outcome(kernel, arguments), TOLERANCE)

    assert compiled.cache_info().misses == 2


@pytest.mark.parametrize("name", NAMES)
def test_what_numba_gets_computes_what_numpy_does(name):
    kernel = load(name)
    arguments = kernel.arguments("S")

    check(outcome(kernel.numba_function, arguments), outcome(kernel.function, arguments), TOLERANCE)


@pytest.mark.skipif("TJIT_TEST_NUMBA" not in os.environ, reason="Numba compiles for a minute: TJIT_TEST_NUMBA=1")
@pytest.mark.parametrize("variant", ["numba", "numba parallel"])
@pytest.mark.parametrize("name", NAMES)
def test_numba_computes_what_numpy_does(name, variant):
    kernel = load(name)
    arguments = kernel.arguments("S")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on strided operands and on loops that are not parallel
        found = outcome(VARIANTS[variant](kernel), arguments)

    check(found, outcome(kernel.function, arguments), TOLERANCE)


def test_every_file_is_a_kernel():
    folder = ROOT / "benchmarks" / "numpy_kernels"
    others = {"__init__", "__main__", "check", "variants", "worker"}

    assert {path.stem for path in folder.glob("*.py")} == {*NAMES, *others}


@pytest.mark.parametrize("name", NAMES)
def test_arguments_are_the_same_each_time_and_fresh_ones_are_apart(name):
    kernel = load(name)
    expected = outcome(kernel.function, kernel.arguments("S"))
    arguments = kernel.arguments("S")
    kernel.function(*fresh(arguments))

    check(outcome(kernel.function, arguments), expected, 0)


def test_a_kernel_that_fails_is_a_line_of_the_report(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tjit", lambda kernel: lambda *arguments: 1 / 0)

    figures = measure("crc16", "S", 1, ["numpy", "tjit"])

    assert figures["tjit"].failure == "ZeroDivisionError: division by zero"
    assert figures["numpy"].failure is None
    assert figures["numpy"].ms is not None


def test_a_wrong_answer_is_not_timed(monkeypatch):
    monkeypatch.setitem(VARIANTS, "tjit", lambda kernel: lambda *arguments: kernel.function(*arguments) + 1)

    figures = measure("crc16", "S", 1, ["numpy", "tjit"])

    assert figures["tjit"].ms is None
    assert "result 0" in (figures["tjit"].failure or "")
