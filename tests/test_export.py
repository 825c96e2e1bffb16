"""Packages: what was exported runs without Python, the same bits; damaged files are refused."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.errors import ArgumentError, CaptureError, PackageError
from tjit.export import Package
from tjit.export.package import GRAPH, IMAGE, MANIFEST, WEIGHTS, Section, pack, unpack
from tjit.export.targets import host_levels

HERE = Path(__file__).parent
NATIVE = Path(tjit.__file__).parent / "export" / "native"
FORMATS = HERE / "formats"
STRICT = ("-std=c11", "-Wall", "-Wextra", "-Werror", "-pedantic")

needs_cc = pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Linear(16, 32)
        self.b = nn.Linear(32, 4)

    def forward(self, x):
        return self.b(nn.functional.relu(self.a(x)))


def make_mlp():
    """A model, its optimizer, a training step and an inference function."""
    tjit.manual_seed(0)
    model = MLP()
    optimizer = tjit.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def train(x, y):
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    def predict(x):
        return model(x)

    return model, optimizer, train, predict


def examples() -> tuple[tjit.Tensor, tjit.Tensor]:
    rng = np.random.default_rng(5)
    return tjit.tensor(rng.standard_normal((8, 16)).astype(np.float32)), tjit.tensor(rng.integers(0, 4, 8))


@pytest.fixture(scope="module")
def mlp(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """mlp.tjit with train and predict, and mlp.h beside it."""
    path = tmp_path_factory.mktemp("mlp") / "mlp.tjit"
    _, _, train, predict = make_mlp()
    x, y = examples()
    batch = tjit.Dim("batch", min=1, max=64)
    tjit.export(
        {"train": (train, (x, y)), "predict": (predict, (x,))},
        path,
        targets=("host", "x86-64-v3", "x86-64", "aarch64"),
        dynamic={"x": {0: batch}, "y": {0: batch}},
        extra_files={"notes.txt": "hello"},
        metadata={"accuracy": 0.5},
    )
    return path


def build(folder: Path, program: Path, *flags: str, compiler: str = "cc") -> Path:
    """Build a test program against mlp.h of this folder."""
    binary = folder / f"{program.stem}_{'_'.join(f.strip('-').replace('=', '_').replace(',', '_') for f in flags[:1])}"
    sources = [f"-I{NATIVE}", f"-I{folder}", program, NATIVE / "tjit.c"]
    subprocess.run([compiler, *STRICT, *flags, *sources, "-o", binary, "-lpthread"], check=True)
    return binary


@pytest.fixture(scope="module")
def binary(mlp: Path) -> Path:
    return build(mlp.parent, HERE / "native" / "package_test.c", "-O1")


def run_native(command: list, folder: Path, inputs: Sequence[np.ndarray] = ()) -> str:
    for i, array in enumerate(inputs):
        array.tofile(folder / f"in{i}")
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


# -- the same program from C -------------------------------------------------------------------------------------------


@needs_cc
@pytest.mark.parametrize("size", [1, 3, 64])
def test_inference_from_c_gives_the_bits_of_python(mlp, binary, tmp_path, rng, size):
    x = rng.standard_normal((size, 16)).astype(np.float32)

    run_native([binary, "run", mlp, "predict", 1, size, tmp_path], tmp_path, [x])

    expected = tjit.load(mlp)["predict"](x)
    assert np.fromfile(tmp_path / "out0", np.float32).tobytes() == expected.tobytes()


@needs_cc
def test_training_from_c_leaves_the_state_that_python_leaves(mlp, binary, tmp_path, rng):
    x, y = rng.standard_normal((8, 16)).astype(np.float32), rng.integers(0, 4, 8)
    package = tjit.load(mlp)

    run_native([binary, "run", mlp, "train", 20, 8, tmp_path], tmp_path, [x, y])
    losses = [package["train"](x, y) for _ in range(20)]

    assert losses[-1] < losses[0]
    assert np.fromfile(tmp_path / "out0", np.float32).tobytes() == losses[-1].tobytes()
    for name, tensor in package.state_dict().items():
        assert (tmp_path / f"state_{name}").read_bytes() == tensor.numpy().tobytes(), name


def test_training_a_package_is_training_the_model(tmp_path):
    model, _, train, _ = make_mlp()
    x, y = examples()
    step = tjit.compile(train)
    step(x, y)  # leaves .grad set, which is no state
    package = tjit.export(step, (x, y), tmp_path / "step.tjit")

    exported = [package["train"](x, y).item() for _ in range(10)]

    assert not [name for name in package.state_dict() if "grad" in name]
    np.testing.assert_allclose(exported, [step(x, y).item() for _ in range(10)], rtol=1e-5)
    for name, parameter in model.named_parameters():
        np.testing.assert_allclose(package.state_dict()[name].numpy(), parameter.detach().numpy(), rtol=1e-4, atol=1e-6)


@needs_cc
def test_c_refuses_wrong_arrays_and_keeps_state(mlp, binary, tmp_path):
    run_native([binary, "checks", mlp, tmp_path], tmp_path)

    saved, weights = tjit.load(tmp_path / "saved.tjit").state_dict(), tmp_path / "weights.safetensors"
    from safetensors.numpy import load_file

    assert {n: a.tobytes() for n, a in load_file(weights).items()} == {n: t.numpy().tobytes() for n, t in saved.items()}


@needs_cc
@pytest.mark.parametrize("size", [1, 7])
def test_loops_and_branches_run_from_c(binary, tmp_path, rng, size):
    def settle(w, x):
        h = tjit.zeros(16)
        for i in range(x.shape[0]):
            h = tjit.tanh(w @ h + x[i])
        while h.abs().sum() > 0.1:
            h = h * 0.5 if h[0] > 0.0 else h * 0.25
        return h

    w, x = rng.standard_normal((16, 16)).astype(np.float32), rng.standard_normal((size, 16)).astype(np.float32)
    rows = tjit.Dim("rows", min=1, max=64)
    tjit.export(settle, (tjit.tensor(w), tjit.ones(5, 16)), tmp_path / "settle.tjit", dynamic={"x": {0: rows}})

    run_native([binary, "run", tmp_path / "settle.tjit", "settle", 2, size, tmp_path], tmp_path, [w, x])

    expected = tjit.load(tmp_path / "settle.tjit")["settle"](w, x)
    assert np.fromfile(tmp_path / "out0", np.float32).tobytes() == expected.tobytes()
    np.testing.assert_allclose(expected, settle(tjit.tensor(w), tjit.tensor(x)).numpy(), rtol=1e-4)


@needs_cc
def test_threads_share_one_handle(mlp, binary, tmp_path):
    run_native([binary, "threads", mlp], tmp_path)


class Rows(nn.Module):
    """Layers of which each goes on with the rows of the one before: a chain of kernels, in a fork-join."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(64, 64) for _ in range(4))

    def forward(self, x):
        for layer in self.layers:
            x = nn.functional.softmax(nn.functional.relu(layer(x)), -1)
        return tjit.cumsum(x, 1)


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """rows.tjit, with weights as they are and in panels."""
    path = tmp_path_factory.mktemp("rows") / "rows.tjit"
    tjit.manual_seed(0)
    plain, x = Rows().requires_grad_(False).eval(), tjit.zeros(256, 64)
    frozen = tjit.jit.freeze(tjit.jit.script(plain))
    tjit.export({"plain": (plain, (x,)), "frozen": (frozen, (x,))}, path, targets=("host", "x86-64-v3"))
    assert " parts " in str(tjit.compile(plain).lower(x).schedule())
    return path


