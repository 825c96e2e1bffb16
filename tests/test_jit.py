"""TorchScript's names: scripted, traced, saved and loaded functions and modules."""

from __future__ import annotations

import copy
import io
import pickle
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Dict, List, Optional, Tuple  # noqa: UP035  as TorchScript's users write them

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.errors import ArgumentError, CaptureError, PackageError

SHARED = Path(__file__).parents[2] / "shared" / "programs"


class Signed(nn.Module):
    """A branch that depends on the input, a helper method, a buffer that calls change."""

    calls: tjit.Tensor

    def __init__(self, n: int) -> None:
        super().__init__()
        self.linear = nn.Linear(n, n)
        self.register_buffer("calls", tjit.zeros(()))

    def forward(self, x):
        self.calls += 1
        return self.linear(x) if x.sum() > 0 else self.negative(x)

    def negative(self, x):
        return -x

    @tjit.jit.export
    def twice(self, x: tjit.Tensor, scale: float) -> tjit.Tensor:
        return x * 2 * scale

    @tjit.jit.unused
    def forbidden(self, x):
        return x


def steps(x, n: int):
    total = x
    for _ in range(n):
        if total.sum() > 10:
            break
        total = total * 2
    return total


def test_a_scripted_function_keeps_its_branches():
    f = tjit.jit.script(steps)
    x = tjit.ones(3)

    assert isinstance(f, tjit.jit.ScriptFunction)
    assert f(x, 5).tolist() == steps(x, 5).tolist() == [4, 4, 4]
    assert f(x * 100, 5).tolist() == [100, 100, 100]


def test_code_and_graph_show_control_flow():
    f = tjit.jit.script(steps)
    f(tjit.ones(3), 50)

    assert "prim::Loop" in str(f.graph)
    assert "while True:" in f.code
    compile(f.code, "code", "exec")  # it is Python


def test_a_function_that_was_never_called_has_no_graph_yet():
    with pytest.raises(CaptureError, match="steps was not called yet, and its graph needs the types of its arguments"):
        _ = tjit.jit.script(steps).graph


def test_example_inputs_compile_at_once():
    f = tjit.jit.script(steps, example_inputs=[(tjit.ones(3), 4)])

    assert "graph" in str(f.graph)


def test_annotations_are_checked():
    f = tjit.jit.script(steps)

    with pytest.raises(ArgumentError, match=r"steps\(\) expected a value of type 'int' for argument 'n' but found"):
        f(tjit.ones(3), 2.5)


def test_a_scripted_module_is_the_module():
    m = Signed(4)
    s = tjit.jit.script(m)
    x = tjit.rand(2, 4)

    assert tjit.allclose(s(x), m.linear(x))
    assert tjit.allclose(s(-x), x)
    assert s.calls.item() == m.calls.item() == 2
    assert list(s.state_dict()) == list(m.state_dict())
    assert [p is q for p, q in zip(s.parameters(), m.parameters(), strict=True)] == [True, True]
    assert isinstance(s, nn.Module)
    assert s.original_name == "Signed"
    assert tjit.jit.script(s) is s
    s.eval()
    assert not m.training


def test_exported_methods_are_compiled_and_unused_ones_raise():
    s = tjit.jit.script(Signed(4))

    assert s.twice(tjit.ones(2), 1.5).tolist() == [3, 3]
    with pytest.raises(ArgumentError, match="forbidden is marked @tjit"):
        tjit.jit.script(lambda x: s.forbidden(x))(tjit.ones(2))


def test_gradients_flow_through_scripted_modules():
    m = Signed(3)
    s = tjit.jit.script(m)
    x = tjit.rand(5, 3)
    s(x).sum().backward()
    found = m.linear.weight.grad.clone()
    m.zero_grad()
    m.linear(x).sum().backward()

    assert tjit.allclose(found, m.linear.weight.grad)


