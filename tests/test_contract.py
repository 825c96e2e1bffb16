"""Products of matrices: every combination of ranks, dtypes, and what the errors say."""

from __future__ import annotations

import numpy as np
import pytest
from on_threads import assert_same_bits
from tolerances import assert_close

import tjit
from tjit.capture.trace import trace_graph
from tjit.dtypes import as_dtype, f16, f32
from tjit.errors import TypeRuleError
from tjit.ir.types import TensorType
from tjit.ops.contract import linear, matmul

SHAPES = (
    ((4,), (4,)),
    ((4,), (4, 5)),
    ((3, 4), (4,)),
    ((3, 4), (4, 5)),
    ((2, 3, 4), (4, 5)),
    ((6, 2, 3, 4), (4,)),
    ((3, 4), (2, 4, 5)),
    ((4,), (2, 4, 5)),
    ((2, 1, 3, 4), (6, 4, 5)),
    ((6, 3, 4), (2, 1, 4, 5)),
    ((2, 0, 4), (4, 5)),
    ((3, 0), (0, 5)),
    ((1, 1), (1, 1)),
)


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float64, np.float32, np.int64, np.int8])
def test_matmul_is_numpys(a, b, dtype, rng):
    x, y = (rng.uniform(-5, 5, s).astype(dtype) for s in (a, b))

    z = matmul(tjit.tensor(x), tjit.tensor(y))

    assert_close(z.numpy(), np.matmul(x, y))


@pytest.mark.parametrize(("a", "b"), SHAPES, ids=str)
def test_matmul_and_its_gradients_are_torchs(a, b, rng):
    torch = pytest.importorskip("torch")
    arrays = [rng.standard_normal(s) for s in (a, b)]
    ours = [tjit.tensor(x, requires_grad=True) for x in arrays]
    theirs = [torch.tensor(x, requires_grad=True) for x in arrays]

    y, t = matmul(*ours), torch.matmul(*theirs)
    (y * y).sum().backward()
    (t * t).sum().backward()

    assert_close(y.detach().numpy(), t.detach().numpy())
    for x, r in zip(ours, theirs, strict=True):
        assert_close(x.grad.numpy(), r.grad.numpy(), 10)


def test_half_precision_accumulates_in_f32():
    ones = tjit.ones(1, 4096, dtype=tjit.float16)

    y = ones @ ones.T

    assert y.dtype is f16
    assert y.item() == 4096  # sums in f16 stop at 2048


def test_a_batch_times_one_matrix_is_one_larger_product():
    graph = trace_graph(
        "f", lambda a, b: matmul_decomposed(a, b), [TensorType(f32, (2, 3, 4)), TensorType(f32, (4, 5))]
    )

    text = str(graph)

    assert "reshape(%input, shape=(6, 4))" in text
    assert "broadcast_to" not in text


def matmul_decomposed(a, b):
    from tjit.ops.contract import MATMUL

    return MATMUL.decompose(a, b)


def test_linear_is_x_times_the_transposed_weight_plus_bias(rng):
    x, w, b = (rng.standard_normal(s) for s in ((2, 3, 4), (5, 4), (5,)))

    y = linear(tjit.tensor(x), tjit.tensor(w), tjit.tensor(b))

    assert_close(y.numpy(), x @ w.T + b)


def test_linear_is_one_node_in_a_graph():
    types = [TensorType(f32, s) for s in ((3, 4), (5, 4), (5,))]

    graph = trace_graph("f", linear, types)

    assert [n.op.name for n in graph.nodes] == ["linear"]


def test_named_products(rng):
    a, b, v, u = (rng.standard_normal(s) for s in ((3, 4), (4, 5), (4,), (4,)))
    base = rng.standard_normal((3, 5))
    ta, tb, tv, tu, tbase = map(tjit.tensor, (a, b, v, u, base))

    assert_close(tjit.mm(ta, tb).numpy(), a @ b)
    assert_close(tjit.mv(ta, tv).numpy(), a @ v)
    assert_close(tjit.dot(tv, tu).numpy(), np.dot(v, u))
    assert_close(tjit.outer(tv, tu).numpy(), np.outer(v, u))
    assert_close(tjit.inner(ta, tv).numpy(), np.inner(a, v))
    assert_close(tjit.addmm(tbase, ta, tb, beta=0.5, alpha=2).numpy(), 0.5 * base + 2 * (a @ b))
    assert_close(ta.mm(tb).numpy(), a @ b)


def test_addmm_with_beta_zero_ignores_nan(rng):
    a, b = rng.standard_normal((3, 4)), rng.standard_normal((4, 5))

    y = tjit.addmm(tjit.full((3, 5), float("nan"), dtype=tjit.float64), tjit.tensor(a), tjit.tensor(b), beta=0)

    assert_close(y.numpy(), a @ b)


def test_bmm_is_torchs(rng):
    a, b, base = (rng.standard_normal(s) for s in ((2, 3, 4), (2, 4, 5), (3, 5)))

    assert_close(tjit.bmm(tjit.tensor(a), tjit.tensor(b)).numpy(), a @ b)
    assert_close(tjit.baddbmm(tjit.tensor(base), tjit.tensor(a), tjit.tensor(b)).numpy(), base + a @ b)