@needs_cc
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", ["plain", "frozen"])
def test_chains_of_kernels_run_from_c(rows, binary, tmp_path, rng, name, threads):
    x = rng.standard_normal((256, 64)).astype(np.float32)

    run_native(["env", f"TJIT_NUM_THREADS={threads}", binary, "run", rows, name, 3, 1, tmp_path], tmp_path, [x])

    expected = tjit.load(rows)[name](x)
    assert np.fromfile(tmp_path / "out0", np.float32).tobytes() == expected.tobytes()


@needs_cc
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
def test_valgrind_finds_nothing_in_chains(rows, binary, tmp_path, rng):
    x = rng.standard_normal((256, 64)).astype(np.float32)
    valgrind = ["env", "TJIT_NUM_THREADS=2", "valgrind", "-q", "--error-exitcode=9", "--leak-check=full"]

    run_native([*valgrind, binary, "run", rows, "frozen", 1, 1, tmp_path], tmp_path, [x])


@needs_cc
@pytest.mark.skipif(shutil.which("ldd") is None, reason="no ldd")
def test_program_needs_the_c_library_only(binary):
    listed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout

    names = {line.split()[0].rpartition("/")[2].partition(".")[0] for line in listed.splitlines()}
    assert names <= {"linux-vdso", "libc", "libpthread", "ld-linux-x86-64", "ld-linux-aarch64"}


