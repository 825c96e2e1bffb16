"""Convolutions with lanes along filters, positions and sums: every plan against PyTorch, with both gradients."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pytest
from page_edges import at_edge

import tjit
import tjit.codegen.llvm.contract as contract
import tjit.nn.functional as F
import tjit.runtime.cache as cache
from tjit.codegen.llvm.window_plan import plan_windows

torch = pytest.importorskip("torch")


class Case(NamedTuple):
    """A convolution of [n, c, *size] by [f, c / groups, *kernel], and the lanes of its forward kernel.

    along: an axis, or "planes" where lanes are filters that each read an image of their own.
    """

    along: str
    n: int
    c: int
    size: tuple[int, ...]
    f: int
    kernel: tuple[int, ...]
    stride: int = 1
    padding: int = 1
    dilation: int = 1
    groups: int = 1


CASES = (
    Case("m", 2, 16, (9, 11), 32, (3, 3)),
    Case("m", 3, 20, (14, 14), 24, (3, 3), stride=2),
    Case("m", 2, 96, (7, 7), 80, (3, 3)),  # several blocks of k, and of filters
    Case("m", 1, 3, (17, 19), 40, (7, 7), stride=2, padding=3),
    Case("m", 2, 32, (13, 7), 32, (3, 2), stride=2, dilation=3, groups=2),
    Case("m", 2, 12, (6, 5, 7), 20, (3, 2, 3)),
    Case("m", 2, 16, (5, 8), 32, (3, 3), padding=4),  # tiles that read padding only
    Case("m", 1, 24, (9, 28), 32, (3, 3), padding=2, dilation=2),
    Case("m", 2, 16, (14, 9), 32, (5, 4), stride=3, padding=2),
    Case("m", 1, 12, (40,), 32, (11,), padding=7),  # more taps than are spelt out
    Case("n", 2, 8, (20, 35), 8, (3, 3), groups=8),
    Case("n", 2, 8, (14, 14), 8, (3, 3), stride=2, groups=8),
    Case("n", 2, 6, (17, 40), 9, (3, 3), stride=3, groups=3),
    Case("n", 1, 2, (5, 300), 3, (3, 3)),
    Case("n", 2, 4, (61,), 4, (5,), padding=2),
    Case("m", 2, 24, (13, 11), 24, (3, 3), stride=2, groups=3),  # filters that fill half a vector
    Case("m", 2, 10, (9, 11), 7, (3, 3)),
    Case("planes", 3, 20, (7, 9), 20, (3, 3), groups=20),
    Case("planes", 2, 48, (15, 14), 48, (5, 3), stride=2, padding=2, groups=48),
    Case("planes", 5, 16, (11, 6), 16, (3, 3), padding=4, dilation=2, groups=16),
    Case("planes", 2, 33, (12, 10), 33, (2, 5), stride=3, groups=33),
    Case("planes", 4, 37, (21,), 37, (5,), padding=0, groups=37),
    Case("planes", 1, 17, (33, 29), 17, (5, 5), padding=2, groups=17),
    Case("planes", 2, 24, (5, 6, 7), 24, (3, 3, 2), groups=24),
    Case("n", 2, 24, (3, 4), 24, (3, 3), groups=24),  # planes shorter than a vector
    Case("n", 2, 24, (9, 15), 24, (3, 3), groups=24),  # rows that fill vectors
)


@pytest.fixture
def plans(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The plans of the kernels that are compiled, as all are."""
    monkeypatch.setenv("TJIT_CACHE", "0")
    monkeypatch.setattr(cache, "_default", None)  # which may be in use already
    found: list[Any] = []

    def noted(kernel: Any, target: Any) -> Any:
        plan = plan_windows(kernel, target)
        if plan is not None and plan not in found:
            found.append(plan)
        return plan

    monkeypatch.setattr(contract, "plan_windows", noted)
    return found


def gradients(library: Any, case: Case, x: Any, w: Any) -> tuple[Any, ...]:
    conv = getattr(F if library is tjit else library.nn.functional, f"conv{len(case.size)}d")
    y = conv(x, w, None, case.stride, case.padding, case.dilation, case.groups)
    return y, *library.autograd.grad((y * y).sum(), (x, w))


