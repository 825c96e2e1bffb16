"""Frozen weights in panels: what programs compute is what they computed before, in and out of the process."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tjit
from tests.tolerances import assert_close, assert_same
from tjit import dtypes, nn
from tjit.codegen.llvm.target import host_target, named_target
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph
from tjit.ir.parser import parse_graph
from tjit.ir.printer import print_graph
from tjit.ir.verify import verify
from tjit.passes.frozen import split_frozen
from tjit.passes.layouts import lay_out_frozen
from tjit.passes.pipeline import run_passes
from tjit.runtime import threads
from tjit.tensor import Laid

F = nn.functional


class Weighted(nn.Module):
    """A function of an argument and a weight."""

    def __init__(self, weight: np.ndarray, fn: Callable[[Any, Any], Any]) -> None:
        super().__init__()
        self.weight = nn.Parameter(tjit.tensor(weight), requires_grad=False)
        self.fn = fn

    def forward(self, x):
        return self.fn(x, self.weight)


def frozen_and_plain(weight: np.ndarray, fn: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    scripted = tjit.jit.script(Weighted(weight, fn).eval())
    return tjit.jit.freeze(scripted), scripted


def draw(rng: np.random.Generator, shape: tuple[int, ...], dtype: str) -> np.ndarray:
    numbers = rng.integers(-8, 8, shape) if dtype == "i8" else rng.standard_normal(shape)
    return tjit.tensor(numbers).to(getattr(dtypes, dtype)).numpy()


def weight_data(module: Any) -> Any:
    return module._original.weight._data


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16", "i8"])
@pytest.mark.parametrize("transposed", [False, True], ids=["plain", "transposed"])
@pytest.mark.parametrize(
    ("rows", "k", "n"),
    [(1, 64, 96), (3, 77, 100), (8, 9, 31), (33, 130, 200), (150, 64, 64), (150, 200, 33), (4, 5, 64)],
)
def test_products_with_a_frozen_matrix(k, n, transposed, rows, dtype, rng):
    x, w = draw(rng, (rows, k), dtype), draw(rng, (n, k) if transposed else (k, n), dtype)
    fn = (lambda x, w: x @ w.T) if transposed else (lambda x, w: x @ w)
    frozen, plain = frozen_and_plain(w, fn)

    result, expected = frozen(tjit.tensor(x)).numpy(), plain(tjit.tensor(x)).numpy()

    assert_close(result, expected, max(10, k))  # sums of k terms
    if dtype in ("f32", "f64"):
        assert_close(result, fn(x.astype("f8"), w.astype("f8")).astype(x.dtype), max(10, k))


@pytest.mark.parametrize("dtype", ["f32", "f64"])
def test_batches_of_frozen_matrices(dtype, rng):
    x, w = draw(rng, (3, 9, 40), dtype), draw(rng, (3, 40, 64), dtype)
    frozen, plain = frozen_and_plain(w, lambda x, w: (x @ w).transpose(1, 2))

    assert_close(frozen(tjit.tensor(x)).numpy(), plain(tjit.tensor(x)).numpy(), 10)
    assert_close(frozen(tjit.tensor(x)).numpy(), (x.astype("f8") @ w).swapaxes(1, 2).astype(x.dtype), 10)
    assert isinstance(weight_data(frozen), Laid)


CONVOLUTIONS = [  # images, channels, filters, size, kernel, stride, padding, groups
    (1, 16, 64, 14, 3, 1, 1, 1),
    (2, 5, 40, 9, 3, 2, 1, 1),
    (3, 64, 96, 7, 1, 1, 0, 1),
    (1, 24, 33, 14, 1, 2, 0, 1),
    (2, 64, 128, 9, 3, 1, 1, 2),
    (1, 3, 32, 23, 7, 2, 3, 1),
    (1, 300, 64, 5, 3, 1, 1, 1),
    (1, 40, 64, 3, 3, 1, 0, 1),
    (2, 32, 32, 20, 1, 1, 0, 1),
    (2, 32, 32, 8, 3, 1, 1, 32),
]


@pytest.mark.parametrize("dtype", ["f32", "f64", "bf16"])
@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda case: "x".join(map(str, case)))
def test_convolutions_with_frozen_filters(case, dtype, rng):
    n, c, f, size, kernel, stride, padding, groups = case
    x, w = draw(rng, (n, c, size, size), dtype), draw(rng, (f, c // groups, kernel, kernel), dtype)
    frozen, plain = frozen_and_plain(w, lambda x, w: F.relu(F.conv2d(x, w, None, stride, padding, 1, groups)))

    result = frozen(tjit.tensor(x)).numpy()

    assert_close(result, plain(tjit.tensor(x)).numpy(), 10)
    wide = F.relu(F.conv2d(tjit.tensor(x.astype("f8")), tjit.tensor(w.astype("f8")), None, stride, padding, 1, groups))
    assert_close(result, wide.numpy().astype(x.dtype), 100)


def test_results_in_another_order(rng):
    x, w = draw(rng, (2, 16, 14, 14), "f32"), draw(rng, (64, 16, 3, 3), "f32")
    frozen, plain = frozen_and_plain(w, lambda x, w: F.conv2d(x, w, None, 1, 1).permute(0, 2, 3, 1) * 2)
    t = draw(rng, (70, 48), "f32")
    product, unfrozen = frozen_and_plain(draw(rng, (64, 48), "f32"), lambda x, w: (x @ w.T).T + 1)

    assert_close(frozen(tjit.tensor(x)).numpy(), plain(tjit.tensor(x)).numpy(), 10)
    assert_close(product(tjit.tensor(t)).numpy(), unfrozen(tjit.tensor(t)).numpy(), 10)


def test_a_symbolic_batch_keeps_one_copy_of_the_weight(rng):
    w = draw(rng, (96, 64), "f32")
    frozen, plain = frozen_and_plain(w, F.linear)

    for rows in (4, 9, 33, 300):
        x = tjit.tensor(draw(rng, (rows, 64), "f32"))
        assert_close(frozen(x).numpy(), plain(x).numpy(), 10)

    weight = frozen._original.weight
    assert isinstance(weight._data, Laid)
    assert len(weight.__dict__["_frozen"].laid) == 1
    assert frozen._methods["forward"].compiled.cache_info().misses == 2
    assert_same(weight.numpy(), w)


def test_a_weight_of_two_contractions_is_laid_out_once(rng):
    w = draw(rng, (64, 64), "f32")
    frozen, plain = frozen_and_plain(w, lambda x, w: F.relu(x @ w.T) @ w.T)
    x = tjit.tensor(draw(rng, (8, 64), "f32"))

    assert_close(frozen(x).numpy(), plain(x).numpy(), 10)
    assert isinstance(weight_data(frozen), Laid)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, w: x @ w + x @ w.T,
        lambda x, w: (x @ w, w.sum()),
        lambda x, w: x @ w[tjit.tensor([0, 0, *range(2, 64)])],
    ],
    ids=["two orders", "summed", "gathered"],
)
def test_a_weight_that_is_read_in_several_ways_stays_as_it_is(fn, rng):
    frozen, plain = frozen_and_plain(draw(rng, (64, 64), "f32"), fn)
    x = tjit.tensor(draw(rng, (8, 64), "f32"))

    for result, expected in zip(_tuple(frozen(x)), _tuple(plain(x)), strict=True):
        assert_same(result.numpy(), expected.numpy())
    assert isinstance(weight_data(frozen), np.ndarray)


def _tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


def test_a_program_that_reads_a_laid_out_weight_as_it_was(rng):
    w = draw(rng, (64, 64), "f32")
    frozen, plain = frozen_and_plain(w, lambda x, w: x @ w if x.shape[0] > 4 else x * w.sum(1))
    many, few = (tjit.tensor(draw(rng, (rows, 64), "f32")) for rows in (8, 2))

    for x in (many, few, many, few, few):
        assert_close(frozen(x).numpy(), plain(x).numpy(), 10)
    assert isinstance(weight_data(frozen), np.ndarray)
    assert frozen._methods["forward"].compiled.cache_info().misses == 2


def test_inside_of_loops(rng):
    w = draw(rng, (64, 64), "f32") / 8

    def fn(x, w):
        for _ in range(50):
            x = tjit.tanh(x @ w.T)
        return x

    frozen, plain = frozen_and_plain(w, fn)
    x = tjit.tensor(draw(rng, (8, 64), "f32"))

    assert_close(frozen(x).numpy(), plain(x).numpy(), 100)
    assert isinstance(weight_data(frozen), Laid)


def test_gradients_by_the_argument(rng):
    w = draw(rng, (64, 64), "f32")
    frozen, _ = frozen_and_plain(w, F.linear)
    frozen(tjit.tensor(draw(rng, (8, 64), "f32")))
    x = tjit.tensor(draw(rng, (8, 64), "f32")).requires_grad_()

    frozen(x).sum().backward()

    assert_close(x.grad.numpy(), np.broadcast_to(w.sum(0), (8, 64)).copy(), 10)


def test_results_do_not_depend_on_threads(rng):
    w, x = draw(rng, (512, 256, 3, 3), "f32"), tjit.tensor(draw(rng, (1, 256, 7, 7), "f32"))
    frozen, _ = frozen_and_plain(w, lambda x, w: F.conv2d(x, w, None, 1, 1))
    before = threads.get_num_threads()
    try:
        threads.set_num_threads(1)
        one = frozen(x).numpy()
        threads.set_num_threads(2)
        assert_same(frozen(x).numpy(), one)
    finally:
        threads.set_num_threads(before)


def test_frozen_parameters_cannot_be_written(rng):
    frozen, _ = frozen_and_plain(draw(rng, (4, 4), "f32"), lambda x, w: w.add_(x))

    with pytest.raises(ArgumentError, match="which is read-only"):
        frozen(tjit.ones(4, 4))


@pytest.mark.parametrize("called", [False, True], ids=["before a call", "after a call"])
def test_frozen_parameters_keep_their_memory(called, rng):
    frozen, _ = frozen_and_plain(draw(rng, (64, 64), "f32"), F.linear)
    if called:
        frozen(tjit.ones(8, 64))
    message = r"this f32\[64, 64\] tensor is frozen: it cannot be given other memory"

    with pytest.raises(TypeRuleError, match=message):
        frozen.weight.data = tjit.zeros(64, 64)
    with pytest.raises(TypeRuleError, match=message):
        frozen.weight.set_(tjit.zeros(64, 64))
    with pytest.raises(TypeRuleError, match=r"the memory of this .* tensor is read-only"):
        frozen.weight.zero_()


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda t: pickle.loads(pickle.dumps(t))], ids=["deep", "pickled"])
def test_copies_of_frozen_parameters_are_not_frozen(copied, rng):
    frozen, _ = frozen_and_plain(draw(rng, (64, 64), "f32"), F.linear)
    x = tjit.ones(8, 64)
    frozen(x)

    weight = copied(frozen.weight)
    linear = tjit.compile(lambda x: F.linear(x, weight))

    assert not weight.is_frozen
    assert_close(linear(x).numpy(), frozen(x).numpy(), 64)
    weight.zero_()
    assert not linear(x).numpy().any()


def test_a_saved_module_gives_the_same_bits(rng, tmp_path):
    module = nn.Sequential(
        nn.Conv2d(8, 64, 3, padding=1), nn.ReLU(), nn.Conv2d(64, 32, 1), nn.Flatten(), nn.Linear(32 * 49, 100)
    ).eval()
    frozen = tjit.jit.freeze(tjit.jit.script(module))
    x = tjit.tensor(draw(rng, (2, 8, 7, 7), "f32"))
    expected = frozen(x).detach().numpy()

    frozen.save(tmp_path / "m.tjit")

    assert_same(tjit.jit.load(tmp_path / "m.tjit")(x).numpy(), expected)


def test_entry_points_that_read_a_weight_in_other_orders(rng, tmp_path):
    w = draw(rng, (64, 64), "f32")
    frozen, _ = frozen_and_plain(w, F.linear)
    weight = frozen._original.weight
    x = tjit.tensor(draw(rng, (8, 64), "f32"))
    entries = {
        "apply": (frozen._original, (x,)),
        "total": (lambda: weight.sum(), ()),
        "itself": (lambda: weight, ()),
    }

    package = tjit.export(entries, path=tmp_path / "m.tjit")

    assert_close(package["apply"](x).numpy(), x.numpy() @ w.T, 10)
    assert_close(package["total"]().numpy(), w.sum(), 10)
    assert_same(package["itself"]().numpy(), w)


# -- the pass ----------------------------------------------------------------------------------------------------------


LINEAR = """graph f(%x: f32[B, 64], frozen %w: f32[100, 64]) -> f32[B, 100] {
  %0: f32[64, 100] = permute(%w, dims=(1, 0))
  %1: f32[B, 100] = dot(%x, %0)
  return %1
}"""


def test_frozen_inputs_print_and_parse():
    graph = parse_graph(LINEAR)

    assert graph.frozen == {1}
    assert print_graph(graph) == LINEAR


def test_the_split_program_computes_the_same(rng):
    final = run_passes(parse_graph(LINEAR))
    program, laid = split_frozen(final)
    x, w = draw(rng, (8, 64), "f32"), draw(rng, (100, 64), "f32")

    (panels,) = evaluate(laid[1], [w])

    verify(program)
    assert str(program.inputs[1].type) == "f32[4, 64, 32]"
    assert_close(evaluate(program, [x, panels])[0], evaluate(parse_graph(LINEAR), [x, w])[0], 10)


def test_graphs_without_frozen_inputs_stay_the_same_object():
    graph = parse_graph(LINEAR.replace("frozen ", ""))

    assert lay_out_frozen(graph) is graph
    assert split_frozen(graph) == (graph, {})


def contract_plans(graph: Graph, target: Any) -> Any:
    from tjit.codegen.kernel import ContractKernel
    from tjit.codegen.llvm.contract_plan import plan_contract
    from tjit.codegen.llvm.program import costs
    from tjit.codegen.llvm.window_plan import plan_windows
    from tjit.codegen.schedule import schedule
    from tjit.codegen.steps import kernel_steps

    kernels = [s.kernel for s in kernel_steps(schedule(graph, costs(target)))]
    return [plan_windows(k, target) or plan_contract(k, target) for k in kernels if isinstance(k, ContractKernel)]


@pytest.mark.parametrize("level", ["host", "x86-64", "x86-64-v3", "x86-64-v4", "aarch64"])
def test_every_target_reads_panels_in_place(level):
    target = host_target() if level == "host" else named_target(level)
    program, _ = split_frozen(run_passes(parse_graph(LINEAR)))
    windows = """graph f(%x: f32[1, 8, 9, 9], frozen %w: f32[64, 8, 3, 3]) -> f32[1, 64, 9, 9] {
      %0: f32[1, 64, 9, 9] = convolution(%x, %w, strides=(1, 1), dilations=(1, 1), low=(1, 1), out=(9, 9), groups=1)
      return %0
    }"""
    filters, _ = split_frozen(run_passes(parse_graph(windows)))

    (product,) = contract_plans(program, target)
    (convolution,) = contract_plans(filters, target)

    assert product.b.panels.width == 32
    assert product.pack_b.value == "none"
    assert product.columns in (8, 16, 32)
    assert convolution.in_place