@needs_cc
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="no valgrind")
@pytest.mark.parametrize("mode", ["run", "checks", "threads"])
def test_valgrind_finds_nothing(mlp, binary, tmp_path, rng, mode):
    x, y = rng.standard_normal((8, 16)).astype(np.float32), rng.integers(0, 4, 8)
    rest = {"run": [mlp, "train", 3, 8, tmp_path], "checks": [mlp, tmp_path], "threads": [mlp]}[mode]
    valgrind = ["valgrind", "-q", "--error-exitcode=9", "--leak-check=full", "--show-leak-kinds=all"]

    run_native([*valgrind, binary, mode, *rest], tmp_path, [x, y])


@needs_cc
def test_damaged_bytes_are_refused_by_c(mlp, tmp_path):
    sanitized = build(mlp.parent, HERE / "native" / "package_test.c", "-fsanitize=address,undefined", "-O1", "-g")

    run_native([sanitized, "corrupt", mlp], tmp_path)
    run_native([sanitized, "checks", mlp, tmp_path], tmp_path)


@needs_cc
@pytest.mark.skipif(shutil.which("c++") is None, reason="no C++ compiler")
def test_loader_and_headers_are_c_plus_plus_too(mlp, tmp_path):
    for source in (NATIVE / "tjit.c", HERE / "native" / "package_test.c"):
        command = ["c++", "-x", "c++", "-std=c++17", "-Wall", "-Wextra", "-Werror", f"-I{NATIVE}", f"-I{mlp.parent}"]
        subprocess.run([*command, "-c", source, "-o", tmp_path / "object.o"], check=True)


@pytest.mark.skipif(
    not (shutil.which("aarch64-linux-gnu-gcc") and shutil.which("qemu-aarch64-static")),
    reason="no compiler and emulator for AArch64",
)
def test_aarch64_runs_in_an_emulator(mlp, tmp_path, rng):
    binary = build(mlp.parent, HERE / "native" / "package_test.c", "-static", "-O1", compiler="aarch64-linux-gnu-gcc")
    x, y = rng.standard_normal((8, 16)).astype(np.float32), rng.integers(0, 4, 8)

    said = run_native(["qemu-aarch64-static", binary, "run", mlp, "train", 5, 8, tmp_path], tmp_path, [x, y])

    package = tjit.load(mlp)
    losses = [package["train"](x, y) for _ in range(5)]
    assert said == "aarch64\n"
    np.testing.assert_allclose(np.fromfile(tmp_path / "out0", np.float32), losses[-1:], rtol=1e-5)


# -- packages in Python ------------------------------------------------------------------------------------------------