RUNS = (
    *((case, "float32", 1e-5) for case in CASES),
    *((case, "float64", 1e-13) for case in CASES[::3]),
    *((case, "bfloat16", 3e-2) for case in CASES[::6]),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_kernels_read_nothing_beyond_arrays(case, rng):
    def conv(x, w):
        function = getattr(F, f"conv{len(case.size)}d")
        return function(x, w, None, case.stride, case.padding, case.dilation, case.groups)

    def f(x, w, dy):
        return tjit.autograd.grad((conv(x, w) * dy).sum(), (x, w))

    shapes = (case.n, case.c, *case.size), (case.f, case.c // case.groups, *case.kernel)
    x, w = (tjit.Tensor(at_edge(rng.normal(size=s).astype("f4")), requires_grad=True) for s in shapes)
    dy = tjit.Tensor(at_edge(rng.normal(size=conv(x, w).shape).astype("f4")))

    for found, expected in zip(tjit.compile(f)(x, w, dy), f(x, w, dy), strict=True):
        np.testing.assert_allclose(found.numpy(), expected.numpy(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(("case", "dtype", "tolerance"), RUNS, ids=str)
def test_plans_agree_with_torch(case, dtype, tolerance, rng, plans):
    weights = (case.f, case.c // case.groups, *case.kernel)
    arrays = rng.normal(size=(case.n, case.c, *case.size)), rng.normal(size=weights)
    ours = [tjit.tensor(a).to(getattr(tjit, dtype)).requires_grad_() for a in arrays]
    theirs = [torch.tensor(a).to(getattr(torch, dtype)).requires_grad_() for a in arrays]

    found = tjit.compile(lambda x, w: gradients(tjit, case, x, w))(*ours)

    assert plans
    if plans[0].lanes == 16:
        assert case.along == ("planes" if plans[0].planes else plans[0].along)
    for a, b in zip(found, gradients(torch, case, *theirs), strict=True):
        a, b = a.detach().to(tjit.float64).numpy(), b.detach().to(torch.float64).numpy()
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance * np.abs(b).max())


def test_what_reads_padding_is_left_out(plans):
    tjit.compile(lambda x, w: F.conv2d(x, w, padding=1))(tjit.rand(2, 64, 7, 7), tjit.rand(32, 64, 3, 3))

    plan = plans[0]
    if plan.lanes == 16:
        assert plan.tile.size == 7
        assert [len(tap.lines) for tap in plan.reads.variants[0][0]] == [6, 7, 6]
        assert plan.outer is not None
        assert plan.rows[0] == plan.outer.k == 1


@pytest.mark.parametrize(("stride", "size"), [(1, 7), (2, 13)])
def test_small_images_share_many_filters(stride, size, rng, plans):
    x, w = rng.normal(size=(6, 300, size, size)), rng.normal(size=(450, 300, 1, 1))
    leaves = [torch.tensor(a).requires_grad_() for a in (x, w)]
    wanted = torch.nn.functional.conv2d(*leaves, stride=stride)
    g = rng.normal(size=tuple(wanted.shape))
    wanted.backward(torch.tensor(g))

    @tjit.compile
    def both(x, w, g):
        y = F.conv2d(x, w, stride=stride)
        return y.detach(), *tjit.autograd.grad(y, (x, w), g)

    found = both(*(tjit.tensor(a).requires_grad_() for a in (x, w)), tjit.tensor(g))

    assert {plan.kernel.k.extent for plan in plans} == {300, 450}  # forward and dx
    assert all(plan.along == "m" for plan in plans)
    for a, b in zip(found, (wanted.detach(), *(leaf.grad for leaf in leaves)), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=0, atol=1e-11)


@pytest.mark.parametrize(("kernel", "digits"), [((1, 1), (63, 4)), ((3, 1), (7, 9, 4)), ((1, 3), (7, 9, 4))], ids=str)
def test_lines_that_follow_one_another_are_one(kernel, digits, rng, plans):
    x, w = rng.normal(size=(4, 128, 9, 7)), rng.normal(size=(1024, 128, *kernel))
    padding = tuple(k // 2 for k in kernel)

    found = tjit.compile(lambda x, w: F.conv2d(x, w, padding=padding))(tjit.tensor(x), tjit.tensor(w)).numpy()

    assert tuple(digit.extent for digit in plans[0].windows.n) == digits
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), padding=padding).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12 * np.abs(expected).max())


def test_filters_enough_for_tasks_are_packed_for_all_images_at_once(plans):
    for filters, blocks in ((512, 1), (32, 8)):
        plans.clear()
        tjit.compile(lambda x, w: F.conv2d(x, w, padding=1))(tjit.rand(8, 64, 7, 7), tjit.rand(filters, 64, 3, 3))

        if plans[0].lanes == 16:
            assert plans[0].n.count == blocks
            assert plans[0].cells >= 8


def test_sums_are_kept_for_groups_of_filters(rng, plans):
    x, w = rng.normal(size=(4, 100, 14, 14)).astype("f4"), rng.normal(size=(720, 100, 3, 3)).astype("f4")

    found = tjit.compile(lambda x, w: F.conv2d(x, w, padding=1))(tjit.tensor(x), tjit.tensor(w)).numpy()

    assert plans[0].keeps_sums
    assert 1 < plans[0].group < plans[0].m_blocks
    expected = torch.nn.functional.conv2d(torch.tensor(x), torch.tensor(w), padding=1).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize(("n", "size", "kernels"), [(12, 40, 2), (17, 32, 3), (1, 160, 2), (1, 158, 3)], ids=str)
def test_weight_gradients_of_few_weights_are_cut_along_images(n, size, kernels, rng, plans):
    x, w = rng.normal(size=(n, 3, size, size)), rng.normal(size=(24, 3, 5, 5))
    g = rng.normal(size=(n, 24, size // 2, size // 2))
    back = tjit.compile(lambda x, w, g: tjit.autograd.grad(F.conv2d(x, w, stride=2, padding=2), (w,), g)[0])
    ours = tjit.tensor(x), tjit.tensor(w).requires_grad_(), tjit.tensor(g)

    found = back(*ours).numpy()

    assert str(back.lower(*ours).schedule()).count("  k") == kernels
    assert plans
    expected = torch.nn.grad.conv2d_weight(torch.tensor(x), w.shape, torch.tensor(g), 2, 2).numpy()
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-13 * np.abs(expected).max())


def test_phases_of_a_strided_gradient_are_stored_where_they_belong(rng):
    x = tjit.tensor(rng.normal(size=(2, 16, 12, 12))).requires_grad_()
    w, g = tjit.tensor(rng.normal(size=(8, 16, 3, 3))), tjit.tensor(rng.normal(size=(2, 8, 6, 6)))

    @tjit.compile
    def gradient(x, w, g):
        return tjit.autograd.grad(F.conv2d(x, w, stride=2, padding=1), (x,), g)[0]

    text = str(gradient.lower(x, w, g).schedule())
    assert "4 kernels" in text
    assert text.count("in place") == 3  # all is written: nothing fills it with zeros before
    assert "where" not in text


@pytest.mark.parametrize(("kernel", "stride", "size"), [(1, 2, 9), (2, 3, 8), (3, 2, 1), (3, 3, 2)])
def test_phases_that_no_tap_reads_are_zero(kernel, stride, size, rng):
    x, w = rng.normal(size=(2, 4, size, size)), rng.normal(size=(16, 4, kernel, kernel))
    out = (size + 2 - kernel) // stride + 1
    g = rng.normal(size=(2, 16, out, out))
    back = tjit.compile(lambda x, w, g: tjit.autograd.grad(F.conv2d(x, w, None, stride, 1), (x,), g)[0])

    expected = torch.nn.grad.conv2d_input(x.shape, torch.tensor(w), torch.tensor(g), stride, 1).numpy()
    for _ in range(3):
        np.testing.assert_allclose(back(tjit.tensor(x).requires_grad_(), w, g).numpy(), expected, atol=1e-12)
        np.full(x.shape, np.nan)  # what the next result may be written over


# (n, c, size, kernel, stride, padding, dilation), and the lines of a row of results, of vectors of 16
SPREAD = (
    ((2, 16, (28, 28), (3, 3), (2, 2), 1, 1), 2),
    ((2, 3, (11, 27), (3, 3), (2, 2), 1, 1), 2),
    ((1, 5, (13, 230), (5, 5), (2, 2), 2, 1), 2),  # parts of rows: the phase of their number chooses the taps
    ((1, 5, (13, 17), (5, 5), (3, 3), 2, 1), 3),
    ((1, 4, (12, 50), (3, 3), (2, 1), 1, 1), 1),
    ((1, 4, (12, 50), (3, 3), (1, 2), 1, 1), 2),
    ((1, 4, (31, 29), (4, 5), (2, 3), 0, 2), 3),  # a stride that divides the dilation
    ((1, 17, (9, 9), (2, 2), (3, 3), 0, 1), 3),  # elements that no tap reads
    ((2, 4, (131,), (7,), (4,), 3, 1), 4),
    ((2, 4, (9, 10, 11), (3, 3, 3), (2, 2, 2), 1, 1), 2),
)


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-5), ("float64", 1e-13), ("bfloat16", 1e-2)])
@pytest.mark.parametrize(("case", "lines"), SPREAD, ids=str)
def test_all_phases_of_a_depthwise_gradient_are_one_kernel(case, lines, dtype, tolerance, rng, plans):
    n, c, size, kernel, stride, padding, dilation = case
    out = tuple(
        (e + 2 * padding - dilation * (t - 1) - 1) // s + 1 for e, t, s in zip(size, kernel, stride, strict=True)
    )
    x, w, g = (rng.normal(size=s) for s in ((n, c, *size), (c, 1, *kernel), (n, c, *out)))
    conv = f"conv{len(size)}d"
    back = tjit.compile(
        lambda x, w, g: tjit.autograd.grad(getattr(F, conv)(x, w, None, stride, padding, dilation, c), (x,), g)[0]
    )
    ours = [tjit.tensor(a).to(getattr(tjit, dtype)) for a in (x, w, g)]
    ours[0].requires_grad_()

    found = back(*ours).to(tjit.float64).numpy()

    assert "1 kernels" in str(back.lower(*ours).schedule())
    assert plans
    assert plans[0].windows.is_spread
    assert plans[0].reads.side_by_side == lines
    leaf = torch.tensor(x).requires_grad_()
    getattr(torch.nn.functional, conv)(leaf, torch.tensor(w), None, stride, padding, dilation, c).backward(
        torch.tensor(g)
    )
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=0, atol=tolerance * np.abs(found).max())


