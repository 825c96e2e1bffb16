"""f16 and bf16: each op of a compiled program gives a number of its dtype, as eager ops do (docs/design/0019)."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tests.tolerances import assert_same

HALVES = [tjit.float16, tjit.bfloat16]


def _eighths(rng, *shape, dtype):
    """Numbers of few digits: f32 sums of products of two are exact, in whichever order."""
    return tjit.tensor((rng.integers(-15, 16, shape) / 8).astype(np.float32)).to(dtype)


def _check_bits(function, *args):
    found, expected = tjit.compile(function)(*args), function(*args)

    for got, want in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
        assert_same(got.detach(), want.detach())


def _spread(x):
    """An intermediate value that no half holds."""
    return x * 1.3 + x


def _carried(x):
    total = x[0] * 0
    for i in range(x.shape[0]):
        total = total * 0.9 + x[i] * 1.1
    return total


def _branch(x):
    y = _spread(x).sum() / 3
    return y * 1.7 if y > 0 else y * 1.9


PROGRAMS = {
    "elementwise": lambda x: ((x * 1.3 + x) * 0.7 - x).abs() / 3,
    "minmax and where": lambda x: tjit.where(_spread(x) > x, -_spread(x), tjit.maximum(x * 1.1, x)) * 1.3,
    "converted": lambda x: _spread(x).to(tjit.float32) - x.to(tjit.float32),
    "integers": lambda x: (x * 8.0 + 24.3).to(tjit.int32),
    "compared": lambda x: _spread(x) == _spread(x).amax(-1, keepdim=True),
    "stored and read on": lambda x: (_spread(x), _spread(x) * 1.7),
    "sum": lambda x: (_spread(x).sum(-1), _spread(x).sum(0), _spread(x).sum()),
    "sum and what is summed": lambda x: (_spread(x).sum(-1), _spread(x)),
    "sum and what becomes of it": lambda x: x.sum(-1) * 1.3 + x.sum(-1),
    "mean": lambda x: (_spread(x).mean(-1), _spread(x).mean(0), x.mean(-1) * 1.3),
    "centred": lambda x: (_spread(x) - x.mean(-1, keepdim=True)) * 1.1,
    "extremes": lambda x: (_spread(x).amax(-1), _spread(x).argmin(-1), _spread(x).argmax(0)),
    "scan": lambda x: (_spread(x).cumsum(-1), x.cumsum(-1) * 1.3),
    "product": lambda x: x @ x.T * 1.3 + x.sum(),
    "product of intermediates": lambda x: (x * 1.5 + x) @ x.T,
    "vectors": lambda x: x[0] @ x[1] * 1.3,
    "piecewise": lambda x: (F.leaky_relu(_spread(x), 0.3), F.hardtanh(_spread(x)) * 1.3, F.hardswish(x)),
    "losses": lambda x: (F.mse_loss(_spread(x), x), F.l1_loss(_spread(x), x, reduction="sum")),
    "loop": lambda x: _carried(x[:, 0]),
    "loop over rows": _carried,
    "branch": _branch,
}  # fmt: skip


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(5, 8), (70, 3), (67, 131)], ids=str)
@pytest.mark.parametrize("name", PROGRAMS)
def test_fused_programs_have_the_bits_of_eager_ones(name, shape, dtype, rng):
    _check_bits(PROGRAMS[name], _eighths(rng, *shape, dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("n", [31, 32, 33, 65, 1000, 70_001])
def test_elements_at_any_place_have_the_bits_of_eager_ones(n, dtype, rng):
    x = rng.standard_normal((3, n + 1)).astype(np.float32)
    x[:, ::7] = rng.choice([0.0, -0.0, np.inf, -np.inf, np.nan, 1e-40, -3e-8, 3e38, 65504.0], x[:, ::7].shape)
    x = tjit.tensor(x).to(dtype)
    row, column = x[0, 1:], x[:, :1]

    _check_bits(lambda x: (x[:, 1:] * 1.3 + x[:, :-1], -x[:, 1:] * x[:, :1]), x)
    _check_bits(lambda x, row, column: (x[:, 1:] * row - column) * 1.3 - row, x, row, column)
    _check_bits(lambda x: tjit.exp(x) * x, x)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_elements_changed_in_place_have_the_bits_of_eager_ones(dtype, rng):
    def step(x, y):
        x += y * 1.3
        y *= x
        return x - y

    x, y = (tjit.tensor(rng.standard_normal(1001)).to(dtype) for _ in "xy")
    copies = x.clone(), y.clone()

    found, expected = tjit.compile(step)(x, y), step(*copies)

    for got, want in zip((found, x, y), (expected, *copies), strict=True):
        assert_same(got, want)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(3, 70_001), (9, 9, 1201)], ids=str)
def test_long_sums_are_rounded_once(shape, dtype, rng):
    _check_bits(lambda x: (x * 2).sum(tuple(range(x.ndim - 1))), _eighths(rng, *shape, dtype=dtype))
    _check_bits(lambda x: (x * 2).sum(-1), _eighths(rng, *shape, dtype=dtype))


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_layer_norm_of_one_column_is_zero(dtype, rng):
    x = _eighths(rng, 64, 1, dtype=dtype)

    _check_bits(lambda x: F.layer_norm(_spread(x), (1,)) + x, x)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_the_formula_of_attention_rounds_its_scores(dtype, rng):
    def formula(q, k, v):
        return tjit.softmax(q @ k.mT * 0.3, -1) @ v

    args = [_eighths(rng, 2, 40, 16, dtype=dtype) for _ in range(3)]
    found, expected = (f(*args).float().numpy() for f in (tjit.compile(formula), formula))

    assert (found == expected).mean() > 0.98  # all but where the weights' sums end otherwise


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_gradients_have_the_bits_of_eager_ones(dtype, rng):
    def gradient(x):
        x = x.detach().clone().requires_grad_()
        y = (_spread(x) * x).amax(-1) - _spread(x).sum(-1)
        return tjit.autograd.grad(y.sum(), x)[0]

    _check_bits(gradient, _eighths(rng, 33, 29, dtype=dtype))


ROWS = {
    "softmax": lambda x: F.softmax(_spread(x), -1),
    "log_softmax": lambda x: F.log_softmax(_spread(x), -1),
    "layer_norm": lambda x: F.layer_norm(_spread(x), (x.shape[-1],)),
    "gelu": lambda x: F.gelu(_spread(x).abs(), approximate="tanh"),
    "silu": lambda x: F.silu(_spread(x)),
    "logsumexp": lambda x: _spread(x).logsumexp(-1),
    "std": lambda x: _spread(x).std(-1),
    "attention of few rows": lambda x: F.scaled_dot_product_attention(x[:4] * 3, x * 3, x),
    "attention": lambda x: F.scaled_dot_product_attention(x * 3, x * 3, x),
}


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(70, 13), (40, 160)], ids=str)
@pytest.mark.parametrize("name", ROWS)
def test_an_op_of_many_steps_is_rounded_once(name, shape, dtype, rng):
    x, function = _eighths(rng, *shape, dtype=dtype), ROWS[name]

    got, want = tjit.compile(function)(x), function(x)

    # both are the nearest of sums in f32, whose last digits may differ: neighbours then, where the sum lies between two
    step = np.spacing(np.abs(want.float().numpy())) * 2 ** (23 - (7 if dtype is tjit.bfloat16 else 10))
    off = np.abs(got.float().numpy() - want.float().numpy())
    assert (off <= np.maximum(step, 2**-24)).all()
    assert (off > 0).mean() < 0.02


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(28, 64, 32), (33, 34, 70), (100, 62, 31), (300, 64, 40), (61, 35, 18), (70, 2050, 16), (70, 2048, 20), (9, 2, 9)],
)
def test_products_have_the_bits_of_eager_ones(m, k, n, dtype, rng):
    x, y = _eighths(rng, 2, m, k, dtype=dtype), _eighths(rng, 2, k, n, dtype=dtype)
    wide = _eighths(rng, 2, m, k + 6, dtype=dtype)

    _check_bits(lambda x, y: x @ y, x, y)
    _check_bits(lambda x, y: (x @ y) * 1.3 + 0.1, x, y)
    _check_bits(lambda x, y: y.transpose(1, 2) @ x.transpose(1, 2), x, y)
    _check_bits(lambda x, y: x[:, :, 3 : k + 3] @ y, wide, y)


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_what_a_product_reads_is_stored_as_narrow_as_it_is(dtype, rng):
    q, k, v = (_eighths(rng, 2, 40, 16, dtype=dtype) for _ in "qkv")

    @tjit.compile
    def attention(q, k, v):
        return (q @ k.transpose(-1, -2) * 0.25).softmax(-1) @ v

    temps = [line for line in attention.lower(q, k, v).text("schedule").splitlines() if "[2, 40, 40] at" in line]
    assert len(temps) == 2
    assert all(f": {dtype}[" in line for line in temps)


# -- fast_math: rounded where it is stored -----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("shape", [(8,), (67, 131)], ids=str)
def test_fast_math_rounds_a_chain_once(shape, dtype, rng):
    def chain(x, y):
        z = (x * y + x) * y - x
        return z * y, tjit.cat([z, x]).abs() * y.sum()

    x, y = (tjit.tensor(rng.standard_normal(shape)).to(dtype) for _ in "xy")
    found = tjit.compile(chain, fast_math=True)(x, y)

    z, w = (x.to(tjit.float32), y.to(tjit.float32))
    exact = chain(z, w)
    assert_same(found[0], exact[0].to(dtype))
    np.testing.assert_allclose(
        found[1].to(tjit.float32).numpy(), exact[1].numpy(), rtol=2 * tjit.finfo(dtype).eps, atol=1e-6
    )


@pytest.mark.parametrize("dtype", HALVES, ids=str)
def test_fast_math_finds_extremes_among_what_it_compares(dtype, rng):
    x = tjit.tensor(rng.standard_normal((67, 131))).to(dtype)

    found = tjit.compile(PROGRAMS["compared"], fast_math=True)(x).numpy()

    assert found.any(-1).all()


@pytest.mark.parametrize("dtype", HALVES, ids=str)
@pytest.mark.parametrize("name", [n for n in PROGRAMS if n not in ("compared", "extremes", "integers", "branch")])
def test_fast_math_is_near_f32(name, dtype, rng):
    x = _eighths(rng, 33, 40, dtype=dtype)
    found, exact = tjit.compile(PROGRAMS[name], fast_math=True)(x), PROGRAMS[name](x.to(tjit.float32))

    for got, want in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, exact)), strict=True):
        most = float(want.abs().max())
        error = np.abs(got.to(tjit.float32).numpy() - want.numpy()).max()
        assert error <= 8 * tjit.finfo(dtype).eps * most


@pytest.mark.parametrize("fast", [False, True])
def test_kernels_say_where_they_round(fast, rng):
    x = _eighths(rng, 67, 131, dtype=tjit.bfloat16)
    stages = tjit.compile(lambda x: ((x * 1.5 + x) * x - x).relu(), fast_math=fast).lower(x)

    assert (stages.text("triton").count("tl.bfloat16") == 1) is fast  # the store's
    assert ("bf16 = " not in stages.text("schedule")) is fast