def test_package_tells_what_it_holds(mlp):
    package = tjit.load(mlp)

    assert str(package["train"]) == "train(x: f32[batch, 16], y: i64[batch]) -> f32[]"
    assert str(package["predict"]) == "predict(x: f32[batch, 16]) -> f32[batch, 4]"
    assert package.extra_files == {"notes.txt": b"hello"}
    assert package.metadata == {"accuracy": 0.5}
    assert {"a.weight", "a.weight.momentum_buffer", "lr"} <= set(package.state_dict())
    assert str(package.graph("predict")).startswith("graph predict(")
    assert "mlp_predict(tjit_package *package, const float *x, int64_t batch, float *output" in package.header()


def test_entry_points_share_state(mlp):
    package = tjit.load(mlp)
    x, y = examples()
    before = package["predict"](x)

    package["train"](x, y)

    assert not tjit.equal(before, package["predict"](x))
    names = list(package.state_dict())
    assert len(names) == len(set(names)) == 9  # 4 parameters, 4 momentum buffers, lr


def test_state_goes_out_and_in(mlp, tmp_path):
    package, fresh = tjit.load(mlp), tjit.load(mlp)
    x, y = examples()
    package["train"](x, y)

    fresh.load_state_dict(package.state_dict())
    package.save(tmp_path / "again.tjit")

    assert tjit.equal(fresh["predict"](x), package["predict"](x))
    assert tjit.equal(tjit.load(tmp_path / "again.tjit")["predict"](x), package["predict"](x))
    with pytest.raises(ArgumentError, match=r"the state lacks \['a.bias'"):
        fresh.load_state_dict({"lr": 0.1})
    with pytest.raises(ArgumentError, match=r"a.bias is float32\[32\] in the package, not float32\[4\]"):
        fresh.load_state_dict({"a.bias": np.zeros(4, np.float32)}, strict=False)


def test_a_number_of_the_state_can_be_set(mlp):
    package = tjit.load(mlp)
    x, y = examples()
    before = package.state_dict()["a.weight"]

    package.load_state_dict({"lr": 0.0}, strict=False)
    package["train"](x, y)

    assert tjit.equal(package.state_dict()["a.weight"], before)


def test_wrong_arguments_name_the_signature(mlp):
    package = tjit.load(mlp)

    with pytest.raises(ArgumentError, match=r"predict takes x: f32\[batch, 16\], not f32\[3, 15\]\n  at "):
        package["predict"](np.zeros((3, 15), np.float32))
    with pytest.raises(ArgumentError, match="batch is 65; predict takes 1 to 64"):
        package["predict"](np.zeros((65, 16), np.float32))
    with pytest.raises(ArgumentError, match="the package has no entry point 'forward'\n  hint: it has train, predict"):
        package["forward"]