def test_zeros_between_elements_are_not_multiplied(plans):
    """A weight that is not finite spoils what it takes part in, and no other phase."""
    w = np.ones((16, 1, 3, 3), np.float32)
    w[:, :, 1, 1] = np.inf
    x, g = tjit.rand(1, 16, 20, 20).requires_grad_(), tjit.ones(1, 16, 10, 10)
    back = tjit.compile(lambda x, w, g: tjit.autograd.grad(F.conv2d(x, w, None, 2, 1, 1, 16), (x,), g)[0])

    found = back(x, tjit.tensor(w), g).numpy()

    assert np.isposinf(found[:, :, ::2, ::2]).all()
    found[:, :, ::2, ::2] = 0
    assert np.isfinite(found).all()


# (n, c, f, size, kernel, stride, padding, groups), and the convolutions of its phases
STACKED = (
    ((2, 1, 7, (1600,), 80, 32, 0, 1), 2),
    ((2, 4, 7, (163,), 64, 16, 3, 1), 1),
    ((1, 3, 5, (32, 32), 4, 4, 0, 1), 1),
    ((1, 3, 5, (37, 33), 3, 6, 1, 1), 1),  # phases that no tap reads
    ((2, 6, 4, (31, 40), 9, 8, 2, 2), 4),
    ((1, 2, 3, (9, 10, 11), 6, 3, 1, 1), 1),
)


