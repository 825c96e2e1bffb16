"""How long `import tjit` takes, and what it brings with it.

    python -m benchmarks.imports

Medians over fresh processes, in turns with `import numpy`, which is the largest part of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from statistics import median

from benchmarks.harness import ROOT

__all__ = ["main", "measure"]

PROCESSES = 15
HEAVY = (
    *("llvmlite", "numba", "triton", "torch", "jax", "scipy", "sympy", "cupy", "onnx"),
    *("ml_dtypes", "safetensors", "inspect", "asyncio"),
)
CODE = """
import json, sys, time
start = time.perf_counter()
import {module}
seconds = time.perf_counter() - start
print(json.dumps([seconds, sorted({{name.partition(".")[0] for name in sys.modules}}), len(sys.modules)]))
"""


def measure(module: str) -> tuple[float, list[str], int]:
    """Milliseconds of importing `module` in a fresh process, the top-level modules then loaded, and how many in all."""
    done = subprocess.run(
        [sys.executable, "-c", CODE.format(module=module)], cwd=ROOT, capture_output=True, text=True, check=True
    )
    seconds, names, count = json.loads(done.stdout)
    return seconds * 1e3, names, count


def main() -> None:
    measure("tjit")  # writes the bytecode, reads the disk
    times: dict[str, list[float]] = {"tjit": [], "numpy": []}
    names: list[str] = []
    count = 0
    for _ in range(PROCESSES):
        for module, found in times.items():
            milliseconds, loaded, total = measure(module)
            found.append(milliseconds)
            if module == "tjit":
                names, count = loaded, total
    heavy = [name for name in HEAVY if name in names]
    for module, found in times.items():
        spread = f"from {min(found):.1f} to {max(found):.1f}, {PROCESSES} processes"
        print(f"import {module:6} {median(found):6.1f} ms  ({spread})")
    print(f"{count} modules loaded by tjit; heavy ones: {', '.join(heavy) or 'none'}")


if __name__ == "__main__":
    main()