def test_matmul_of_shapes_that_do_not_fit_says_both_extents():
    a = tjit.ones(4, 8)

    with pytest.raises(TypeRuleError) as error:
        a @ a

    lines = str(error.value).split("\n")
    assert lines[0] == "matmul needs a's columns to equal b's rows: f32[4, 8] @ f32[4, 8] has 8 and 4"
    assert lines[1].startswith("  at test_contract.py:")
    assert lines[1].endswith("a @ a")
    assert lines[2] == "  hint: transpose one operand, for example b.T"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: tjit.ones(3) @ tjit.tensor(2.0), "matmul needs operands of at least 1 dim, not f32[3] and f32[]"),
        (
            lambda: tjit.ones(2, 3) @ tjit.ones(3, 2, dtype=tjit.float64),
            "matmul needs operands of one dtype: f32[2, 3] @ f64[3, 2] has f32 and f64",
        ),
        (
            lambda: tjit.ones(2, 3, dtype=tjit.bool) @ tjit.ones(3, 2, dtype=tjit.bool),
            "matmul needs numbers: bool[2, 3] @ bool[3, 2] has bool",
        ),
        (
            lambda: tjit.bmm(tjit.ones(2, 3, 4), tjit.ones(1, 4, 5)),
            "bmm needs equal batch dims: f32[2, 3, 4] @ f32[1, 4, 5] has 2 and 1",
        ),
        (lambda: tjit.mm(tjit.ones(3), tjit.ones(3, 2)), "mm needs 2-D and 2-D tensors, not f32[3] and f32[3, 2]"),
        (
            lambda: tjit.dot(tjit.ones(3), tjit.ones(2)),
            "dot needs vectors of one length: f32[3] and f32[2] have 3 and 2",
        ),
        (
            lambda: linear(tjit.ones(2, 3), tjit.ones(3, 2)),
            "linear needs input's last dim to equal weight's: f32[2, 3] and weight f32[3, 2] have 3 and 2",
        ),
        (
            lambda: tjit.ones(2, 3, 4) @ tjit.ones(5, 4, 6),
            "matmul needs batch dims that broadcast: f32[2, 3, 4] @ f32[5, 4, 6] has [2] and [5]",
        ),
    ],
)
def test_messages(call, message):
    with pytest.raises(TypeRuleError) as error:
        call()

    assert error.value.message == message


EQUATIONS = (
    ("ij,jk", ((2, 3), (3, 4))),
    ("bij,bjk->bik", ((2, 3, 4), (2, 4, 5))),
    ("ii->i", ((3, 3),)),
    ("ii", ((3, 3),)),
    ("i,j->ji", ((2,), (3,))),
    ("...ij,...jk->...ik", ((5, 2, 3), (3, 4))),
    ("ij,ij->", ((2, 3), (2, 3))),
    ("bn,anm,bm->ba", ((2, 5), (3, 5, 4), (2, 4))),
    ("ij,ij->ij", ((2, 3), (1, 3))),
    ("...i->...", ((2, 3, 4),)),
    ("iij->ij", ((3, 3, 2),)),
)


@pytest.mark.parametrize(("equation", "shapes"), EQUATIONS, ids=str)
def test_einsum_is_numpys(equation, shapes, rng):
    arrays = [rng.standard_normal(s) for s in shapes]

    y = tjit.einsum(equation, *map(tjit.tensor, arrays))

    assert_close(y.numpy(), np.einsum(equation, *arrays), 10)


def test_tensordot_is_numpys(rng):
    a, b = rng.standard_normal((3, 4, 5)), rng.standard_normal((4, 3, 2))

    y = tjit.tensordot(tjit.tensor(a), tjit.tensor(b), dims=([1, 0], [0, 1]))

    assert_close(y.numpy(), np.tensordot(a, b, ([1, 0], [0, 1])), 10)


@pytest.mark.parametrize(("rows", "is_outside"), [(32, True), (3, False)])
def test_a_loop_lays_out_a_transposed_weight_once(rows, is_outside, rng):
    def fn(h, w):
        for _ in range(40):
            h = tjit.tanh(h @ w.T)
        return h

    h, w = rng.standard_normal((rows, 24)), rng.standard_normal((24, 24)) / 8
    expected = h
    for _ in range(40):
        expected = np.tanh(expected @ w.T)
    compiled = tjit.compile(fn)

    np.testing.assert_allclose(compiled(h, w), expected, atol=1e-12)
    graph = compiled.lower(h, w).passes()
    assert any(node.op.name == "permute" for node in graph.nodes) == is_outside


def test_a_product_of_a_row_and_a_column_is_a_sum(rng):
    for dtype, shape in [
        (tjit.float32, (70_001,)),
        (tjit.float16, (3, 500)),
        (tjit.int32, (2, 3, 40)),
        (tjit.int64, (0,)),
    ]:
        x, y = (tjit.tensor(rng.integers(-3, 4, shape)).to(dtype) for _ in range(2))
        fn = tjit.compile(lambda x, y: (x[..., None, :] @ y[..., None])[..., 0, 0])

        z = fn(x, y)

        assert z.dtype is dtype
        assert "dot(" not in fn.lower(x, y).text("passes")
        np.testing.assert_array_equal(z.numpy(), (x.to(tjit.int64) * y.to(tjit.int64)).sum(-1).to(dtype).numpy())


