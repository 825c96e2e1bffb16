"""What the scheduler decides: which ops share a kernel, what is in memory, what is written in place."""

from __future__ import annotations

import random

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit.codegen.buffers import Lifetime, plan_arena
from tjit.codegen.kernel import ContractKernel, LoopKernel, Reduce
from tjit.ir.dims import Symbol


def plan(fn, *args):
    """The schedule of the program that `fn` compiles to for these arguments."""
    return tjit.compile(fn).lower(*args).schedule()


def kernels(fn, *args):
    return [step.kernel for step in plan(fn, *args).steps]


def test_a_chain_of_elementwise_ops_is_one_kernel():
    found = kernels(lambda x, y: tjit.relu(2 * x + y) * y - x.exp(), tjit.randn(7, 9), tjit.randn(9))

    assert len(found) == 1
    assert isinstance(found[0], LoopKernel)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: F.softmax(x, 1),
        lambda x: F.log_softmax(x, 1),
        lambda x: F.layer_norm(x, (40,)),
        lambda x: tjit.logsumexp(x, 1),
        lambda x: x.var(1),
        lambda x: F.rms_norm(x, (40,)),
    ],
    ids=["softmax", "log_softmax", "layer_norm", "logsumexp", "var", "rms_norm"],
)
def test_row_wise_programs_are_one_kernel(fn):
    assert len(kernels(fn, tjit.randn(30, 40))) == 1


def test_the_gradient_of_softmax_is_one_kernel():
    def gradient(x, g):
        x = x.detach().requires_grad_()
        return tjit.autograd.grad(F.softmax(x, 1), x, g)[0]

    assert len(kernels(gradient, tjit.randn(30, 40), tjit.randn(30, 40))) == 1


def test_exp_of_softmax_is_computed_once_per_element():
    text = plan(lambda x: F.softmax(x, 1), tjit.randn(30, 40)).__str__()

    assert text.count("= exp(") == 1


def test_sibling_reductions_read_their_data_once():
    (kernel,) = kernels(lambda x: (x.sum(1), x.amax(1), (x * x).sum(1)), tjit.randn(30, 40))

    assert len(kernel.loops[0].body) == 3


def test_bias_and_activation_are_the_epilogue_of_a_contraction():
    (kernel,) = kernels(lambda x, w, b: tjit.relu(x @ w + b), tjit.randn(8, 16), tjit.randn(16, 12), tjit.randn(12))

    assert isinstance(kernel, ContractKernel)


def test_an_epilogue_reaches_through_a_reshape():
    def fn(x, w, b):
        return F.gelu(F.linear(x, w, b))

    (kernel,) = kernels(fn, tjit.randn(3, 5, 16), tjit.randn(12, 16), tjit.randn(12))

    assert isinstance(kernel, ContractKernel)


def test_a_value_stored_through_a_reshape_is_read_again_in_its_kernel(rng):
    def fn(x, a, w, y):
        h = tjit.tanh(x.sum() + (a @ w).reshape(()))
        y += h
        return a.T @ h.reshape(1, 1)

    arrays = [rng.standard_normal(shape) for shape in ((5,), (1, 5), (5, 1), (5,))]
    (x, a, w, y), (*_, z) = ([tjit.tensor(v) for v in arrays] for _ in range(2))

    found, wanted = tjit.compile(fn)(x, a, w, y), fn(x, a, w, z)

    np.testing.assert_allclose(np.asarray(found), np.asarray(wanted), rtol=1e-12)
    np.testing.assert_allclose(np.asarray(y), np.asarray(z), rtol=1e-12)


def test_transposed_operands_are_read_in_place():
    found = kernels(lambda x, y: x.T @ y.T, tjit.randn(16, 8), tjit.randn(12, 16))

    assert len(found) == 1


def test_an_update_is_written_in_place():
    w = tjit.randn(50)

    def step(g):
        w.sub_(g * 0.1)

    schedule = plan(step, tjit.randn(50))

    assert len(schedule.steps) == 1
    assert schedule.arena == 0
    assert schedule.steps[0].arguments[-1].kind == "input"


