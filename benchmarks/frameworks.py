"""How each framework takes arrays, compiles, waits for a result and gives it back."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from typing import Any

import numpy as np

__all__ = ["FRAMEWORKS", "Framework", "environment", "pin"]


def _same(x: Any) -> Any:
    return x


@dataclass(frozen=True)
class Framework:
    """One column of the benchmark.

    Attributes:
        module: what must be importable.
        rows: the key of its factories in `Row.build`.
        load: imports it and settles its threads; gives (from_numpy, to_numpy, compile, wait).
        first_seconds: how long its first call of a row may take.
        caches: its first call is timed a second time, with the disk cache that the first one left.
        slow: its first calls take seconds: a run with a budget leaves out those that there is no time for.
    """

    name: str
    module: str
    rows: str
    load: Callable[[int], tuple[Callable[..., Any], ...]]
    first_seconds: float = 120
    caches: bool = False
    slow: bool = False

    def missing(self) -> str | None:
        """Why it cannot run here, or None."""
        return None if find_spec(self.module) else f"{self.module} is not installed"

    def version(self) -> str:
        try:
            return version(self.module)
        except PackageNotFoundError:
            return importlib.import_module(self.module).__version__


def _load_tjit(threads: int) -> tuple[Callable[..., Any], ...]:
    import tjit

    return tjit.from_numpy, lambda r: r.detach().numpy() if isinstance(r, tjit.Tensor) else r, tjit.compile, _same


def _load_torch(threads: int) -> tuple[Callable[..., Any], ...]:
    import torch

    torch.set_num_threads(threads)
    return torch.from_numpy, lambda r: r.detach().numpy(), _same, _same


def _load_torch_compile(threads: int) -> tuple[Callable[..., Any], ...]:
    import torch

    from_numpy, to_numpy, _, wait = _load_torch(threads)
    return from_numpy, to_numpy, torch.compile, wait


def _load_jax(threads: int) -> tuple[Callable[..., Any], ...]:
    import jax
    import jax.numpy as jnp

    def wait(result: Any) -> Any:
        if isinstance(result, tuple):
            for r in result:
                r.block_until_ready()
            return result
        return result.block_until_ready()

    return jnp.asarray, np.asarray, jax.jit, wait


def _load_numpy(threads: int) -> tuple[Callable[..., Any], ...]:
    return _same, _same, _same, _same


def _load_numba(threads: int) -> tuple[Callable[..., Any], ...]:
    import numba

    numba.set_num_threads(threads)

    def compile(fn: Callable[..., Any]) -> Callable[..., Any]:
        return numba.njit(fn, parallel="prange" in fn.__code__.co_names, fastmath=True, cache=True)

    return _same, lambda r: np.float32(r) if isinstance(r, float) else r, compile, _same


FRAMEWORKS = {
    framework.name: framework
    for framework in (
        Framework("tjit", "tjit", "tjit", _load_tjit, caches=True),
        Framework("torch.compile", "torch", "torch", _load_torch_compile, first_seconds=600, slow=True),
        Framework("torch", "torch", "torch", _load_torch),
        Framework("jax", "jax", "jax", _load_jax),
        Framework("numpy", "numpy", "numpy", _load_numpy),
        Framework("numba", "numba", "numba", _load_numba, slow=True),
    )
}

_THREAD_VARIABLES = (
    "TJIT_NUM_THREADS",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMBA_NUM_THREADS",
    "NPROC",  # what XLA sizes its pool by
)


def environment(threads: int, cache: str, kept: str | None = None) -> dict[str, str]:
    """The environment of a worker: so many threads, and disk caches under `cache`, the peers' under `kept`, if any."""
    env = {k: v for k, v in os.environ.items() if not k.startswith("TJIT_")}
    env.update(dict.fromkeys(_THREAD_VARIABLES, str(threads)))
    env["TJIT_CACHE_DIR"] = os.path.join(cache, "tjit")
    env["TORCHINDUCTOR_CACHE_DIR"] = os.path.join(kept or cache, "inductor")
    env["NUMBA_CACHE_DIR"] = os.path.join(kept or cache, "numba")
    if kept:
        env["JAX_COMPILATION_CACHE_DIR"] = os.path.join(kept, "jax")
    env["JAX_PLATFORMS"] = "cpu"
    env["CUDA_VISIBLE_DEVICES"] = ""
    return env


def pin(threads: int) -> None:
    """Keep this process to as many cores as it may have threads: not every framework heeds a variable."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, cores[:threads])