def test_a_module_and_structures_are_exported(tmp_path):
    model = MLP()
    x, _ = examples()
    plain = tjit.export(model, x, tmp_path / "model.tjit")
    nested = tjit.export(
        lambda pair, scale: {"sum": pair[0] + pair[1], "parts": [pair[0] * scale, 7]},
        ((x, x), 2.0),
        tmp_path / "nested.tjit",
        name="nested",
    )

    result = nested((x, x), scale=2.0)

    np.testing.assert_allclose(plain(x).numpy(), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert set(plain.state_dict()) == {"a.weight", "a.bias", "b.weight", "b.bias"}
    assert result["parts"][1] == 7
    assert tjit.equal(result["sum"], x + x)
    assert [name for name, _ in nested["main"].outputs] == ["sum", "parts_0"]
    with pytest.raises(ArgumentError, match="not arguments named other"):
        nested((x, x), other=2.0)
    with pytest.raises(ArgumentError, match=r"main was exported with the Python value 2.0, not 3.0"):
        nested((x, x), 3.0)
    with pytest.raises(ArgumentError, match=r", not \(f32\[8, 16\], 2.0\)\n  at "):
        nested(x, 2.0)
    with pytest.raises(ArgumentError, match=r"not f32\[3, 16\](.|\n)*hint: for other sizes, export it with dynamic="):
        plain(x[:3])


def test_accumulated_gradients_are_state(tmp_path):
    w = tjit.ones(3, requires_grad=True)
    w.__dict__["name"] = "w"

    def accumulate(x):
        (w * x).sum().backward()

    def apply():
        with tjit.no_grad():
            w.sub_(w.grad * 0.5)
            w.grad.zero_()

    w.grad = tjit.zeros(3)
    package = tjit.export({"accumulate": (accumulate, (tjit.ones(3),)), "apply": (apply, ())}, tmp_path / "a.tjit")

    for _ in range(3):
        package["accumulate"](tjit.tensor([1.0, 2.0, 3.0]))
    package["apply"]()

    assert package.state_dict()["w"].tolist() == [-0.5, -2.0, -3.5]
    assert package.state_dict()["w.grad"].tolist() == [0.0, 0.0, 0.0]


def test_written_arguments_are_written(tmp_path):
    def fill(x):
        x.mul_(2.0)

    package = tjit.export(fill, tjit.ones(4), tmp_path / "fill.tjit")
    x = np.arange(4, dtype=np.float32)

    package(x)

    assert x.tolist() == [0, 2, 4, 6]
    assert "float *x" in package.header()
    assert "const float *x" not in package.header()


@needs_cc
def test_example_of_the_documentation_trains(mlp, tmp_path):
    text = (HERE.parent / "docs" / "export.md").read_text()
    (tmp_path / "main.c").write_text(text.split("```c\n")[1].split("```")[0])
    shutil.copy(mlp.parent / "mlp.h", tmp_path)

    binary = build(tmp_path, tmp_path / "main.c")
    said = subprocess.run([binary, mlp], cwd=tmp_path, capture_output=True, text=True, check=True).stdout

    assert 0 < float(said.split(",")[0].removeprefix("loss ")) < 0.5
    assert (tmp_path / "trained.tjit").stat().st_size == mlp.stat().st_size


ODD = """
#include "odd.h"
#include <string.h>
int main(int argc, char **argv) {
  double numbers[3] = {1, 2, 3}, twice[6];
  uint16_t half[2] = {0x3C00, 0x4000}, halves[2];
  uint8_t flag = 1, not_flag;
  tjit_package *p;
  if (argc < 2 || tjit_load(argv[1], &p, NULL)) return 1;
  if (odd_f(p, numbers, half, &flag, 3, twice, halves, &not_flag, NULL)) return 2;
  tjit_free(p);
  if (memcmp(twice, numbers, 24) != 0 || memcmp(twice + 3, numbers, 24) != 0) return 3;
  return halves[0] == 0x4000 && halves[1] == 0x4400 && not_flag == 0 ? 0 : 4;
}
"""


@needs_cc
def test_typed_functions_know_every_dtype_and_computed_shapes(tmp_path):
    def f(double, half_shape, package):
        return {"int": tjit.cat([double, double]), "half": half_shape + half_shape, "a b*/": ~package}

    arguments = (tjit.ones(2, dtype=tjit.float64), tjit.ones(2, dtype=tjit.float16), tjit.tensor(True))
    tjit.export(f, arguments, tmp_path / "odd.tjit", dynamic={"double": {0: "size"}})
    (tmp_path / "main.c").write_text(ODD)

    binary = build(tmp_path, tmp_path / "main.c")

    subprocess.run([binary, tmp_path / "odd.tjit"], check=True)


def test_random_state_goes_along(tmp_path):
    package = tjit.export(lambda: tjit.rand(4), (), tmp_path / "r.tjit", name="r")

    first, second = package(), package()

    assert not tjit.equal(first, second)
    assert tjit.equal(tjit.load(tmp_path / "r.tjit")(), first)


def test_c_provides_what_export_allows():
    from tjit.export.build import PROVIDED

    table = re.findall(r'\{"(\w+)", \(any_fn \*\)(\w+)\}', (NATIVE / "tjit.c").read_text())

    assert {name for name, _ in table} == PROVIDED
    assert all(name == function for name, function in table)


@pytest.mark.parametrize("dtype", [tjit.float16, tjit.bfloat16, tjit.float64, tjit.int32, tjit.uint8, tjit.bool])
def test_every_target_has_all_functions_it_calls(dtype, tmp_path):
    x = tjit.ones(40, dtype=dtype)

    package = tjit.export(
        lambda x: (x + x, (x * x).sum(), x.to(tjit.float32).exp().to(dtype)),
        x,
        tmp_path / "d.tjit",
        name="d",
        targets=("host", "x86-64", "x86-64-v3", "x86-64-v4", "aarch64"),
    )

    assert tjit.equal(package(x)[0], x + x)


@pytest.mark.parametrize(
    ("dynamic", "message"),
    [
        ({"z": {0: "n"}}, "dynamic names 'z', which is no array argument"),
        ({"x": {2: "n"}}, "dynamic names dim 2 of x, which has 2 dims"),
        ({"x": {0: tjit.Dim("n", min=9)}}, "the example's dim 0 of x is 8, out of the bounds of Dim('n', min=9, max="),
        ({"x": {0: "n", 1: "n"}}, "the Dim n is 8 and 16 in the examples: dim 1 of x"),
        ({"x": {0: 3}}, "dim 0 of x should be a tjit.Dim or a name, not 3"),
    ],
)
def test_dynamic_that_does_not_fit_is_refused(dynamic, message, tmp_path):
    x, _ = examples()

    with pytest.raises(ArgumentError) as caught:
        tjit.export(lambda x: x + 1, x, tmp_path / "x.tjit", dynamic=dynamic)

    assert str(caught.value).startswith(message)
    assert 'tjit.export(lambda x: x + 1, x, tmp_path / "x.tjit", dynamic=dynamic)' in str(caught.value)


def test_a_dim_that_the_function_asks_about_cannot_be_dynamic(tmp_path):
    x, _ = examples()

    def f(x):
        return x + 1 if x.shape[0] == 8 else x

    with pytest.raises(CaptureError, match="f cannot be exported with these dynamic dims: whether n == 8 depends"):
        tjit.export(f, x, tmp_path / "x.tjit", dynamic={"x": {0: "n"}})


def test_export_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ArgumentError, match=r"no target is called 'z80'\n  at test_export.py:"):
        tjit.export(lambda x: x, tjit.ones(2), tmp_path / "x.tjit", targets=("z80",))
    with pytest.raises(ArgumentError, match="export needs the path of the file to write, not None"):
        tjit.export(lambda x: x, tjit.ones(2))
    with pytest.raises(ArgumentError, match="metadata must be made of what JSON has"):
        tjit.export(lambda x: x + 1, tjit.ones(2), tmp_path / "x.tjit", metadata=object())
    assert not list(tmp_path.iterdir())


