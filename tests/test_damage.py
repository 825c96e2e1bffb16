"""A damaged, unwritable or absent disk cache, and dumps: what a process prints is the same whatever it finds there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import tjit
from tjit.errors import ArgumentError
from tjit.runtime import cache as module

PROGRAM = """
import tjit
f = tjit.compile(lambda x, w: tjit.softmax(tjit.tanh(x @ w), 1).sum(0))
x = tjit.arange(12.0).reshape(3, 4) / 12
print(f(x, x.T).tolist())
w = tjit.ones(4, 3, requires_grad=True)
f(x, w)[0].backward()
print(w.grad.tolist())
"""


def start(folder: Path, **environment: str) -> subprocess.Popen:
    # the repository first: a program given by -c has no folder of its own on the path
    paths = os.pathsep.join([str(Path(tjit.__file__).parent.parent), os.environ.get("PYTHONPATH", "")])
    env = {**os.environ, "TJIT_CACHE_DIR": str(folder), "PYTHONPATH": paths, **environment}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen) -> str:
    out, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (0, ""), err
    return out


def run(folder: Path, **environment: str) -> str:
    return finish(start(folder, **environment))


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A cache that the program has filled, and what the program prints."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    return folder, run(folder)


def copied(source: Path, target: Path) -> list[Path]:
    """The files of a copy of the cache."""
    target.mkdir(mode=0o700)
    files = []
    for path in sorted(p for p in source.rglob("*") if p.is_file()):
        new = target / path.relative_to(source)
        new.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        new.write_bytes(path.read_bytes())
        files.append(new)
    return files


def flipped(data: bytes) -> bytes:
    return data[: len(data) // 2] + bytes([data[len(data) // 2] ^ 0x55]) + data[len(data) // 2 + 1 :]


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "flip": flipped,
    "flip the last": lambda data: data[:-1] + bytes([data[-1] ^ 1]),
    "half": lambda data: data[: len(data) // 2],
    "empty": lambda data: b"",
    "text": lambda data: b"not a cache entry\n" * 50,
}


@pytest.mark.parametrize("name", DAMAGE)
def test_every_entry_damaged(name, filled, tmp_path):
    source, expected = filled
    kinds = set()
    for path in copied(source, tmp_path / "cache"):
        kinds.add(path.parent.name)
        path.write_bytes(DAMAGE[name](path.read_bytes()))

    assert {"object", "program"} <= kinds
    assert run(tmp_path / "cache") == expected
    assert run(tmp_path / "cache") == expected


def described(data: bytes, change: Callable[[dict], object]) -> bytes:
    """A program's entry with another description."""
    size = int.from_bytes(data[:8], "little")
    text = json.dumps(change(json.loads(data[8 : 8 + size]))).encode()
    return len(text).to_bytes(8, "little") + text + data[8 + size :]


NONSENSE: dict[str, Callable[[bytes], bytes]] = {
    "nothing": lambda data: b"",
    "zeros": lambda data: bytes(200),
    "a length beyond the end": lambda data: b"\xff" * 8 + data[8:],
    "no text": lambda data: (4).to_bytes(8, "little") + b"\xff\xfe\xfd\xfc" + data,
    "a list": lambda data: described(data, lambda d: []),
    "a number": lambda data: described(data, lambda d: 3),
    "no inputs": lambda data: described(data, lambda d: {**d, "inputs": []}),
    "wrong inputs": lambda data: described(data, lambda d: {**d, "inputs": [["f64", ["2"]]]}),
    "numbers for dims": lambda data: described(data, lambda d: {**d, "inputs": [["f32", [2]]]}),
    "a dtype of no kind": lambda data: described(data, lambda d: {**d, "outputs": [["f33", ["2"]]]}),
    "an arena of no size": lambda data: described(data, lambda d: {**d, "arena": None}),
    "an image of nothing": lambda data: data[:-100] + bytes(100),
    "an object of nothing": lambda data: b"\x7fELF" + bytes(100),
}


@pytest.mark.parametrize("name", NONSENSE)
def test_entries_with_right_checksums_and_wrong_contents(name, filled, tmp_path):
    source, expected = filled
    folder = tmp_path / "cache"
    files = copied(source, folder)
    for path in files:
        if path.parent.name == "program" or name == "an object of nothing":
            rewrite(path, NONSENSE[name])

    assert run(folder) == expected


def rewrite(path: Path, change: Callable[[bytes], bytes]) -> None:
    """Replace the data of an entry, checksum and all."""
    found = module._unpack(path.read_bytes())
    assert found is not None
    path.write_bytes(module._pack(found[0], change(found[1])))


def test_without_a_cache(filled, tmp_path):
    _, expected = filled
    assert run(tmp_path / "none", TJIT_CACHE="0") == expected
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("in the way")
    assert run(tmp_path / "file") == expected
    assert run(Path("/proc/no/such/place")) == expected


def test_two_processes_at_once(filled, tmp_path):
    _, expected = filled
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o700)

    assert [finish(p) for p in [start(folder) for _ in range(3)]] == [expected] * 3
    assert run(folder) == expected


# -- dumps -------------------------------------------------------------------------------------------------------------


def test_dumps_are_numbered_files(filled, tmp_path):
    _, expected = filled
    assert (
        run(tmp_path / "c", TJIT_DUMP="graph,passes,schedule,llvm,asm", TJIT_DUMP_DIR=str(tmp_path / "d")) == expected
    )

    names = sorted(p.name for p in (tmp_path / "d").iterdir())
    assert [n[:3] for n in names] == [f"{i:03}" for i in range(len(names))]
    stages = [n.removesuffix(".txt").rpartition("_")[2] for n in names]
    assert stages[:5] == ["graph", "passes", "schedule", "llvm", "asm"]
    assert all((tmp_path / "d" / n).stat().st_size > 20 for n in names)


def test_every_stage_has_a_text():
    low = tjit.compile(lambda x: tjit.softmax(x * 2, 0)).lower(tjit.ones(3))

    texts = {stage: low.text(stage) for stage in ("graph", "passes", "schedule", "llvm", "asm", "triton")}

    assert texts["graph"].startswith("graph main(%x: f32[3]) -> f32[3] {")
    assert "k0 " in texts["schedule"]
    assert "define" in texts["llvm"]
    assert "ret" in texts["asm"]
    assert "@triton.jit" in texts["triton"]
    for wrong in ("", "nope", "Graph", None):
        with pytest.raises(ArgumentError, match="one of graph, passes, schedule, llvm, asm, triton, ptx"):
            low.text(wrong)