def test_a_trace_keeps_the_branch_of_its_example_and_warns():
    m = Signed(4)
    x = tjit.rand(2, 4)
    with pytest.warns(tjit.jit.TracerWarning, match="Converting a tensor to a truth value might cause the trace"):
        t = tjit.jit.trace(m, x)

    assert tjit.allclose(t(-x), m.linear(-x))  # the branch of the example


def test_a_trace_that_differs_on_other_inputs_is_refused():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ArgumentError, match="Tracing failed sanity checks"):
            tjit.jit.trace(Signed(2).eval(), tjit.ones(1, 2), check_inputs=[(-tjit.ones(1, 2),)])


def test_script_if_tracing_keeps_branches_inside_of_traces():
    @tjit.jit.script_if_tracing
    def sign(x):
        if x.sum() > 0:
            return x
        return -x

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        t = tjit.jit.trace(lambda x: sign(x) + 1, tjit.ones(2))

    assert t(-tjit.ones(2)).tolist() == [2, 2]
    assert sign(-tjit.ones(2)).tolist() == [1, 1]


def test_trace_module_traces_the_methods_that_are_named():
    m = Signed(3).eval()
    t = tjit.jit.trace_module(m, {"negative": tjit.ones(2), "twice": (tjit.ones(2), 2.0)})

    assert t.negative(tjit.ones(2)).tolist() == [-1, -1]
    assert t.twice(tjit.ones(2), 2.0).tolist() == [4, 4]
    with pytest.raises(ArgumentError, match="Signed has no method 'missing' to trace"):
        tjit.jit.trace_module(m, {"missing": tjit.ones(2)})


def test_tasks():
    future = tjit.jit.fork(lambda x: x + 1, tjit.ones(2))

    assert isinstance(future, tjit.jit.Future)
    assert tjit.jit.wait(future).tolist() == [2, 2]
    assert future.done()

    @tjit.jit.script
    def f(x):
        task = tjit.jit.fork(steps, x, 3)
        return x + tjit.jit.wait(task)

    assert f(tjit.ones(2)).tolist() == [9, 9]


def test_saved_modules_run_without_their_class(tmp_path):
    m = Signed(4).eval()
    s = tjit.jit.script(m)
    x = tjit.rand(2, 4)
    wanted = [s(x), s(-x), s(tjit.rand(7, 4)).shape]
    extra = {"notes.txt": "seen"}
    s.save(tmp_path / "m.pt", _extra_files=extra)
    got = {"notes.txt": ""}
    again = tjit.jit.load(tmp_path / "m.pt", map_location="cpu", _extra_files=got)

    assert got == {"notes.txt": b"seen"}
    assert tjit.equal(again(x), wanted[0])
    assert tjit.equal(again(-x), wanted[1])
    assert again(tjit.rand(7, 4)).shape == wanted[2]
    assert [n for n, _ in again.named_parameters()] == ["linear.weight", "linear.bias"]
    assert "prim::If" in str(again.graph)
    assert "if" in again.code
    again.save(tmp_path / "again.pt")
    assert tjit.equal(tjit.jit.load(tmp_path / "again.pt")(x), wanted[0])


def test_files_may_be_open():
    f = tjit.jit.trace(lambda x: x.relu() * 2, tjit.rand(3))
    file = io.BytesIO()
    tjit.jit.save(f, file)
    file.seek(0)

    assert tjit.jit.load(file)(tjit.tensor([-1.0, 1.0, 2.0])).tolist() == [0, 2, 4]


def test_what_cannot_be_saved_or_loaded(tmp_path):
    with pytest.raises(ArgumentError, match=r"tjit\.jit\.save takes what tjit.jit.script or trace returns, not Linear"):
        tjit.jit.save(nn.Linear(2, 2), tmp_path / "x.pt")
    with pytest.raises(CaptureError, match="forward was not called yet, and save needs the types of its arguments"):
        tjit.jit.script(nn.Linear(2, 2)).save(tmp_path / "x.pt")
    (tmp_path / "bad.pt").write_bytes(b"no package")
    with pytest.raises(PackageError):
        tjit.jit.load(tmp_path / "bad.pt")