@pytest.mark.parametrize(("case", "convolutions"), STACKED, ids=str)
def test_many_phases_are_channels_of_few_convolutions(case, convolutions, rng):
    n, c, f, size, kernel, stride, padding, groups = case
    out = tuple((e + 2 * padding - kernel) // stride + 1 for e in size)
    x, w, g = (rng.normal(size=s) for s in ((n, c, *size), (f, c // groups, *(kernel,) * len(size)), (n, f, *out)))
    conv = f"conv{len(size)}d"
    back = tjit.compile(
        lambda x, w, g: tjit.autograd.grad(getattr(F, conv)(x, w, None, stride, padding, 1, groups), (x,), g)[0]
    )
    ours = tjit.tensor(x).requires_grad_(), tjit.tensor(w), tjit.tensor(g)

    found = back(*ours).numpy()

    assert str(back.lower(*ours).schedule()).count("sum over") == convolutions
    leaf = torch.tensor(x).requires_grad_()
    getattr(torch.nn.functional, conv)(leaf, torch.tensor(w), None, stride, padding, 1, groups).backward(
        torch.tensor(g)
    )
    np.testing.assert_allclose(found, leaf.grad.numpy(), rtol=0, atol=1e-12 * np.abs(found).max())


@pytest.mark.parametrize("groups", [1, 2, 12])
def test_gradients_of_transposed_convolutions_are_convolutions(groups, rng):
    x, w = rng.normal(size=(2, 12, 7, 6)), rng.normal(size=(12, 24 // groups, 3, 4))
    y = torch.nn.functional.conv_transpose2d(torch.tensor(x), torch.tensor(w), None, 2, 1, 1, groups)
    g = rng.normal(size=y.shape)
    leaves = [torch.tensor(a).requires_grad_() for a in (x, w)]
    torch.nn.functional.conv_transpose2d(*leaves, None, 2, 1, 1, groups).backward(torch.tensor(g))
    back = tjit.compile(lambda x, w, g: tjit.autograd.grad(F.conv_transpose2d(x, w, None, 2, 1, 1, groups), (x, w), g))
    ours = [tjit.tensor(a).requires_grad_() for a in (x, w)]

    found = back(*ours, tjit.tensor(g))

    text = str(back.lower(*ours, tjit.tensor(g)).schedule())
    assert text.count("sum over") == 2  # one of each
    for a, leaf in zip(found, leaves, strict=True):
        np.testing.assert_allclose(a.numpy(), leaf.grad.numpy(), rtol=0, atol=1e-11)


def test_what_is_read_before_all_phases_are_written_is_zero(rng):
    a, b = rng.normal(size=(2, 6, 5))

    @tjit.compile
    def interleaved(a, b):
        y = tjit.zeros(12, 6, dtype=tjit.float64)
        y[::2] = a @ b.T
        seen = y + 1
        y[1::2] = b @ a.T
        return y, seen

    y, seen = interleaved(a, b)  # arrays, as its arguments are

    first, second = np.zeros((12, 6)), np.zeros((12, 6))
    first[::2], second[::2], second[1::2] = a @ b.T, a @ b.T, b @ a.T
    np.testing.assert_allclose(seen, first + 1, atol=1e-12)
    np.testing.assert_allclose(y, second, atol=1e-12)


def test_a_phase_that_is_written_from_a_later_element_on_is_not_all_written(rng):
    a, b = rng.normal(size=(5, 5)), rng.normal(size=(6, 5))

    @tjit.compile
    def interleaved(a, b):
        y = tjit.zeros(12, 5, dtype=tjit.float64)
        y[2::2] = a @ a
        y[1::2] = b @ a
        return y

    expected = np.zeros((12, 5))
    expected[2::2], expected[1::2] = a @ a, b @ a
    for _ in range(3):
        np.testing.assert_allclose(interleaved(a, b), expected, atol=1e-12)
        np.full((12, 5), np.nan)  # what the next result may be written over


def test_a_max_pool_gives_its_gradient_to_the_first_of_equal_elements():
    x = np.zeros((1, 1, 5, 6))
    for size, stride, padding in ((2, 2, 0), (3, 2, 1)):
        leaf = torch.tensor(x).requires_grad_()
        torch.nn.functional.max_pool2d(leaf, size, stride, padding).sum().backward()
        for wrap in (lambda f: f, tjit.compile):
            own = tjit.tensor(x).requires_grad_()
            wrap(lambda t, s=(size, stride, padding): F.max_pool2d(t, *s).sum())(own).backward()
            np.testing.assert_array_equal(own.grad.numpy(), leaf.grad.numpy())


@pytest.mark.parametrize("stride", [1, 2])
def test_a_max_pool_finds_the_largest_elements_once(stride):
    x = tjit.rand(2, 3, 32, 32).requires_grad_()
    g = tjit.rand(2, 3, 32 // stride, 32 // stride)

    text = tjit.compile(lambda x, g: tjit.autograd.grad(F.max_pool2d(x, 3, stride, 1), (x,), g)[0]).lower(x, g)

    assert "2 kernels" in text.text("schedule")


@pytest.mark.parametrize("radix", [2, 3, 4])
def test_what_is_interleaved_is_written_by_whole_vectors(radix, rng):
    parts = [rng.normal(size=(5, 37)).astype(np.float32) for _ in range(radix)]

    @tjit.compile
    def interleave(*parts):
        return tjit.stack(parts, 2).reshape(5, -1) + 1

    lowered = interleave.lower(*parts)
    assert re.search(rf": {radix}[,)]", str(lowered.schedule()))  # the phase is an axis of its own
    np.testing.assert_array_equal(interleave(*parts), np.stack(parts, 2).reshape(5, -1) + np.float32(1))