LONG = [
    (8, 40_000, 8, "f32"),
    (3, 100_003, 7, "f32"),
    (5, 70_001, 9, "f16"),
    (7, 60_013, 6, "i32"),
    (2, 200_001, 2, "f64"),
]


@pytest.mark.parametrize(("m", "k", "n", "dtype"), LONG, ids=str)
def test_few_results_over_a_long_k_are_sums_of_parts(m, k, n, dtype, rng):
    a, b, bias = (tjit.tensor(rng.integers(-2, 3, shape)).to(as_dtype(dtype)) for shape in ((m, k), (k, n), (n,)))
    fn = tjit.compile(lambda a, b, bias: tjit.relu(a @ b + bias))

    y = fn(a, b, bias)

    exact = a.numpy().astype(np.int64) @ b.numpy().astype(np.int64)
    expected = np.maximum(tjit.tensor(exact).to(y.dtype).numpy() + bias.numpy(), 0)
    np.testing.assert_array_equal(y.numpy(), expected)  # integers that every partial sum holds
    assert "part: 16" in fn.lower(a, b, bias).text("schedule")


def test_transposed_and_batched_operands_are_cut_too(rng):
    a, b = rng.standard_normal((2, 50_001, 6)), rng.standard_normal((2, 9, 50_001))
    fn = tjit.compile(lambda a, b: a.mT @ b.mT)

    y = fn(a, b)

    np.testing.assert_allclose(y, a.swapaxes(1, 2) @ b.swapaxes(1, 2), rtol=1e-11, atol=1e-10)
    assert "part: 16" in fn.lower(a, b).text("schedule")


IMAGES = [
    # images, filters, channels, positions: k = images x positions lies in runs of positions
    (8, 40, 33, 3136),
    (31, 7, 20, 961),
    (64, 64, 48, 196),
    (3, 16, 200, 4096),
]


@pytest.mark.parametrize(("images", "filters", "channels", "positions"), IMAGES, ids=str)
def test_sums_over_images_and_positions_are_cut_between_or_within_images(images, filters, channels, positions, rng):
    g = rng.integers(-2, 3, (images, filters, positions)).astype(np.float32)
    x = rng.integers(-2, 3, (images, channels, positions)).astype(np.float32)
    fn = tjit.compile(lambda g, x: tjit.einsum("nfp,ncp->fc", g, x))

    y = fn(g, x)

    np.testing.assert_array_equal(y, np.einsum("nfp,ncp->fc", g, x, optimize=True))  # sums of integers are exact
    assert "(part: " in fn.lower(g, x).text("schedule")


def test_sums_over_elements_that_are_gathered_are_cut_sooner(rng):
    g, x = (rng.integers(-2, 3, (8, n, 784)).astype(np.float32) for n in (320, 2 * 256))
    product = tjit.compile(lambda g, x: tjit.einsum("nfp,ncp->fc", g, x))
    every_other = x.reshape(8, 256, 784, 2)[..., 1]

    y = product(g, every_other)

    np.testing.assert_array_equal(y, np.einsum("nfp,ncp->fc", g, every_other, optimize=True))
    assert "(part: " in product.lower(g, every_other).text("schedule")
    assert "(part: " not in product.lower(g, x[:, :256]).text("schedule")


def test_partial_sums_do_not_depend_on_the_threads(rng):
    g, x = (rng.standard_normal((8, channels, 3136)).astype(np.float32) for channels in (100, 64))
    fn = tjit.compile(lambda g, x: tjit.einsum("nfp,ncp->fc", g, x))

    (y,) = assert_same_bits(fn, g, x)

    exact = np.einsum("nfp,ncp->fc", g.astype(np.float64), x, optimize=True)
    np.testing.assert_allclose(y, exact, atol=2e-3)  # of 25,088 products


@pytest.mark.parametrize(("images", "positions", "steps"), [(5, 3136, 15_580), (40, 196, 7_800), (2, 3136, 6_000)])
def test_sums_that_end_within_an_image_are_cut_too(images, positions, steps, rng):
    g = rng.integers(-2, 3, (images, 40, positions)).astype(np.float32)
    x = rng.integers(-2, 3, (images, 33, positions)).astype(np.float32)

    def fn(g, x):
        rows_g, rows_x = (y.permute(1, 0, 2).reshape(y.shape[1], -1)[:, :steps] for y in (g, x))
        return rows_g @ rows_x.T

    y = tjit.compile(fn)(tjit.tensor(g), tjit.tensor(x))

    np.testing.assert_array_equal(y.numpy(), fn(tjit.tensor(g), tjit.tensor(x)).numpy())  # sums of integers are exact
    assert "(part: " in tjit.compile(fn).lower(tjit.tensor(g), tjit.tensor(x)).text("schedule")