def test_export_is_deterministic(tmp_path):
    x, y = examples()

    first, second = (tmp_path / n for n in ("a.tjit", "b.tjit"))
    for path in (first, second):
        _, _, train, _ = make_mlp()
        tjit.export(train, (x, y), path, name="same")

    assert first.read_bytes() == second.read_bytes()


# -- files -------------------------------------------------------------------------------------------------------------


def test_truncated_files_are_refused(mlp):
    data = mlp.read_bytes()

    for size in [*range(0, 1500, 13), *range(1500, len(data), 997)]:
        with pytest.raises(PackageError, match=r"cut short|damaged|no package"):
            unpack(data[:size], "m.tjit")


def test_altered_bits_are_refused(mlp):
    data = bytearray(mlp.read_bytes())

    for at in [*range(0, 1500), *range(1500, len(data), 499)]:
        data[at] ^= 1 << at % 8
        with pytest.raises(PackageError):
            unpack(bytes(data), "m.tjit")
        data[at] ^= 1 << at % 8
    unpack(bytes(data), "m.tjit")


def altered(data: bytes, section: Section, change) -> bytes:
    """A package whose section was changed, with checksums that fit."""
    return pack([(s, change(d) if s == section else d) for s, d in unpack(data, "x").items()])


def test_errors_name_the_file_and_the_section(mlp, tmp_path):
    data = bytearray(mlp.read_bytes())
    parts = unpack(bytes(data), "x")
    at = bytes(data).index(parts[Section(WEIGHTS)])
    data[at + 100] ^= 1
    (tmp_path / "w.tjit").write_bytes(data)

    with pytest.raises(PackageError, match=r"w.tjit is damaged: the checksum of its weights does not fit"):
        tjit.load(tmp_path / "w.tjit")
    data[at + 100] ^= 1
    data[8] = 2
    with pytest.raises(PackageError, match="x has format version 2, this tjit reads version 1\n  hint: update tjit"):
        Package(bytes(data), "x")