def test_an_input_that_is_still_read_is_not_overwritten():
    def fn(x):
        y = x.sum(0)
        x.mul_(2.0)
        return x * y, y

    x = tjit.randn(5, 4)
    before = x.numpy().copy()
    got, total = tjit.compile(fn)(x)

    np.testing.assert_allclose(x.numpy(), before * 2)
    np.testing.assert_allclose(total.numpy(), before.sum(0), rtol=1e-5)
    np.testing.assert_allclose(got.numpy(), before * 2 * before.sum(0), rtol=1e-5)


def test_a_transposed_write_of_an_input_onto_itself_is_right():
    def fn(x):
        x.copy_(x.T.clone())

    x = tjit.arange(9.0).reshape(3, 3)
    tjit.compile(fn)(x)

    np.testing.assert_array_equal(x.numpy(), np.arange(9.0).reshape(3, 3).T)


def test_work_does_not_wait_on_one_thread_for_a_full_reduction():
    found = kernels(lambda x: x / x.sum(), tjit.randn(300, 400))

    last = found[-1]
    assert isinstance(last, LoopKernel)
    assert not any(isinstance(s, Reduce) for loop in last.loops for s in loop.body)
    assert last.parallel


def test_a_long_reduction_is_cut_by_shape_alone():
    first, second = kernels(lambda x: x.sum(), tjit.randn(1000, 400))

    assert first.parallel[0].extent == 32
    assert second.parallel == ()


def test_what_stands_a_few_times_side_by_side_is_computed_once():
    def enlarged(x, y):
        small = ((x * 2 + 1) * x - 3).abs() * x
        return small.reshape(8, 1, 8, 1).expand(8, 2, 8, 2).reshape(16, 16) * y

    first, second = kernels(enlarged, tjit.randn(8, 8), tjit.randn(16, 16))

    assert [np.prod(b.shape) for b in (*first.outputs, *second.outputs)] == [64, 256]


@pytest.mark.parametrize(("size", "window"), [(56, 2), (28, 2), (57, 3)])
def test_lanes_run_along_windows_not_inside_them(size, window):
    (kernel,) = kernels(lambda x: F.max_pool2d(x, window, 2), tjit.randn(2, 3, size, size))

    assert kernel.vector is kernel.parallel[-1]
    assert kernel.vector.extent == (size - window) // 2 + 1


def test_memory_is_reused_once_its_reader_has_run():
    def fn(x, w):
        for _ in [None] * 6:  # a list: no loop stays
            x = F.softmax(x @ w, 1)
        return x

    x, w = tjit.randn(64, 64), tjit.randn(64, 64)
    schedule = plan(fn, x, w)

    one = 64 * 64 * 4
    scratch = max(t.type.nbytes for t in schedule.temps if t.name.startswith("scratch"))
    assert schedule.arena <= 3 * one + 2 * scratch


def test_scratch_memory_does_not_grow_with_tasks():
    x = tjit.randn(1024, 1024)
    schedule = plan(lambda x: x @ x.T, x)

    (step,) = schedule.steps
    assert step.kernel.tasks >= 8
    assert schedule.arena <= x.numel() * 4


