"""Medians, quantiles, bins and small linear algebra agree with PyTorch, eager and compiled."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_close

import tjit
from tjit.errors import CaptureError

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.filterwarnings("ignore:torch.chain_matmul is deprecated")

WAYS = ("lower", "higher", "midpoint", "nearest")

# Functions of a module, tjit or torch, and its tensors.
CASES = {
    "median": lambda m, t: m.median(t["x"]),
    "median of rows": lambda m, t: m.median(t["x"], 1),
    "median of nan rows": lambda m, t: (m.median(t["nans"], 1, True).values, m.nanmedian(t["nans"], 1).values),
    "nanmedian": lambda m, t: (m.nanmedian(t["nans"]), m.median(t["nans"])),
    "kthvalue": lambda m, t: (*m.kthvalue(t["x"], 3, 0), *m.kthvalue(t["x"], 17, 1, True)),
    "msort": lambda m, t: m.msort(t["x"]),
    "argsort": lambda m, t: m.argsort(t["small"], dim=1, descending=True, stable=True),
    "sort": lambda m, t: (*m.sort(t["nans"], 0, descending=True),),
    "topk": lambda m, t: (*m.topk(t["x"], 4), *m.topk(t["x"], 2, 0, largest=False)),
    "mode": lambda m, t: m.mode(t["small"], 1).values,
    "quantile": lambda m, t: (m.quantile(t["x"], 0.3), m.quantile(t["x"], t["q"], 1), m.quantile(t["nans"], 0.7, 1)),
    "quantile keepdim": lambda m, t: (m.quantile(t["x"], t["q"], 0, True), m.quantile(t["x"], t["q"], None, True)),
    "quantile ways": lambda m, t: tuple(m.quantile(t["x"], 0.37, 1, interpolation=way) for way in WAYS),
    "nanquantile": lambda m, t: (m.nanquantile(t["nans"], t["q"], 1), m.nanquantile(t["nans"], 0.5)),
    "searchsorted": lambda m, t: (
        m.searchsorted(t["edges"], t["x"]),
        m.searchsorted(t["edges"], t["edges"], right=True),
    ),
    "searchsorted rows": lambda m, t: m.searchsorted(m.sort(t["x"], 1)[0], t["nans"], side="right", out_int32=True),
    "bucketize": lambda m, t: m.bucketize(t["nans"], t["edges"]),
    "histc": lambda m, t: (m.histc(t["x"], 7), m.histc(t["x"], 5, -1, 1)),
    "diff": lambda m, t: (m.diff(t["x"]), m.diff(t["x"], 2, 0), m.diff(t["small"] > 3, dim=0)),
    "diff with ends": lambda m, t: m.diff(t["x"], prepend=t["x"][:, :2], append=t["x"][:, :1]),
    "trapezoid": lambda m, t: (
        m.trapezoid(t["x"]),
        m.trapezoid(t["x"], dx=0.3, dim=0),
        m.trapezoid(t["x"], t["edges"]),
    ),
    "cumulative_trapezoid": lambda m, t: m.cumulative_trapezoid(t["x"], t["edges"]),
    "cross": lambda m, t: m.cross(t["x"][:, :3], t["x"][:, 3:6], dim=1),
    "distances": lambda m, t: (
        m.dist(t["x"], t["x"] + 1, 3),
        m.cdist(t["x"], t["x"] * 2, 2),
        m.cdist(t["x"], t["x"], 1),
    ),
    "renorm": lambda m, t: m.renorm(t["x"], 2, 0, 3.5),
    "addbmm": lambda m, t: m.addbmm(t["square"], t["cube"], t["cube"].transpose(1, 2), beta=2, alpha=0.5),
    "chain_matmul": lambda m, t: m.chain_matmul(t["x"], t["x"].T, t["x"]),
    "trace": lambda m, t: m.trace(t["x"]),
    "kron": lambda m, t: (m.kron(t["square"], t["x"][:2, :3]), m.kron(t["edges"][:3], t["square"])),
    "matrix_power": lambda m, t: (m.matrix_power(t["square"], 5), m.matrix_power(t["square"], 0)),
    "block_diag": lambda m, t: m.block_diag(t["square"], t["edges"][:3], t["x"]),
    "cartesian_prod": lambda m, t: m.cartesian_prod(t["edges"], t["edges"][:3]),
    "cov": lambda m, t: (m.cov(t["x"]), m.cov(t["edges"], correction=0), m.corrcoef(t["x"])),
    "nan_to_num": lambda m, t: (m.nan_to_num(t["nans"]), m.nan_to_num(1 / t["small"], 1.0, 2.0, 3.0)),
    "cumulative": lambda m, t: (m.cumsum(t["small"], 1), m.cumprod(t["x"], 0), *m.cummax(t["nans"], 1)),
}
EAGER = {
    "unique": lambda m, t: (*m.unique(t["small"], return_inverse=True, return_counts=True),),
    "unique rows": lambda m, t: (*m.unique(t["small"] > 2, return_counts=True, dim=1),),
    "unique_consecutive": lambda m, t: (*m.unique_consecutive(t["small"].reshape(-1), True, True),),
    "bincount": lambda m, t: (m.bincount(t["small"][0]), m.bincount(t["small"][1], t["edges"], minlength=30)),
}


def _arrays(rng) -> dict[str, np.ndarray]:
    x = rng.standard_normal((5, 17)).astype(np.float32)
    nans = x.copy()
    nans[1, 3] = nans[1, 9] = nans[4, 0] = np.nan
    return {
        "x": x,
        "nans": nans,
        "small": rng.integers(0, 6, (5, 17)),
        "edges": np.sort(rng.standard_normal(17).astype(np.float32)),
        "q": np.array([0.0, 0.25, 0.5, 0.93, 1.0], np.float32),
        "cube": rng.standard_normal((4, 3, 6)).astype(np.float32),
        "square": rng.standard_normal((3, 3)).astype(np.float32),
    }


def _all(found) -> tuple:
    return tuple(found) if isinstance(found, tuple) else (found,)


def _expected(fn, arrays) -> tuple:
    return tuple(np.asarray(y) for y in _all(fn(torch, {k: torch.tensor(v) for k, v in arrays.items()})))


def _check(found, expected) -> None:
    for y, wanted in zip(_all(found), expected, strict=True):
        assert_close(y.array, wanted, factor=4)


@pytest.mark.parametrize("name", [*CASES, *EAGER])
def test_eager_results_are_those_of_pytorch(name, rng):
    arrays = _arrays(rng)
    fn = {**CASES, **EAGER}[name]

    found = fn(tjit, {k: tjit.tensor(v) for k, v in arrays.items()})

    _check(found, _expected(fn, arrays))


@pytest.mark.parametrize("name", CASES)
def test_compiled_results_are_those_of_pytorch(name, rng):
    arrays = _arrays(rng)
    fn = CASES[name]

    found = tjit.compile(lambda t: fn(tjit, t))({k: tjit.tensor(v) for k, v in arrays.items()})

    _check(found, _expected(fn, arrays))


@pytest.mark.parametrize("name", EAGER)
def test_what_depends_on_data_for_its_shape_is_not_captured(name, rng):
    tensors = {k: tjit.tensor(v) for k, v in _arrays(rng).items()}

    with pytest.raises(CaptureError, match="depends on data"):
        tjit.compile(lambda t: EAGER[name](tjit, t))(tensors)


SMOOTH = {
    "median": lambda m, x: m.median(x, 1).values * 2,
    "nanmedian": lambda m, x: m.nanmedian(x),
    "kthvalue": lambda m, x: m.kthvalue(x, 2, 0).values,
    "topk": lambda m, x: m.topk(x, 3).values ** 2,
    "sort": lambda m, x: m.sort(x, 0, True)[0] * m.sort(x, 1)[0],
    "quantile": lambda m, x: m.quantile(x, 0.3, 1) ** 2,
    "mode": lambda m, x: m.mode(x, 1).values,
    "cross": lambda m, x: m.cross(x[:, :3], x[:, 1:4], dim=1),
    "cdist": lambda m, x: m.cdist(x, x[:3] * 2 + 1),
    "trapezoid": lambda m, x: m.trapezoid(x, x, dim=0),
    "renorm": lambda m, x: m.renorm(x, 2, 0, 1.5),
    "cov": lambda m, x: m.cov(x),
    "kron": lambda m, x: m.kron(x[:2], x[1:]),
    "matrix_power": lambda m, x: m.matrix_power(x[:4, :4], 3),
    "cummax": lambda m, x: m.cummax(x, 1).values ** 2,
    "cumprod": lambda m, x: m.cumprod(x, 1),
    "logcumsumexp": lambda m, x: m.logcumsumexp(x, 0),
}


@pytest.mark.parametrize("name", SMOOTH)
def test_gradients_are_those_of_pytorch(name, rng):
    x, fn = rng.standard_normal((5, 6)), SMOOTH[name]
    theirs = torch.tensor(x, requires_grad=True)
    fn(torch, theirs).sum().backward()
    ours = tjit.tensor(x, requires_grad=True)

    found = tjit.compile(lambda x: tjit.autograd.grad(fn(tjit, x).sum(), x)[0])(ours)
    fn(tjit, ours).sum().backward()

    for g in (found, ours.grad):
        assert_close(g.array, theirs.grad.numpy(), factor=10)