def test_freeze_gives_a_copy_without_parameters():
    m = Signed(3)
    s = tjit.jit.script(m)
    with pytest.raises(ArgumentError, match="eval mode"):
        tjit.jit.freeze(s)
    frozen = tjit.jit.freeze(s.eval())
    x = tjit.rand(2, 3)
    before = frozen(x)
    with tjit.no_grad():
        m.linear.weight.zero_()

    assert list(frozen.parameters()) == []
    assert tjit.equal(frozen(x), before)


def test_isinstance_looks_into_containers():
    x = tjit.ones(1)

    assert tjit.jit.isinstance([x, x], List[tjit.Tensor])  # noqa: UP006
    assert not tjit.jit.isinstance([x, 1], List[tjit.Tensor])  # noqa: UP006
    assert tjit.jit.isinstance({"a": 1}, Dict[str, int])  # noqa: UP006
    assert tjit.jit.isinstance((1, 2.0), Tuple[int, float])  # noqa: UP006
    assert tjit.jit.isinstance(None, Optional[int])  # noqa: UP045
    assert tjit.jit.isinstance(2, (float, int))


def test_ignored_functions_run_in_python():
    seen = []

    @tjit.jit.ignore
    def look(x):
        seen.append(tuple(x.shape))
        return x + 1

    f = tjit.jit.script(lambda x: look(x) * 2)

    assert f(tjit.ones(2)).tolist() == [4, 4]
    assert seen == [(2,)]


def test_script_modules_by_subclassing():
    class Doubler(tjit.jit.ScriptModule):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(tjit.ones(2))

        @tjit.jit.script_method
        def forward(self, x):
            if x.sum() > 0:
                return x * self.weight
            return x * 0

    m = Doubler()

    assert m(tjit.ones(2)).tolist() == [1, 1]
    assert m(-tjit.ones(2)).tolist() == [0, 0]
    assert "If" in str(m.graph)


def test_what_is_no_function_is_refused():
    with pytest.raises(ArgumentError, match="script takes a function or a module, not int 3"):
        tjit.jit.script(3)


def test_numbers_come_back_as_numbers():
    @tjit.jit.script
    def halvings(x):
        n = 0
        while x.sum() > 1:
            x = x / 2
            n += 1
        return n, float(n)

    n, f = halvings(tjit.tensor(np.array([40.0])))

    assert (n, f) == (6, 6.0)
    assert type(n) is int
    assert type(f) is float


@pytest.mark.parametrize("make", [
    lambda net, x: tjit.jit.script(net),
    lambda net, x: tjit.jit.trace(net, x),
    lambda net, x: tjit.jit.freeze(tjit.jit.script(net.eval())),
    lambda net, x: tjit.compile(net),
], ids=["script", "trace", "freeze", "compile"])  # fmt: skip
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))])
def test_copies_compile_anew(make, copied, rng):
    x = tjit.tensor(rng.standard_normal((2, 3)))
    net = make(nn.Linear(3, 4, dtype=tjit.float64), x)
    expected = net(x)

    other = copied(net)

    assert type(other) is type(net)
    np.testing.assert_array_equal(other(x).detach().numpy(), expected.detach().numpy())


def test_a_deep_copy_has_weights_of_its_own():
    net = tjit.jit.script(nn.Linear(3, 4))
    net(tjit.ones(2, 3))

    other = copy.deepcopy(net)
    with tjit.no_grad():
        other.weight.zero_()
        other.bias.zero_()

    assert other(tjit.ones(2, 3)).abs().sum() == 0
    assert net(tjit.ones(2, 3)).abs().sum() > 0


@tjit.compile
def _twice(x):
    return 2 * x


def test_compiled_functions_are_copied_by_name():
    assert copy.deepcopy(_twice) is _twice
    assert pickle.loads(pickle.dumps(_twice)) is _twice


@pytest.mark.skipif(not SHARED.exists(), reason="the shared programs are not here")
@pytest.mark.parametrize("name", ["p26", "p27"])
def test_shared_programs(name):
    subprocess.run([sys.executable, SHARED / f"{name}.py"], check=True, timeout=300)