def test_arena_places_overlapping_lifetimes_apart():
    lives = [Lifetime(100, 0, 2), Lifetime(200, 1, 3), Lifetime(64, 3, 4), Lifetime(300, 4, 5)]

    offsets, size = plan_arena(lives)

    for i, a in enumerate(lives):
        for j, b in enumerate(lives[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.nbytes <= offsets[j] or offsets[j] + b.nbytes <= offsets[i]
    assert size == 384
    assert all(offset % 64 == 0 for offset in offsets)


@pytest.mark.parametrize("longest", [3, 60])
def test_arena_of_many_lifetimes(longest):
    draw = random.Random(longest)
    firsts = [draw.randrange(200) for _ in range(150)]
    lives = [Lifetime(draw.randint(1, 5000), n, n + draw.randrange(longest)) for n in firsts]

    offsets, size = plan_arena(lives)

    for i, a in enumerate(lives):
        assert offsets[i] + a.nbytes <= size
        for j, b in enumerate(lives[:i]):
            if a.first <= b.last and b.first <= a.last:
                assert offsets[i] + a.nbytes <= offsets[j] or offsets[j] + b.nbytes <= offsets[i]
    alive = [sum(a.nbytes + 64 for a in lives if a.first <= n <= a.last) for n in range(260)]
    assert 2 * size <= 3 * max(alive)


def test_arena_reuses_symbolic_memory_of_equal_size():
    n = Symbol("n").dim

    offsets, _ = plan_arena([Lifetime(n * 4, 0, 1), Lifetime(n * 4, 2, 3), Lifetime(n * 4, 3, 4)])

    assert offsets[0] == offsets[1]
    assert offsets[2] != offsets[1]


def test_padding_of_a_guarded_quotient():
    def fn(x, m, g):
        quotient = tjit.where(x == m.expand(3, 3), (g / m).expand(3, 3), 0.0)
        return F.pad(quotient, (2, 0))

    x = tjit.tensor([[1.0, 2.0, 3.0]] * 3, dtype=tjit.float64)
    m = tjit.full((3, 1), 2.0, dtype=tjit.float64)

    got = tjit.compile(fn)(x, m, m)

    np.testing.assert_array_equal(got.numpy(), fn(x, m, m).numpy())


def test_equal_kernels_have_one_name():
    found = kernels(lambda x, w: F.softmax(F.softmax(x, 1) @ w, 1), tjit.randn(30, 30), tjit.randn(30, 30))

    names = [k.name for k in found if isinstance(k, LoopKernel)]
    assert len(names) == 2
    assert len(set(names)) == 1


def test_the_text_of_a_schedule_is_deterministic():
    def fn(x, w):
        return F.softmax(x @ w, 1).sum(0)

    first = str(plan(fn, tjit.randn(30, 20), tjit.randn(20, 10)))
    second = str(plan(fn, tjit.randn(30, 20), tjit.randn(20, 10)))

    assert first == second


def _unrolled(steps):
    def julia(x, y):
        for _ in [None] * steps:
            x, y = x * x - y * y + 0.1, 2 * x * y + 0.2  # each value is used twice: paths double with every step
        return x

    return julia


def test_code_grows_with_the_steps_of_an_unrolled_loop_not_with_its_paths():
    x, y = tjit.rand(9), tjit.rand(9)

    short, long = (len(str(plan(_unrolled(n), x, y))) for n in (20, 40))  # 2^20 and 2^40 paths

    assert long < 3 * short


def test_a_long_chain_is_cut_into_kernels():
    x, y = tjit.rand(3, 9) / 4, tjit.rand(3, 9) / 4

    result = tjit.compile(_unrolled(300))(x, y)

    np.testing.assert_allclose(result, _unrolled(300)(x, y), rtol=1e-4)


def test_a_row_that_a_later_loop_reads_is_not_overwritten():
    def fn(x):
        y = -(x.abs() + 1.0).sqrt()
        centred = y - y.mean(1, keepdim=True)
        result = centred * (centred * centred).mean(1, keepdim=True).rsqrt()
        x.mul_(0.5)
        return result, y

    x = tjit.randn(4, 9, dtype=tjit.float64)
    eager = x.clone()
    got, want = tjit.compile(fn)(x), fn(eager)

    np.testing.assert_allclose(got[0].numpy(), want[0].numpy(), rtol=1e-12)
    np.testing.assert_allclose(x.numpy(), eager.numpy())


def test_a_value_copied_over_its_source_is_read_before():
    def fn(x, z):
        x.copy_(z * 2.0)
        return x + 1.0, z - x

    x, z = tjit.randn(33), tjit.randn(33)
    eager = x.clone()
    got, want = tjit.compile(fn)(x, z), fn(eager, z)

    for g, w in zip(got, want, strict=True):
        np.testing.assert_array_equal(g.numpy(), w.numpy())


def _heat(steps):
    def heat(u):
        u = u.clone()
        for _ in [None] * steps:
            u[1:-1] += 0.1 * (u[2:] + u[:-2] - 2 * u[1:-1])
        return u

    return heat


def test_each_step_of_a_stencil_is_a_kernel_of_its_own_and_small():
    text = str(plan(_heat(6), tjit.rand(100)))

    assert "6 kernels" in text
    assert text.count("= mul(2.0") == 6  # not 3 of one step for each of the next


def test_a_stencil_of_many_steps_is_right(rng):
    u = rng.standard_normal(40)
    expected = u.copy()
    for _ in range(30):
        expected[1:-1] += 0.1 * (expected[2:] + expected[:-2] - 2 * expected[1:-1])

    result = tjit.compile(_heat(30))(tjit.from_numpy(u))

    np.testing.assert_allclose(result, expected, rtol=1e-12)


def test_halves_are_computed_where_they_are_used():
    found = kernels(lambda x: (lambda y: y[:, ::2] * y[:, 1::2] + y[:, :4] - y[:, 4:])(x.exp() + 1), tjit.rand(3, 8))

    assert len(found) <= 2


def test_glu_of_an_expression_is_one_kernel():
    assert len(kernels(lambda x: F.glu(x.exp()), tjit.rand(3, 8))) == 1


def test_a_tall_sum_over_columns_is_cut_and_a_sum_over_rows_is_not():
    columns = kernels(lambda x: x.sum(0), tjit.randn(1024, 1100))
    rows = kernels(lambda x: x.sum(1), tjit.randn(1100, 1024))

    assert [len(k.parallel) for k in columns] == [2, 1]
    assert len(rows) == 1


def test_a_tall_sum_over_columns_is_right(rng):
    x = rng.standard_normal((1025, 1031))

    got, most = tjit.compile(lambda x: (x.sum(0), x.amax(0)))(x)

    np.testing.assert_allclose(got, x.sum(0), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(most, x.max(0))


def test_a_concatenation_in_memory_is_written_piece_by_piece():
    def f(x, y):
        return tjit.cat([tjit.tanh(x), x * y, y], dim=1)

    x, y = tjit.randn(5, 96), tjit.randn(5, 96)
    found = plan(f, x, y)

    assert len(found.steps) == 1
    assert not found.temps
    wanted = np.concatenate([np.tanh(np.asarray(x)), np.asarray(x) * np.asarray(y), np.asarray(y)], 1)
    np.testing.assert_allclose(np.asarray(tjit.compile(f)(x, y)), wanted, rtol=1e-6)


def test_short_pieces_are_chosen_where_they_are_read():
    found = kernels(lambda x, y: tjit.cat([x, y], dim=1), tjit.randn(100, 3), tjit.randn(100, 2))

    assert len(found) == 1


def test_gradients_of_chunks_are_one_array():
    def f(x, w):
        a, b = (x @ w).chunk(2, 1)
        return (tjit.tanh(a) * b).sum()

    def gradient(fn):
        x, w = tjit.ones(8, 16).requires_grad_(), tjit.linspace(-1, 1, 16 * 192).reshape(16, 192).requires_grad_()
        fn(x, w).backward()
        return np.asarray(w.grad)

    np.testing.assert_allclose(gradient(tjit.compile(f)), gradient(f), rtol=1e-5)


def test_what_a_loop_fills_is_not_filled_before():
    def f(x):
        rows = tjit.zeros(9, 5)
        for i in range(9):
            rows[i] = tjit.tanh(x @ x[i % 5])
        return rows

    x = tjit.randn(5, 5)

    assert len(plan(f, x).steps) == 1
    np.testing.assert_allclose(np.asarray(tjit.compile(f)(x)), np.asarray(f(x)), rtol=1e-5)


def test_what_a_loop_fills_in_part_is_filled_before():
    def f(x):
        rows = tjit.zeros(10, 5)
        for i in range(9):
            rows[i] = tjit.tanh(x @ x[i % 5])
        return rows

    x = tjit.randn(5, 5)
    np.testing.assert_allclose(np.asarray(tjit.compile(f)(x)), np.asarray(f(x)), rtol=1e-5)


def test_a_long_chain_is_kernels_that_repeat():
    @tjit.compile
    def f(x, y):
        for _ in [0] * 1000:
            x = tjit.sin(x) * y
        return x

    x, y = (tjit.from_numpy(np.linspace(start, start + 1, 7)) for start in (0.1, 1.0))
    expected = x.numpy()
    for _ in range(1000):
        expected = np.sin(expected) * y.numpy()

    kernels = [step.kernel.name for step in f.lower(x, y).schedule().steps]

    np.testing.assert_allclose(f(x, y).numpy(), expected, rtol=1e-9)
    assert len(kernels) > 10
    assert len(set(kernels)) <= 3
