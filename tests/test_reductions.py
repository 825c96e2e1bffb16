"""Reductions whatever the layout: which axis runs along the lanes, and the results against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest
from on_threads import assert_same_bits

import tjit
import tjit.nn.functional as F
from tjit.codegen import split
from tjit.codegen.llvm.target import TARGETS, host_target


def _softmax(x, dim):
    e = np.exp(x - x.max(axis=dim, keepdims=True))
    return e / e.sum(axis=dim, keepdims=True)


def _log_sum_exp(x, dim):
    m = x.max(axis=dim, keepdims=True)
    return np.squeeze(m + np.log(np.exp(x - m).sum(axis=dim, keepdims=True)), dim)


REDUCTIONS = {
    "sum": (lambda x, d: x.sum(d), lambda x, d: x.sum(axis=d)),
    "prod": (lambda x, d: (x / 2).exp().prod(d), lambda x, d: np.exp(x / 2).prod(axis=d)),
    "max": (lambda x, d: x.amax(d), lambda x, d: x.max(axis=d)),
    "argmax": (lambda x, d: x.argmax(d), lambda x, d: x.argmax(axis=d)),
    "argmin": (lambda x, d: x.argmin(d), lambda x, d: x.argmin(axis=d)),
    "any": (lambda x, d: (x > 2.5).any(d), lambda x, d: (x > 2.5).any(axis=d)),
    "all": (lambda x, d: (x > -2.5).all(d), lambda x, d: (x > -2.5).all(axis=d)),
    "var": (lambda x, d: x.var(d), lambda x, d: x.var(axis=d, ddof=1)),
    "logsumexp": (lambda x, d: x.logsumexp(d), _log_sum_exp),
    "softmax": (lambda x, d: tjit.softmax(x, d), _softmax),
    "log_softmax": (lambda x, d: tjit.log_softmax(x, d), lambda x, d: np.log(_softmax(x, d))),
    "centred": (lambda x, d: x - x.mean(d, keepdim=True), lambda x, d: x - x.mean(axis=d, keepdims=True)),
}
LAYOUTS = {
    "contiguous": lambda x: x,
    "transposed": lambda x: x.swapaxes(0, -1).copy().swapaxes(0, -1),
    "every second": lambda x: np.repeat(x, 2, -1)[..., ::2],
    "every third row": lambda x: np.repeat(x, 3, 0)[::3],
    "far apart": lambda x: np.repeat(x, 7, -1)[..., ::7],
}


def _check(name, x, dim):
    fn, reference = REDUCTIONS[name]

    result = tjit.compile(lambda x: fn(x, dim))(tjit.from_numpy(x))

    np.testing.assert_allclose(result.numpy(), reference(x.astype(np.float64), dim), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", REDUCTIONS)
def test_reductions_are_right_in_every_layout(name, layout, rng):
    x = LAYOUTS[layout](rng.standard_normal((5, 19, 33), np.float32))

    for dim in range(3):
        _check(name, x, dim)


def _schedule(fn, *shape):
    return tjit.compile(fn).lower(tjit.zeros(*shape)).text("schedule")


def test_a_softmax_of_columns_has_its_lanes_along_the_columns():
    text = _schedule(lambda x: tjit.softmax(x, 0), 1000, 3000)

    assert "vector p0" in text
    assert "row0" not in text


@pytest.mark.parametrize("fn", [lambda x: tjit.softmax(x, 1), lambda x: x.var(1)])
def test_lanes_run_along_rows_whatever_is_read_once_for_each(fn):
    kernels = _schedule(fn, 8, 500_000).split("parallel")

    assert [k.split("vector ")[1].split()[0] for k in kernels if "for (r0s" in k] == ["r0s", "r0s"]


def test_steps_of_few_elements_are_known_to_the_program():
    fn = tjit.compile(lambda x: x.sum(1))
    x = np.arange(3000, dtype=np.float32).reshape(30, 100)

    assert "stride0_1" not in fn.lower(tjit.from_numpy(x)[:, ::2]).text("schedule")
    assert "stride0_1" in fn.lower(tjit.from_numpy(x)[:, ::7]).text("schedule")
    for step in (2, 3, 7, 9):
        np.testing.assert_array_equal(fn(tjit.from_numpy(x)[:, ::step]).numpy(), x[:, ::step].sum(1))


def _many(module, x):
    """Several reductions of rows, and what is made of them."""
    spread = x - module.amax(x, 1)[:, None]
    return module.sum(x, 1), module.argmax(x, 1), module.cumsum(x, 1), spread, module.any(x > 1, 1)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64, np.uint8])
@pytest.mark.parametrize("length", [2, 3, 5, 8, 16, 17])
def test_short_rows_are_right(length, dtype, rng):
    x = (rng.standard_normal((3 * 67, length)) * 9).astype(dtype)

    found = tjit.compile(lambda x: _many(tjit, x))(tjit.from_numpy(x))

    for result, expected in zip(found, _many(np, x), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rows", [64, 65, 300])
def test_short_rows_of_16_bits_are_right(rows, rng):
    x = tjit.from_numpy(rng.standard_normal((rows, 13), np.float32)).to(tjit.bfloat16)

    result = tjit.compile(lambda x: tjit.softmax(x, 1))(x)

    rounding = 2**-8  # of 8 digits, to the nearest
    np.testing.assert_allclose(result.float().numpy(), _softmax(x.double().numpy(), 1), rtol=rounding * 1.001)


def test_short_rows_go_through_tiles():
    assert "vector p0 across r0" in _schedule(lambda x: tjit.softmax(x, 1), 5000, 10)
    assert "vector p0 across r0" in _schedule(lambda x: x.argmax(1), 5000, 10)
    assert "vector r0" in _schedule(lambda x: x.sum(1), 5000, 100)


def test_short_rows_written_in_place_are_right(rng):
    x = rng.standard_normal((500, 10), np.float32)
    given = tjit.from_numpy(x.copy())

    @tjit.compile
    def centre(x):
        x -= x.amax(1, keepdim=True)
        x.exp_()
        return x / x.sum(1, keepdim=True)

    result = centre(given)

    np.testing.assert_allclose(result.numpy(), _softmax(x.astype(np.float64), 1), rtol=1e-5)
    np.testing.assert_allclose(given.numpy(), np.exp(x - x.max(1, keepdims=True)), rtol=1e-5)


def test_short_rows_of_a_size_unknown_when_compiled_are_right(rng):
    fn = tjit.compile(lambda x: x.logsumexp(1))

    for rows in (70, 71, 200, 3):
        x = rng.standard_normal((rows, 11), np.float32)
        np.testing.assert_allclose(fn(tjit.from_numpy(x)).numpy(), _log_sum_exp(x.astype(np.float64), 1), rtol=1e-5)


@pytest.mark.parametrize(
    "shape", [(1, 5), (2, 8), (7, 17), (8, 33), (9, 47), (31, 100), (33, 130), (17, 260), (5, 3, 11)]
)
def test_columns_of_every_width_are_right(shape, rng):
    x = rng.standard_normal(shape, np.float32)

    fn = tjit.compile(lambda x: (x.sum(0), x.argmax(0), x.var(0, correction=0), tjit.softmax(x, 0)))
    found = fn(tjit.from_numpy(x))

    for result, expected in zip(found, (x.sum(0), x.argmax(0), x.var(0), _softmax(x, 0)), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-6)


def test_columns_of_a_size_unknown_when_compiled_are_right(rng):
    fn = tjit.compile(lambda x: (x.sum(0), x.argmin(0)))

    for shape in ((20, 30), (21, 33), (8, 150), (1, 1), (3, 400)):
        x = rng.standard_normal(shape, np.float32)
        total, place = fn(tjit.from_numpy(x))
        np.testing.assert_allclose(total.numpy(), x.sum(0), rtol=1e-5, atol=1e-5)
        np.testing.assert_array_equal(place.numpy(), x.argmin(0))


COLUMN_PROGRAMS = {
    "softmax": lambda x: tjit.softmax(x, 0),
    "centred, and the mean": lambda x: (x - x.mean(0), x.mean(0)),
    "standardized": lambda x: (x - x.mean(0)) / x.std(0),
    "log-sum-exp": lambda x: x.logsumexp(0),
    "largest, and where": lambda x: (x / x.amax(0), x.argmax(0)),
    "of three dims": lambda x: tjit.log_softmax(x.reshape(40, 10, -1), 0),
}


@pytest.mark.parametrize("tallest", [1, 1 << 12])
@pytest.mark.parametrize("name", COLUMN_PROGRAMS)
def test_tall_columns_are_reduced_and_then_stored_by_rows(name, tallest, rng, monkeypatch):
    monkeypatch.setattr(split, "_BEYOND_CACHES", 1)
    monkeypatch.setattr(split, "_TALL_COLUMN", 1)
    monkeypatch.setattr(split, "_TALLEST_COLUMN", tallest)
    fn, x = COLUMN_PROGRAMS[name], tjit.from_numpy(rng.standard_normal((400, 37), np.float32))

    found, expected = tjit.compile(fn)(x), fn(x)

    for result, wanted in zip(*(r if isinstance(r, tuple) else (r,) for r in (found, expected)), strict=True):
        np.testing.assert_allclose(result.numpy(), wanted.numpy(), rtol=2e-5, atol=1e-5)


def test_running_statistics_of_tall_columns_are_right(rng, monkeypatch):
    monkeypatch.setattr(split, "_BEYOND_CACHES", 1)
    x, mean = rng.standard_normal((400, 37), np.float32), np.ones(37, np.float32)
    running = tjit.from_numpy(mean.copy())

    @tjit.compile
    def normalize(x, running):
        before = x - running
        running.copy_(0.9 * running + 0.1 * x.mean(0))
        return before + (x - running), x - x.mean(0)

    result, centred = normalize(tjit.from_numpy(x), running)

    new = 0.9 * mean + 0.1 * x.mean(0)
    np.testing.assert_allclose(running.numpy(), new, rtol=1e-5)
    np.testing.assert_allclose(result.numpy(), 2 * x - mean - new, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(centred.numpy(), x - x.mean(0), rtol=1e-4, atol=1e-5)


def test_the_kernel_that_stores_tall_columns_goes_by_rows():
    text = _schedule(lambda x: x - x.mean(0), 2000, 2000)

    assert "parallel (r0: 2000, p0: 2000)" in text


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int16, np.bool_])
@pytest.mark.parametrize("length", [1, 5, 63, 64, 100, 200, 513, 70_001])
def test_first_extremes_of_narrow_integers_are_numpys(length, dtype, rng):
    x = rng.integers(0, 100, (3, length)).astype(dtype)
    x[:, rng.integers(0, length, (9,))] = True if dtype == np.bool_ else np.iinfo(dtype).max
    fn = tjit.compile(lambda x: (x.int() if dtype == np.bool_ else x).argmax(1))

    np.testing.assert_array_equal(fn(tjit.from_numpy(x)).numpy(), x.argmax(1))
    np.testing.assert_array_equal(fn(tjit.from_numpy(np.zeros_like(x))).numpy(), 0)
    if dtype != np.bool_:
        lowest = tjit.compile(lambda x: (x.argmin(), x.argmax(0), *x.max(1)))(tjit.from_numpy(x))
        for found, expected in zip(lowest, (x.argmin(), x.argmax(0), x.max(1), x.argmax(1)), strict=True):
            np.testing.assert_array_equal(found.numpy(), expected)


@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("length", [6, 40, 150])
def test_the_first_extreme_is_found_whatever_it_is(length, dim, rng):
    x = rng.integers(-2, 3, (70, length)).astype(np.float32)
    x[3], x[:, 2], x[5], x[:, 4] = -np.inf, -np.inf, np.inf, np.inf
    x[rng.random(x.shape) < 0.05] = np.nan
    x[7], x[:, 5] = np.nan, np.nan
    whole = np.nan_to_num(x.astype(np.float64), nan=0, posinf=2**31 - 1, neginf=-(2**31)).astype(np.int32)
    fn = tjit.compile(lambda x: (x.argmax(dim), x.argmin(dim), x.amax(dim)))

    for given in (x, x.astype(np.float64), whole):
        found = fn(tjit.from_numpy(given))

        for result, expected in zip(found, (given.argmax(dim), given.argmin(dim), given.max(dim)), strict=True):
            np.testing.assert_array_equal(result.numpy(), expected)


def test_lanes_run_along_weighted_columns(rng):
    x, w, v = (rng.standard_normal(shape, np.float32) for shape in ((900, 64), 900, 900))
    fn = tjit.compile(lambda x, w, v: (x * w[:, None] * v[:, None]).sum(0))
    arrays = tuple(map(tjit.from_numpy, (x, w, v)))

    kernel = fn.lower(*arrays).schedule().steps[0].kernel
    assert kernel.vector in kernel.parallel
    np.testing.assert_allclose(fn(*arrays).numpy(), (x * w[:, None] * v[:, None]).sum(0), rtol=1e-3, atol=1e-3)


def test_what_is_stored_across_the_lanes_goes_through_tiles(rng):
    x = rng.standard_normal((170, 190), np.float32)

    for dim in range(2):
        fn = tjit.compile(lambda x: tjit.softmax(x, dim))  # noqa: B023
        assert " across " in fn.lower(tjit.from_numpy(x).T).text("schedule")
        result = fn(tjit.from_numpy(x).T)
        np.testing.assert_allclose(result.numpy(), _softmax(x.T.astype(np.float64), dim), rtol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32, np.uint8])
@pytest.mark.parametrize("shape", [(40, 513), (33, 2049), (35, 700, 3), (300, 1000)])
def test_wide_columns_are_right(shape, dtype, rng):
    x = (rng.standard_normal(shape) * 9).astype(dtype)
    w = np.arange(shape[0]).astype(dtype).reshape(-1, *[1] * (len(shape) - 1))
    fn = tjit.compile(lambda x, w: (x.sum(0), x.amax(0), x.amin(0), (x * w).sum(0)))

    found = fn(tjit.from_numpy(x), tjit.from_numpy(w))

    for result, expected in zip(found, (x.sum(0), x.max(0), x.min(0), (x * w).sum(0)), strict=True):
        np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-2)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(32, 512), (40, 513), (35, 700, 3), (257, 331), (4001, 130)])
def test_any_and_all_down_columns_are_right(shape, dtype, rng):
    x = (rng.random(shape) < 2 / shape[0]).astype(dtype)
    fn = tjit.compile(lambda x: (x.any(0), (x == 0).all(0), ((x != 0) & (x == x)).any(0)))

    some, none, same = fn(tjit.from_numpy(x))

    np.testing.assert_array_equal(some.numpy(), x.any(0))
    np.testing.assert_array_equal(none.numpy(), ~x.any(0))
    np.testing.assert_array_equal(same.numpy(), x.any(0))


def test_wide_columns_of_two_dims_and_of_16_bits_are_right(rng):
    x = rng.standard_normal((7, 9, 601), np.float32)

    total, rough = tjit.compile(lambda x: (x.sum((0, 1)), x.to(tjit.bfloat16).sum((0, 1))))(tjit.from_numpy(x))

    np.testing.assert_allclose(total.numpy(), x.sum((0, 1)), rtol=1e-5, atol=1e-5)
    rounded = tjit.from_numpy(x).to(tjit.bfloat16).double().numpy().sum((0, 1))
    np.testing.assert_allclose(rough.double().numpy(), rounded, rtol=2**-8 * 1.001, atol=1e-5)


def test_bits_do_not_depend_on_threads(rng):
    x = tjit.from_numpy(rng.standard_normal((1000, 1500), np.float32))
    fn = tjit.compile(lambda x: (x.sum(0), x.sum(1), x.var(0), tjit.softmax(x, 0), tjit.softmax(x.T, 1), x.sum()))

    assert_same_bits(fn, x)
    assert_same_bits(tjit.compile(lambda x: (tjit.softmax(x, 1), x.argmax(1))), x.reshape(-1, 10))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_every_target_gives_the_same(name, rng, compile_for):
    compile_for(name)
    short, wide = rng.standard_normal((133, 11), np.float32), rng.standard_normal((40, 600))
    fn = tjit.compile(
        lambda x: (x.sum(0), x.sum(1), x.argmax(1), tjit.softmax(x, 1), (x > 2).any(0), *tjit.sort(x[:, :11], 1))
    )

    for x in (short, wide):
        found = fn(tjit.from_numpy(x))

        places = np.argsort(x[:, :11], 1, kind="stable")
        sorts = np.take_along_axis(x, places, 1), places
        wanted = (x.sum(0), x.sum(1), x.argmax(1), _softmax(x, 1), (x > 2).any(0), *sorts)
        for result, expected in zip(found, wanted, strict=True):
            np.testing.assert_allclose(result.numpy(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("columns", range(1, 9))
@pytest.mark.parametrize("known", [True, False], ids=["known", "symbolic"])
def test_rows_of_few_elements_that_are_kept_for_later_loops(rng, columns, known):
    """A lane for each row: what a loop keeps of its row for the next one is as many rows."""
    rowwise = [
        lambda x: F.softmax(x, -1),
        lambda x: F.log_softmax(x.exp(), -1),
        lambda x: F.layer_norm(x.sin(), (x.shape[-1],)),
        lambda x: x.exp() / x.exp().sum(-1, keepdim=True),
        lambda x: F.softmax(x[:, :1].expand(-1, 4) * x[:, -1:], -1),
    ]
    for function in rowwise:
        compiled = tjit.compile(function, dynamic=False if known else None)  # the second size is a symbol
        for rows in (300,) if known else (1, 6, 40, 300):
            x = rng.standard_normal((rows, columns))
            np.testing.assert_allclose(compiled(x), function(tjit.tensor(x)).numpy(), rtol=1e-12, atol=1e-12)


def test_a_row_is_kept_for_loops_over_the_same_points_alone(rng):
    def function(v):
        v = v.detach().clone().requires_grad_()
        x = -v
        x[:2] *= 2.0
        x[0] = 1.5
        y = x / (x.abs().sum() + 1.0)
        return tjit.autograd.grad((y * y).sum(), v)[0]

    v = tjit.tensor(rng.standard_normal(3))

    np.testing.assert_allclose(tjit.compile(function)(v).numpy(), function(v).numpy(), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("length", [1, 7, 63, 64, 65, 300, 1000])
def test_counts_are_numpys(length, dtype, rng):
    x, y = (rng.integers(0, 2, (9, length)).astype(dtype) for _ in range(2))

    def counts(x, y, sum):
        same = x == y
        return same.sum(), same.sum(1), same.sum(0), sum(same, 1), (same & (x > 0)).sum(1) * 2 - (x < y).sum(1)

    found = tjit.compile(lambda x, y: counts(x, y, lambda a, d: a.sum(d, dtype=tjit.int32)))(
        tjit.from_numpy(x), tjit.from_numpy(y)
    )

    for got, expected in zip(found, counts(x, y, lambda a, d: a.sum(d, dtype=np.int32)), strict=True):
        assert got.numpy().dtype == expected.dtype
        np.testing.assert_array_equal(got.numpy(), expected)


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_counts_are_right_on_every_target(name, rng, compile_for):
    compile_for(name)
    x = rng.integers(0, 3, (11, 203)).astype(np.uint8)

    rows, columns, chosen = tjit.compile(lambda x: ((x > 1).sum(1), (x > 1).sum(0), (x * (x > 0).sum(1)[:, None])))(
        tjit.from_numpy(x)
    )

    np.testing.assert_array_equal(rows.numpy(), (x > 1).sum(1))
    np.testing.assert_array_equal(columns.numpy(), (x > 1).sum(0))
    np.testing.assert_array_equal(chosen.numpy(), x * (x > 0).sum(1)[:, None])


def test_a_count_of_lanes_is_one_instruction():
    text = tjit.compile(lambda x: (x != 0).sum(1)).lower(tjit.zeros(40, 1000).byte()).text("asm")

    assert "popcnt" in text or not host_target().masks


@pytest.mark.parametrize("number", [0, 1, 2, -1, 0.0, 1.0, 0.5, True, False])
def test_bools_are_compared_with_numbers(number, rng):
    x = rng.random((5, 70)) < 0.5

    def compared(x):
        return (x == number).sum(1), (x != number).sum(0), number == x, number != x

    for fn in (compared, tjit.compile(compared)):
        for got, expected in zip(fn(tjit.from_numpy(x)), compared(x), strict=True):
            np.testing.assert_array_equal(got.numpy(), expected)


def test_a_bool_that_is_not_0_is_itself():
    text = str(tjit.compile(lambda x: (x != 0).sum()).lower(tjit.ones(40, 100).bool()).schedule())

    assert "ne(" not in text