def test_foreign_and_malformed_contents_are_refused(mlp):
    data = mlp.read_bytes()

    def foreign(manifest: bytes) -> bytes:
        document = json.loads(manifest)
        document["targets"] = ["riscv64"]
        return json.dumps(document).encode()

    with pytest.raises(PackageError, match=f"x is made for riscv64; this machine runs {host_levels()[0]}"):
        Package(altered(data, Section(MANIFEST), foreign), "x")
    with pytest.raises(PackageError, match="x is malformed: its manifest does not read"):
        Package(altered(data, Section(MANIFEST), lambda m: b"{}"), "x")
    with pytest.raises(PackageError, match="the weights of x are no weights in safetensors' format"):
        Package(altered(data, Section(WEIGHTS), lambda w: b"\xff" * 20), "x")
    broken = Package(altered(data, Section(IMAGE, 0, 0), lambda i: i[:100]), "x")
    with pytest.raises(PackageError, match="x is malformed: image 0 does not read"):
        broken["train"](*examples())


def test_graph_text_parses_back(mlp):
    from tjit.ir.printer import print_graph

    text = unpack(mlp.read_bytes(), "x")[Section(GRAPH, 0)].decode()

    assert print_graph(tjit.load(mlp).graph("train")) == text


# -- packages of every released format ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted(FORMATS.glob("*.tjit")), ids=lambda p: p.stem)
def test_packages_of_old_formats_still_run(path):
    package = tjit.load(path)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    first, second = package["step"](x), package["step"](x)

    assert first.tolist() == [3.0, 12.0]  # sums of rows, times the number of the call
    assert second.tolist() == [6.0, 24.0]
    assert str(package.graph("step")).startswith("graph step(")


@needs_cc
@pytest.mark.parametrize("path", sorted(FORMATS.glob("*.tjit")), ids=lambda p: p.stem)
def test_packages_of_old_formats_still_run_in_c(path, binary, tmp_path):
    x = np.arange(6, dtype=np.float32).reshape(2, 3)

    run_native([binary, "run", path, "step", 2, 2, tmp_path], tmp_path, [x])

    assert np.fromfile(tmp_path / "out0", np.float32).tolist() == [6.0, 24.0]


def test_a_program_that_reads_beyond_the_smallest_size_is_refused(tmp_path):
    def third(x):
        return x[2] * 2.0

    x = tjit.ones(5, 4)
    with pytest.raises(tjit.errors.CaptureError, match=r"needs .* >= 1, which its dynamic dims do not promise"):
        tjit.export(third, (x,), tmp_path / "m.tjit", dynamic={"x": {0: tjit.Dim("n", min=1)}})

    package = tjit.export(third, (x,), tmp_path / "m.tjit", dynamic={"x": {0: tjit.Dim("n", min=3)}})
    np.testing.assert_array_equal(package["third"](tjit.ones(3, 4)).numpy(), np.full(4, 2.0, np.float32))


def test_a_folder_that_is_not_there_is_named(tmp_path):
    folder = tmp_path / "no" / "such"

    with pytest.raises(FileNotFoundError, match=f"no such folder to export to: '{re.escape(str(folder))}'"):
        tjit.export(tjit.compile(lambda x: x * 2), (tjit.ones(2),), str(folder / "double.tjit"))
