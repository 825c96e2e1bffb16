"""Reductions whatever the layout: which axis runs along the lanes, and the results against NumPy in float64."""

from __future__ import annotations

import numpy as np
import pytest

import tjit


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
